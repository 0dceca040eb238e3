// Operations are counted as dialects/Graph/GraphCosts.cpp counts those of the ops that the calls come from.
#include "BodyCalls.h"

#include "galvatron/Search/Model/Cluster.h"
#include "runtime/api/ElementType.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace galvatron;

namespace {

/// Ten rounds of a generator for four elements.
constexpr double kDropout = 25;

/// Constants of a call by name.
class Constants {
public:
  explicit Constants(exec::CallOp call) : constants(call.getConstants()) {}

  double number(StringRef name, double otherwise = 0) const {
    auto value = constants.getAs<IntegerAttr>(name);
    return value ? double(value.getInt()) : otherwise;
  }

  int64_t integer(StringRef name, int64_t otherwise = 0) const {
    auto value = constants.getAs<IntegerAttr>(name);
    return value ? value.getInt() : otherwise;
  }

  /// The product of a list's every `step`th number.
  double product(StringRef name, size_t step = 1) const {
    double product = 1;
    if (auto list = constants.getAs<ArrayAttr>(name))
      for (size_t index = 0; index < list.size(); index += step)
        product *= double(cast<IntegerAttr>(list[index]).getInt());
    return product;
  }

private:
  DictionaryAttr constants;
};

} // namespace

static double getBytes(Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  double width = std::max(8u, type.getElementType().isIndex() ? 64 : type.getElementTypeBitWidth());
  return double(type.getNumElements()) * width / 8;
}

static double getBytes(ValueRange buffers) {
  double bytes = 0;
  for (Value buffer : buffers)
    if (auto type = dyn_cast<MemRefType>(buffer.getType()); type && type.hasStaticShape())
      bytes += getBytes(buffer);
  return bytes;
}

/// Pairs of query and key that a rank's mask lets meet, of the rank that has the most where queries are cut.
static double getPairs(const Constants &constants) {
  double queries = constants.number("Sq"), keys = constants.number("Sk"), pairs = queries * keys;
  if (constants.number("causal")) {
    double last = std::min(queries, keys);
    pairs -= last * (last - 1) / 2;
  }
  if (double window = constants.number("window"); window > 0)
    pairs = std::min(pairs, queries * window);
  return constants.number("B") * constants.number("N") * pairs;
}

static void countAttention(const Constants &constants, bool isBackward, search::BodyCall &call) {
  double keyWidth = constants.number("D"), valueWidth = constants.number("Dv"), pairs = getPairs(constants);
  double products = isBackward ? 3 * keyWidth + 2 * valueWidth : keyWidth + valueWidth;
  call.flops = pairs * (2 * products + search::kTranscendental);
  call.pairs = pairs * (isBackward ? search::kBackwardAttention : 1);
  call.isProduct = true;
}

/// Operations for each element of what a kernel of rows or elements goes over.
static double getFlopsOfElement(StringRef function) {
  return llvm::StringSwitch<double>(function)
      .Case("rope", 3)
      .Case("norm", 8)
      .Case("norm_backward", 12)
      .Case("norm_weight_backward", 4)
      .Case("softmax", 3 + search::kTranscendental)
      .Case("softmax_backward", 4)
      .Case("sum_exp", 2 + search::kTranscendental)
      .Case("cross_entropy_backward", 3 + search::kTranscendental)
      .Case("dropout", kDropout)
      .Cases({"reduce", "accumulate", "embedding_backward"}, 1)
      .Default(0);
}

static double getElements(StringRef function, const Constants &constants) {
  if (function == "embedding_backward")
    return constants.number("columns") * constants.number("num_ids");
  if (function == "accumulate")
    return constants.number("count");
  return constants.number("rows", 1) * constants.number("columns", 1) * constants.product("extents");
}

/// Rows of the table that are touched, not all of it.
static double getEmbeddingBytes(exec::CallOp call, bool isBackward) {
  OperandRange buffers = call.getBuffers();
  Value rows = isBackward ? buffers.front() : buffers.back(); // dy, or y
  return getBytes(buffers[1]) + getBytes(rows) * (isBackward ? 3 : 2);
}

static std::optional<search::CollectiveKind> getCollective(StringRef function) {
  return llvm::StringSwitch<std::optional<search::CollectiveKind>>(function)
      .Case("all_reduce", search::CollectiveKind::AllReduce)
      .Case("all_gather", search::CollectiveKind::AllGather)
      .Case("reduce_scatter", search::CollectiveKind::ReduceScatter)
      .Case("all_to_all", search::CollectiveKind::AllToAll)
      .Case("permute", search::CollectiveKind::SendReceive)
      .Default(std::nullopt);
}

static search::BodyCall readCall(exec::CallOp op) {
  Constants constants(op);
  search::BodyCall call;
  call.function = op.getFunction().str();
  StringRef function = call.function;
  if (function == "wait") {
    call.waitsFor = int(constants.integer("handle"));
    return call;
  }
  if ((call.collective = getCollective(function))) {
    // The whole value is the result of a gather, and the operand of everything else.
    bool isGather = function == "all_gather";
    call.bytes = getBytes(isGather ? op.getBuffers().back() : op.getBuffers().front());
    call.group = int(op.getGroup().value_or(0));
    call.handle = int(constants.integer("handle", -1));
    return call;
  }
  call.bytes = getBytes(op.getBuffers());
  if (function.starts_with("matmul")) {
    call.flops =
        2 * constants.number("M") * constants.number("N") * constants.number("K") * constants.product("batch", 4);
    call.isProduct = true;
  } else if (function.contains("attention")) {
    countAttention(constants, function.ends_with("backward"), call);
  } else {
    call.flops = getFlopsOfElement(function) * getElements(function, constants);
    if (function.starts_with("embedding"))
      call.bytes = getEmbeddingBytes(op, function.ends_with("backward"));
  }
  return call;
}

static search::BodyCall readLoops(exec::LoopsOp loops) {
  double elements = 1, flops = 0;
  for (int64_t extent : loops.getExtents())
    elements *= double(extent);
  for (Operation &op : loops.getBody().front())
    if (op.getDialect()->getNamespace() == "math")
      flops += search::kTranscendental;
    else if (isa<exec::RowSumOp>(op) ||
             (isa_and_nonnull<arith::ArithDialect>(op.getDialect()) && !isa<arith::ConstantOp>(op)))
      flops += 1;
  search::BodyCall call;
  call.function = "loops";
  call.flops = flops * elements;
  call.bytes = getBytes(loops.getInputs()) + getBytes(loops.getOutputs());
  return call;
}

std::vector<search::BodyCall> galvatron::readBodyCalls(exec::FunctionOp body) {
  std::vector<search::BodyCall> calls;
  for (Operation &op : body.getBody().front())
    if (auto call = dyn_cast<exec::CallOp>(op))
      calls.push_back(readCall(call));
    else if (auto loops = dyn_cast<exec::LoopsOp>(op))
      calls.push_back(readLoops(loops));
  return calls;
}
