// Turns one flat step into a list of layer calls and one body per kind of layer.
//
// A segment is written down in an order that depends on its structure alone (depth first from its
// results), as a list of numbers: op, attributes, types, which earlier values it reads, relative
// names of parameters. Segments with equal lists share a body. Work is linear in the step.
#include "FormLayers.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Graph/GraphInputs.h"

#include "galvatron/Transforms/Passes.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace galvatron {
#define GEN_PASS_DEF_FORMLAYERSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::layers;

namespace {

/// A segment in canonical order, with all that it reads and yields.
struct Layer {
  Segment segment;
  SmallVector<Operation *> ops;
  SmallVector<Value> inputs, outputs;
  SmallVector<ParameterOp> parameters;
  SmallVector<std::string> relativeNames;
  /// Of inputs, then parameters; and of outputs: those of float type without a gradient.
  SmallVector<bool> frozenArguments, frozenOutputs;
  /// Equal for layers that can share a body.
  SmallVector<uint64_t> signature;
};

/// Brings one segment into canonical order.
class Canonicalizer {
public:
  Canonicalizer(Layer &layer, const FreeOps &freeOps, const GradientFlow &flow)
      : layer(layer), freeOps(freeOps), flow(flow) {
    own.insert(layer.segment.ops.begin(), layer.segment.ops.end());
  }

  void run() {
    for (Operation *op : layer.segment.ops)
      for (Value result : op->getResults())
        if (llvm::any_of(result.getUsers(), [&](Operation *user) { return isElsewhere(user); }))
          layer.outputs.push_back(result);
    for (Value output : layer.outputs)
      visit(output.getDefiningOp());
    for (ParameterOp parameter : layer.parameters)
      layer.relativeNames.push_back(relativeName(parameter));
    findFrozen();
    numberDropouts();
    writeSignature();
  }

private:
  /// An activation of another segment, or the step's return.
  bool isElsewhere(Operation *user) const { return !own.contains(user) && !freeOps.isFree(user); }

  /// Operands first, without recursion: bodies without repeated blocks can be deep.
  void visit(Operation *root) {
    SmallVector<std::pair<Operation *, unsigned>> stack{{root, 0}};
    if (!seen.insert(root).second)
      return;
    while (!stack.empty()) {
      auto &[op, next] = stack.back();
      if (next == op->getNumOperands()) {
        layer.ops.push_back(op);
        stack.pop_back();
        continue;
      }
      Value operand = op->getOperand(next++);
      Operation *producer = operand.getDefiningOp();
      if (auto parameter = dyn_cast_or_null<ParameterOp>(producer)) {
        if (seen.insert(producer).second)
          layer.parameters.push_back(parameter);
      } else if (producer && !isa<TotalOp>(producer) && (own.contains(producer) || freeOps.isFree(producer))) {
        if (seen.insert(producer).second)
          stack.push_back({producer, 0});
      } else if (seenInputs.insert(operand).second) {
        layer.inputs.push_back(operand);
      }
    }
  }

  /// The name below the segment's module, by whichever of its names lies there; else the whole name.
  std::string relativeName(ParameterOp parameter) const {
    std::string prefix = layer.segment.module + ".";
    for (Attribute name : parameter.getNames())
      if (StringRef text = cast<StringAttr>(name); text.starts_with(prefix))
        return text.drop_front(prefix.size()).str();
    return cast<StringAttr>(parameter.getNames()[0]).str();
  }

  /// A parameter that another layer trains may be read here for its value alone.
  void findFrozen() {
    auto isFrozen = [&](Value value) { return isFloatTensor(value.getType()) && !flow.hasGradient(value); };
    auto trains = [&](Operation *user) { return seen.contains(user) && flow.passes(user); };
    layer.frozenArguments = llvm::map_to_vector(layer.inputs, isFrozen);
    for (ParameterOp parameter : layer.parameters)
      layer.frozenArguments.push_back(parameter.getFrozen() || llvm::none_of(parameter->getUsers(), trains));
    layer.frozenOutputs = llvm::map_to_vector(layer.outputs, isFrozen);
  }

  /// Random bits are keyed by layer and op, so ops count within their layer.
  void numberDropouts() {
    int64_t next = 0;
    for (Operation *op : layer.ops) {
      if (auto dropout = dyn_cast<DropoutOp>(op))
        dropout.setId(next++);
      else if (auto attention = dyn_cast<AttentionOp>(op); attention && !attention.getDropout().isZero())
        attention.setId(next++);
    }
  }

  void writeSignature() {
    llvm::DenseMap<Value, uint64_t> numbers;
    auto define = [&](Value value) {
      numbers.insert({value, numbers.size()});
      add(value.getType().getAsOpaquePointer());
    };
    for (Value input : layer.inputs)
      define(input);
    for (auto [parameter, name] : llvm::zip_equal(layer.parameters, layer.relativeNames)) {
      define(parameter.getResult());
      add(StringAttr::get(parameter.getContext(), name).getAsOpaquePointer());
      add(parameter.getInitAttr() ? parameter.getInitAttr().getAsOpaquePointer() : nullptr);
    }
    for (Operation *op : layer.ops) {
      add(op->getName().getAsOpaquePointer());
      add(op->getAttrDictionary().getAsOpaquePointer());
      for (Value operand : op->getOperands())
        layer.signature.push_back(numbers.lookup(operand));
      for (Value result : op->getResults())
        define(result);
    }
    for (Value output : layer.outputs)
      layer.signature.push_back(numbers.lookup(output));
    llvm::append_range(layer.signature, layer.frozenArguments);
    llvm::append_range(layer.signature, layer.frozenOutputs);
  }

  void add(const void *pointer) { layer.signature.push_back(reinterpret_cast<uintptr_t>(pointer)); }

  Layer &layer;
  const FreeOps &freeOps;
  const GradientFlow &flow;
  llvm::DenseSet<Operation *> own, seen;
  llvm::DenseSet<Value> seenInputs;
};

} // namespace

/// A table of words is a parameter in whatever shape; rows of activations are picked, too (a flip).
static bool isCutFromParameter(Value value) {
  while (isa_and_nonnull<ReshapeOp, TransposeOp, SliceOp>(value.getDefiningOp()))
    value = value.getDefiningOp()->getOperand(0);
  return value.getDefiningOp<ParameterOp>() != nullptr;
}

/// The name of a layer's type, from what it does.
static std::string roleOf(const Layer &layer) {
  bool readsWords = false, hasAttention = false, isCausal = false;
  for (Operation *op : layer.ops) {
    if (auto embedding = dyn_cast<EmbeddingOp>(op))
      readsWords |= isCutFromParameter(embedding.getTable());
    auto attention = dyn_cast<AttentionOp>(op);
    hasAttention |= attention || isa<SoftmaxOp>(op);
    isCausal |= attention && attention.getCausal();
    if (isa<CrossEntropyOp>(op))
      return layer.segment.isPrologue ? "model" : "head";
  }
  if (layer.segment.isEpilogue)
    return "head";
  if (isCausal)
    return "decoder";
  return hasAttention ? "encoder" : readsWords ? "embedding" : "layer";
}

/// A path for segments outside of lists: where the words are looked up, else where the last product is.
static std::string pathOfProducts(ArrayRef<Operation *> ops) {
  auto isParameter = [](Value value) { return value.getDefiningOp<ParameterOp>() != nullptr; };
  StringRef path;
  for (Operation *op : ops) {
    StringRef candidate = layers::pathOf(op);
    if (candidate.empty() || llvm::none_of(op->getOperands(), isParameter))
      continue;
    if (path.empty() || isa<EinsumOp>(op))
      path = candidate;
    if (isa<EmbeddingOp>(op))
      break;
  }
  return path.str();
}

namespace {

struct FormLayersPass : galvatron::impl::FormLayersPassBase<FormLayersPass> {
  using Base::Base;

  void runOnOperation() override {
    FailureOr<func::FuncOp> found = expectStep(getOperation());
    if (failed(found))
      return signalPassFailure();
    func::FuncOp step = *found;
    FreeOps freeOps(step);
    std::vector<Segment> segments = cutIntoSegments(step, freeOps);
    if (spreadLoss(step, freeOps, segments)) {
      freeOps = FreeOps(step);
      segments = cutIntoSegments(step, freeOps);
    }
    std::vector<Layer> layers;
    for (Segment &segment : segments)
      layers.push_back(Layer{std::move(segment), {}, {}, {}, {}, {}, {}, {}, {}});
    namePaths(layers);
    GradientFlow flow(step);
    for (Layer &layer : layers)
      Canonicalizer(layer, freeOps, flow).run();
    if (failed(verifyTrained(step, flow)))
      return signalPassFailure();
    SmallVector<LayerOp> types = formTypes(step, layers);
    setVocabulary(step);
    describeInputs(step);
    setTied(step);
    setCarried(step, layers);
    replaceStep(step, layers, types);
    numCalls += layers.size();
  }

  /// Gives segments outside of lists a path, and each path once.
  void namePaths(MutableArrayRef<Layer> layers) {
    llvm::StringMap<unsigned> uses;
    for (Layer &layer : layers) {
      std::string &path = layer.segment.path;
      if (path.empty())
        path = pathOfProducts(layer.segment.ops);
      if (path.empty())
        path = layer.segment.isPrologue ? "embedding" : layer.segment.isEpilogue ? "head" : "layer";
      layer.segment.module = path;
      if (unsigned count = uses[path]++)
        path += ":" + std::to_string(count);
    }
  }

  LogicalResult verifyTrained(func::FuncOp step, const GradientFlow &flow) {
    auto parameters = step.getOps<ParameterOp>();
    ValueRange results = step.getBody().front().getTerminator()->getOperands();
    if (parameters.empty() || llvm::any_of(results, [&](Value result) { return flow.hasGradient(result); }))
      return success();
    return step.emitOpError("expects the loss to depend on a parameter that is trained, but ")
           << llvm::count_if(parameters, [](ParameterOp parameter) { return parameter.getFrozen(); }) << " of "
           << llvm::range_size(parameters)
           << " are frozen and it depends on no other; let at least one have requires_grad";
  }

  /// One `graph.layer` per signature; returns each layer's.
  SmallVector<LayerOp> formTypes(func::FuncOp step, MutableArrayRef<Layer> layers) {
    // A hash and the layers that have it.
    llvm::DenseMap<uint64_t, SmallVector<size_t, 1>> buckets;
    SmallVector<size_t> leaders;
    llvm::MapVector<size_t, std::string> roles;
    llvm::StringMap<unsigned> numWithRole;
    for (auto [i, layer] : llvm::enumerate(layers)) {
      SmallVector<size_t, 1> &bucket = buckets[uint64_t(llvm::hash_combine_range(layer.signature))];
      auto equal = llvm::find_if(bucket, [&](size_t other) { return layers[other].signature == layer.signature; });
      if (equal != bucket.end()) {
        leaders.push_back(*equal);
        continue;
      }
      bucket.push_back(i);
      leaders.push_back(i);
      roles[i] = roleOf(layer);
      ++numWithRole[roles[i]];
    }
    llvm::DenseMap<size_t, LayerOp> types;
    llvm::StringMap<unsigned> next;
    OpBuilder builder(step);
    for (auto &[leader, role] : roles) {
      std::string name = numWithRole[role] == 1 ? role : role + std::to_string(next[role]++);
      types[leader] = buildType(builder, layers[leader], name);
      ++numTypes;
    }
    return llvm::map_to_vector(leaders, [&](size_t leader) { return types[leader]; });
  }

  LayerOp buildType(OpBuilder &builder, const Layer &layer, StringRef name) {
    OpBuilder::InsertionGuard guard(builder);
    SmallVector<Type> inputs, outputs;
    SmallVector<Attribute> attributes(layer.inputs.size(), builder.getDictionaryAttr({}));
    SmallVector<Location> locations;
    IRMapping mapping;
    auto frozen = builder.getNamedAttr(kFrozenAttr, builder.getUnitAttr());
    for (auto [index, input] : llvm::enumerate(layer.inputs)) {
      inputs.push_back(input.getType()), locations.push_back(input.getLoc());
      if (layer.frozenArguments[index])
        attributes[index] = builder.getDictionaryAttr(frozen);
    }
    for (auto [parameter, relativeName] : llvm::zip_equal(layer.parameters, layer.relativeNames)) {
      ParameterOp op = parameter;
      inputs.push_back(op.getType()), locations.push_back(op.getLoc());
      NamedAttrList list;
      list.append(kParameterAttr, builder.getStringAttr(relativeName));
      if (op.getInitAttr())
        list.append(kInitAttr, op.getInitAttr());
      if (layer.frozenArguments[attributes.size()])
        list.append(frozen);
      attributes.push_back(list.getDictionary(builder.getContext()));
    }
    SmallVector<Attribute> outputAttributes;
    for (auto [output, isFrozen] : llvm::zip_equal(layer.outputs, layer.frozenOutputs)) {
      outputs.push_back(output.getType());
      outputAttributes.push_back(isFrozen ? builder.getDictionaryAttr(frozen) : builder.getDictionaryAttr({}));
    }
    Location loc = NameLoc::get(builder.getStringAttr(layer.segment.path));
    auto type = LayerOp::create(
        builder, loc, name, builder.getFunctionType(inputs, outputs), StringAttr(), builder.getArrayAttr(attributes),
        llvm::is_contained(layer.frozenOutputs, true) ? builder.getArrayAttr(outputAttributes) : ArrayAttr());
    Block *body = builder.createBlock(&type.getBody(), {}, inputs, locations);
    auto arguments = body->getArguments();
    for (auto [input, argument] : llvm::zip(layer.inputs, arguments))
      mapping.map(input, argument);
    for (auto [parameter, argument] : llvm::zip_equal(layer.parameters, arguments.drop_front(layer.inputs.size()))) {
      ParameterOp op = parameter;
      mapping.map(op.getResult(), argument);
    }
    for (Operation *op : layer.ops)
      builder.clone(*op, mapping);
    ReturnOp::create(builder, loc,
                     llvm::map_to_vector(layer.outputs, [&](Value output) { return mapping.lookup(output); }));
    return type;
  }

  /// The words that the step's first argument may hold.
  void setVocabulary(func::FuncOp step) {
    llvm::DenseSet<Value> fromIds;
    if (step.getNumArguments() == 0)
      return;
    fromIds.insert(step.getArgument(0));
    for (Operation &op : step.getBody().front()) {
      auto embedding = dyn_cast<EmbeddingOp>(op);
      if (embedding && fromIds.contains(embedding.getIds())) {
        int64_t rows = cast<RankedTensorType>(embedding.getTable().getType()).getDimSize(0);
        getOperation()->setAttr(kVocabularyAttr, Builder(&getContext()).getI64IntegerAttr(rows));
        return;
      }
      if (isa<ReshapeOp, TransposeOp, SliceOp>(op) && fromIds.contains(op.getOperand(0)))
        fromIds.insert(op.getResult(0));
    }
  }

  /// What data of an input index, however they are laid out before: rows of the smallest table, classes of a loss.
  DictionaryAttr describeInput(DictionaryAttr known, BlockArgument argument) {
    NamedAttrList described(known);
    Builder builder(&getContext());
    described.set(kInputTypeKey, TypeAttr::get(argument.getType()));
    int64_t below = 0;
    auto narrow = [&](int64_t count) { below = below ? std::min(below, count) : count; };
    llvm::SetVector<Value> same;
    if (cast<RankedTensorType>(argument.getType()).getElementType().isInteger())
      same.insert(argument);
    for (unsigned i = 0; i < same.size(); ++i)
      for (Operation *user : same[i].getUsers()) {
        if (auto embedding = dyn_cast<EmbeddingOp>(user); embedding && embedding.getIds() == same[i])
          narrow(cast<RankedTensorType>(embedding.getTable().getType()).getDimSize(0));
        else if (auto loss = dyn_cast<CrossEntropyOp>(user); loss && loss.getLabels() == same[i]) {
          narrow(cast<RankedTensorType>(loss.getLogits().getType()).getShape().back());
          if (int64_t(loss.getIgnoreIndex()) != CrossEntropyOp::kIgnoresNothing)
            described.set(kInputIgnoredKey, builder.getI64IntegerAttr(loss.getIgnoreIndex()));
        } else if (isa<ReshapeOp, TransposeOp, SliceOp, ShiftOp, BroadcastOp>(user))
          same.insert(user->getResult(0));
      }
    if (below)
      described.set(kInputBelowKey, builder.getI64IntegerAttr(below));
    return described.getDictionary(&getContext());
  }

  void describeInputs(func::FuncOp step) {
    auto inputs = getOperation()->getAttrOfType<ArrayAttr>(kInputsAttr);
    if (!inputs)
      return;
    SmallVector<Attribute> described;
    for (auto [input, argument] : llvm::zip(inputs.getAsRange<DictionaryAttr>(), step.getArguments()))
      described.push_back(describeInput(input, argument));
    getOperation()->setAttr(kInputsAttr, Builder(&getContext()).getArrayAttr(described));
  }

  /// Calls name a parameter by its first name; files may have it under the others.
  void setTied(func::FuncOp step) {
    NamedAttrList tied;
    for (auto parameter : step.getOps<ParameterOp>())
      for (Attribute name : llvm::drop_begin(parameter.getNames()))
        tied.set(cast<StringAttr>(name), parameter.getNames()[0]);
    if (!tied.empty())
      getOperation()->setAttr(kTiedAttr, tied.getDictionary(&getContext()));
  }

  /// Parameters that no layer reads: checkpoints hold them all the same.
  void setCarried(func::FuncOp step, ArrayRef<Layer> layers) {
    llvm::DenseSet<Operation *> read;
    for (const Layer &layer : layers)
      read.insert(layer.parameters.begin(), layer.parameters.end());
    SmallVector<Attribute> carried;
    if (auto known = getOperation()->getAttrOfType<ArrayAttr>(kCarriedAttr))
      llvm::append_range(carried, known);
    for (auto parameter : step.getOps<ParameterOp>()) {
      if (read.contains(parameter))
        continue;
      Builder builder(&getContext());
      NamedAttrList entry;
      entry.append("name", parameter.getNames()[0]);
      entry.append("dtype", builder.getStringAttr("F32"));
      entry.append("shape", builder.getDenseI64ArrayAttr(cast<RankedTensorType>(parameter.getType()).getShape()));
      if (parameter.getInitAttr())
        entry.append("init", parameter.getInitAttr());
      carried.push_back(entry.getDictionary(&getContext()));
    }
    if (!carried.empty())
      getOperation()->setAttr(kCarriedAttr, ArrayAttr::get(&getContext(), carried));
    numCarried += carried.size();
  }

  void replaceStep(func::FuncOp step, ArrayRef<Layer> layers, ArrayRef<LayerOp> types) {
    Block &block = step.getBody().front();
    OpBuilder builder(block.getTerminator());
    IRMapping mapping;
    for (auto [layer, type] : llvm::zip_equal(layers, types)) {
      SmallVector<Value> inputs;
      SmallVector<Attribute> parameters;
      for (Value input : layer.inputs)
        inputs.push_back(mapping.lookupOrDefault(input));
      for (ParameterOp parameter : layer.parameters)
        parameters.push_back(parameter.getNames()[0]);
      LayerOp callee = type;
      auto call =
          CallOp::create(builder, NameLoc::get(builder.getStringAttr(layer.segment.path)), callee.getResultTypes(),
                         callee.getSymName(), inputs, builder.getArrayAttr(parameters), layer.segment.path);
      mapping.map(layer.outputs, call.getOutputs());
    }
    Operation *terminator = block.getTerminator();
    for (OpOperand &operand : terminator->getOpOperands())
      operand.set(mapping.lookupOrDefault(operand.get()));
    step.setFunctionType(builder.getFunctionType(step.getArgumentTypes(), terminator->getOperandTypes()));
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (!isa<CallOp, TotalOp>(op) && &op != terminator)
        op.erase();
  }
};

} // namespace
