// The TorchScript door of the importer.
#include "Reader.h"

using namespace galvatron::importer;
namespace jit = torch::jit;

/// What a program may run. A traced module of 100 layers runs some 10,000 nodes, in calls of ten levels.
static constexpr int64_t kMostNodes = 1 << 24, kMostIterations = 100000, kMostLevels = 200;

/// PyTorch's own code, and what of the galvatron package stands between it and a traced forward.
static bool isLibrary(llvm::StringRef file) {
  return file.contains("/torch/") || file.ends_with("/galvatron/watching.py") ||
         file.ends_with("/galvatron/tracing.py") || file.ends_with("/galvatron/functions.py");
}

/// A traced node holds its Python stack, innermost first, a line `file(number): function` each. The
/// first frame outside libraries is the line that the module's author wrote.
static bool readStack(const std::string &stack, Source &source) {
  for (llvm::StringRef rest = stack; !rest.empty();) {
    auto [frame, others] = rest.split('\n');
    rest = others;
    auto [file, tail] = frame.rsplit('(');
    unsigned line = 0;
    if (tail.consumeInteger(10, line) || !tail.starts_with("): "))
      return false;
    bool inLibrary = isLibrary(file);
    if (source.file.empty() || !inLibrary) {
      source.file = file.rsplit('/').second.empty() ? file.str() : file.rsplit('/').second.str();
      source.line = line;
    }
    if (!inLibrary)
      return true;
  }
  return !source.file.empty();
}

Source Reader::sourceOf(const jit::Node *node, const std::string &path) const {
  Source source{path, "", 0};
  jit::SourceRange range = node->sourceRange();
  if (auto original = range.findSourceRangeThatGenerated())
    range = *original;
  if (!range.source()) // as of constants that TorchScript has computed
    return source;
  if (readStack(range.text().str(), source))
    return source;
  source = {path, "", 0};
  if (auto place = range.file_line_col()) {
    auto [file, line, column] = *place;
    source.file = file.substr(file.find_last_of('/') + 1);
    source.line = unsigned(line);
  }
  return source;
}

bool Reader::isPacked(const jit::Module &module) {
  const auto *method = module.type()->findMethod("forward");
  if (!method)
    throw ImportError("the module has no forward method; export it with `python -m galvatron.export`");
  const std::vector<c10::Argument> &arguments = method->getSchema().arguments();
  size_t inputs = arguments.size() - 1;
  bool packed = inputs == 3 && arguments.back().name() == "position_ids";
  if (inputs != 2 && !packed)
    throw ImportError("expects forward(input_ids, labels), position_ids third or not, but it has " +
                      std::to_string(inputs) +
                      " inputs; wrap the module so that it takes these and returns the mean loss");
  return packed;
}

Value Reader::run(const jit::Module &module, size_t count) {
  const auto *method = module.type()->findMethod("forward");
  if (!method || method->getSchema().arguments().size() != count + 1)
    throw ImportError("expects a forward of the " + std::to_string(count) +
                      " inputs that galvatron.json names; export the module again");
  llvm::SmallVector<Slot> inputs;
  for (unsigned number = 0; number < count; ++number)
    inputs.push_back(importer.input(number));
  std::vector<Value> results = callMethod({module, ""}, "forward", inputs, "");
  Value loss = results.at(0);
  if (loss.isList() && loss.list().size() == 1)
    loss = loss.list()[0];
  for (const auto &parameter : parameters.list())
    emit(*parameter);
  return loss;
}

std::vector<Value> Reader::callMethod(const Submodule &target, const std::string &method,
                                      llvm::ArrayRef<Slot> arguments, const std::string &place) {
  std::shared_ptr<jit::Graph> graph = jit::toGraphFunction(target.object.type()->getMethod(method)).graph();
  assert(graph->inputs().size() == arguments.size() + 1 && "LibTorch compiles no call with other arguments");
  if (depth == kMostLevels)
    throw ImportError("calls are nested deeper than " + std::to_string(kMostLevels) + " in " +
                      (place.empty() ? "the top module" : place));
  ++depth;
  Frame frame;
  frame.path = place;
  frame.slots[graph->inputs()[0]] = target;
  for (auto [value, argument] : llvm::zip(graph->inputs().slice(1), arguments))
    frame.slots[value] = argument;
  runBlock(graph->block(), frame);
  std::vector<Value> results;
  for (const jit::Value *output : graph->outputs())
    results.push_back(valueOf(output, frame));
  --depth;
  return results;
}

const Value &Reader::valueOf(const jit::Value *value, const Frame &frame) const {
  auto it = frame.slots.find(value);
  const Value *found = it == frame.slots.end() ? nullptr : std::get_if<Value>(&it->second);
  if (!found)
    throw ImportError("%" + value->debugName() + " in " + (frame.path.empty() ? "the top module" : frame.path) +
                      " is a module, or of a kind of value that is unsupported");
  return *found;
}

const Reader::Submodule &Reader::moduleOf(const jit::Value *value, const Frame &frame) const {
  // What modules come out of: attributes and arguments. Other values of their kind are refused where they are made.
  return std::get<Submodule>(frame.slots.at(value));
}

/// The module's own path where the caller contains it, else its name below the caller.
static std::string placeOf(const std::string &module, const std::string &caller) {
  if (caller.empty() || llvm::StringRef(module).starts_with(caller + "."))
    return module;
  return caller + "." + module.substr(module.find_last_of('.') + 1);
}

void Reader::runBlock(const jit::Block *block, Frame &frame) {
  for (const jit::Node *node : block->nodes()) {
    if (++numNodes > kMostNodes)
      throw ImportError("the program runs more than " + std::to_string(kMostNodes) + " operators, at " +
                        sourceOf(node, frame.path).describe() + ", which is unsupported");
    try {
      runNode(node, frame);
    } catch (const ImportError &) {
      throw;
    } catch (const std::exception &error) { // a list that is none, an element that is not there
      throw ImportError(std::string(node->kind().toQualString()) + " in " + sourceOf(node, frame.path).describe() +
                        ": got a value of a kind that is unsupported (" + error.what() + ")");
    }
  }
}

void Reader::runConstant(const jit::Node *node, Frame &frame) {
  auto value = jit::toIValue(node->output());
  if (!value)
    return;
  try {
    frame[node->output()] = constant(*value);
  } catch (const ImportError &error) {
    throw ImportError("a constant in " + sourceOf(node, frame.path).describe() + ": " + error.what());
  }
}

void Reader::runNode(const jit::Node *node, Frame &frame) {
  auto inputs = [&](size_t from = 0) {
    List values;
    for (const jit::Value *input : node->inputs().slice(from))
      values.push_back(valueOf(input, frame));
    return values;
  };
  auto unpack = [&](const List &values) {
    if (values.size() != node->outputs().size())
      throw ImportError("unpacks " + std::to_string(values.size()) + " values into " +
                        std::to_string(node->outputs().size()) + " in " + sourceOf(node, frame.path).describe() +
                        ": the trace holds as many as the example's sizes gave; import with the example's --batch and "
                        "--seq, or export an example of the sizes to import");
    for (auto [output, value] : llvm::zip(node->outputs(), values))
      frame[output] = value;
  };
  switch (node->kind()) {
  case c10::prim::Constant:
    return runConstant(node, frame);
  case c10::prim::GetAttr:
    return getAttribute(node, frame);
  case c10::prim::CallMethod: {
    const Submodule &target = moduleOf(node->inputs()[0], frame);
    llvm::SmallVector<Slot> arguments;
    for (const jit::Value *input : node->inputs().slice(1))
      arguments.push_back(frame.slots.at(input));
    return unpack(callMethod(target, node->s(c10::attr::name), arguments, placeOf(target.path, frame.path)));
  }
  case c10::prim::ListConstruct:
  case c10::prim::TupleConstruct:
    frame[node->output()] = Value(inputs());
    return;
  case c10::prim::ListUnpack:
  case c10::prim::TupleUnpack:
    return unpack(valueOf(node->input(), frame).list());
  case c10::prim::TupleIndex: {
    List values = inputs();
    frame[node->output()] = values[0].list().at(size_t(values[1].integer().value));
    return;
  }
  case c10::prim::unchecked_cast:
  case c10::prim::unchecked_unwrap_optional:
    frame[node->output()] = valueOf(node->input(), frame);
    return;
  case c10::prim::If:
    return runIf(node, frame);
  case c10::aten::_functional_assert_async:
    frame[node->output()] = runCheck(inputs());
    return;
  case c10::prim::Loop:
    return runLoop(node, frame);
  case c10::prim::Uninitialized: // what a branch that raises gives
    frame[node->output()] = {};
    return;
  case c10::prim::RaiseException:
    throw ImportError("prim::RaiseException in " + sourceOf(node, frame.path).describe() +
                      ": the module raises an exception for these inputs; import with sizes that it takes");
  case c10::aten::warn:
  case c10::prim::Print:
    return;
  default:
    return runOperator(node, frame);
  }
}

Value Reader::runCheck(const List &arguments) {
  const Tensor &truth = importer.read(*arguments[0].cell());
  bool holds = truth.lazy && truth.lazy->isSplat() && truth.lazy->constant != 0;
  checks.push_back({arguments[1].string(), holds});
  return arguments[2];
}

/// A condition: a truth value, or the tensor of one that comparing sizes makes. Data is refused by what makes it one.
static bool isTrue(const Value &condition, const Importer &importer) {
  if (!condition.isTensor())
    return condition.number() != 0;
  ExpressionRef known = importer.read(*condition.cell()).lazy;
  assert(known && known->isSplat() && "numbers of tensors are known");
  return known->constant != 0;
}

/// Only the branch that is taken is read; its condition must be known.
void Reader::runIf(const jit::Node *node, Frame &frame) {
  const jit::Block *block = node->blocks()[isTrue(valueOf(node->input(), frame), importer) ? 0 : 1];
  runBlock(block, frame);
  for (auto [output, value] : llvm::zip(node->outputs(), block->outputs()))
    frame[output] = valueOf(value, frame);
}

void Reader::runLoop(const jit::Node *node, Frame &frame) {
  const jit::Block *body = node->blocks()[0];
  List carried;
  for (const jit::Value *input : node->inputs().slice(2))
    carried.push_back(valueOf(input, frame));
  int64_t count = asInteger(valueOf(node->inputs()[0], frame), importer, "count").value;
  Value condition = valueOf(node->inputs()[1], frame);
  for (int64_t i = 0; i < count && isTrue(condition, importer); ++i) {
    if (numIterations++ == kMostIterations)
      throw ImportError((i == kMostIterations ? "a loop in " : "loops in all, the last one a loop in ") +
                        sourceOf(node, frame.path).describe() + (i == kMostIterations ? " runs" : ", run") +
                        " more than " + std::to_string(kMostIterations) +
                        " times, which is unsupported; compute with tensors instead");
    frame[body->inputs()[0]] = Integer{i};
    for (auto [input, value] : llvm::zip(body->inputs().slice(1), carried))
      frame[input] = value;
    runBlock(body, frame);
    condition = valueOf(body->outputs()[0], frame);
    carried.clear();
    for (const jit::Value *output : body->outputs().slice(1))
      carried.push_back(valueOf(output, frame));
  }
  for (auto [output, value] : llvm::zip(node->outputs(), carried))
    frame[output] = value;
}

void Reader::runOperator(const jit::Node *node, Frame &frame) {
  Source source = sourceOf(node, frame.path);
  const c10::FunctionSchema *schema = node->maybeSchema();
  llvm::SmallVector<Argument, 8> arguments;
  for (size_t i = 0; i < node->inputs().size(); ++i) {
    llvm::StringRef name =
        schema && i < schema->arguments().size() ? llvm::StringRef(schema->arguments()[i].name()) : "";
    arguments.push_back({name, valueOf(node->inputs()[i], frame)});
  }
  auto results = importer.call(node->kind().toQualString(), arguments, source);
  for (size_t i = 0; i < node->outputs().size(); ++i)
    frame[node->outputs()[i]] = i < results.size() ? results[i] : Value();
}

//===----------------------------------------------------------------------===//
// Attributes and constants
//===----------------------------------------------------------------------===//

void Reader::getAttribute(const jit::Node *node, Frame &frame) {
  const Submodule &owner = moduleOf(node->input(), frame);
  const std::string &name = node->s(c10::attr::name);
  std::string path = owner.path.empty() ? name : owner.path + "." + name;
  c10::IValue value = owner.object.attr(name);
  if (value.isObject()) {
    frame.slots[node->output()] = Submodule{jit::Object(value.toObject()), path};
    return;
  }
  try {
    frame[node->output()] = attribute(value, path);
  } catch (const ImportError &error) {
    throw ImportError("attribute " + path + ": " + error.what());
  }
}

Value Reader::attribute(const c10::IValue &value, const std::string &path) {
  if (!value.isTensor())
    return constant(value);
  if (const Parameter *parameter = parameters.find(path))
    return emit(*parameter);
  Value &slot = buffers[path];
  if (slot.isNone())
    slot = tensorConstant(value.toTensor());
  return slot;
}

const Value &Reader::emit(const Parameter &parameter) {
  Value &slot = emittedParameters[&parameter];
  if (slot.isNone()) {
    auto sizes = parameter.tensor.sizes();
    slot = importer.parameter(parameter.names, ShapeRef(sizes.data(), sizes.size()), ElementType::Float32,
                              parameter.init, parameter.frozen);
  }
  return slot;
}

Value Reader::constant(const c10::IValue &value) {
  if (value.isNone())
    return {};
  if (value.isBool())
    return value.toBool();
  if (value.isInt())
    return Integer{value.toInt()};
  if (value.isDouble())
    return value.toDouble();
  if (value.isString())
    return value.toStringRef();
  if (value.isDevice())
    return value.toDevice().str();
  if (value.isTensor())
    return tensorConstant(value.toTensor());
  List list;
  if (value.isList())
    for (const c10::IValue &element : value.toListRef())
      list.push_back(constant(element));
  else if (value.isTuple())
    for (const c10::IValue &element : value.toTupleRef().elements())
      list.push_back(constant(element));
  else
    throw ImportError("unsupported constant of type " + value.tagKind() +
                      "; expects numbers, texts, tensors and lists of them");
  return list;
}

Value Reader::tensorConstant(const at::Tensor &tensor) {
  static const std::map<at::ScalarType, ElementType> kTypes = {
      {at::kByte, ElementType::UInt8},        {at::kInt, ElementType::Int32},     {at::kLong, ElementType::Int64},
      {at::kHalf, ElementType::Float16},      {at::kFloat, ElementType::Float32}, {at::kDouble, ElementType::Float64},
      {at::kBFloat16, ElementType::BFloat16}, {at::kBool, ElementType::Bool}};
  auto type = kTypes.find(tensor.scalar_type());
  if (type == kTypes.end() || tensor.is_meta() || tensor.layout() != at::kStrided)
    throw ImportError(std::string("unsupported constant tensor of type ") + c10::toString(tensor.scalar_type()) +
                      "; expects dense numbers with values");
  auto owner = std::make_shared<at::Tensor>(tensor.detach());
  ShapeRef shape(tensor.sizes().data(), tensor.dim()), strides(tensor.strides().data(), tensor.dim());
  return Tensor::of(importer.expressions.buffer(type->second, shape, strides, owner->const_data_ptr(),
                                                std::shared_ptr<const void>(owner, owner.get())));
}
