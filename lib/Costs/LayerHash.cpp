// Values are numbered as they appear, so that only what is done with them counts.
#include "galvatron/Costs/LayerHash.h"

#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Axes/Axes.h"
#include "runtime/core/Version.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace galvatron;

namespace {

/// A layer as text that is the same for all that have its shape and code.
class LayerText {
public:
  explicit LayerText(const Axes &axes) : axes(axes), out(text) {}

  std::string write(graph::LayerOp layer) {
    out << "galvatron-opt " << kVersion << "\n";
    for (BlockArgument argument : layer.getBody().getArguments())
      writeValue(argument);
    out << "\n";
    layer.getBody().walk<WalkOrder::PreOrder>([&](Operation *op) { writeOp(op); });
    return text;
  }

private:
  void writeValue(Value value) {
    numbers.try_emplace(value, numbers.size());
    out << " %" << numbers[value] << ":";
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type) {
      out << value.getType();
      return;
    }
    out << type.getElementType();
    for (auto [extent, list] : llvm::zip(type.getShape(), axes.getAxes(value)))
      writeExtent(extent, list);
  }

  void writeExtent(int64_t extent, ArrayRef<AxisId> list) {
    out << "x";
    for (AxisId axis : list)
      if (AxisRole role = axes.getAxis(axis).role; role == AxisRole::Batch || role == AxisRole::Seq) {
        extent /= axes.getAxis(axis).extent;
        out << stringifyAxisRole(role) << "*";
      }
    out << extent;
  }

  void writeOp(Operation *op) {
    out << op->getName();
    for (Value operand : op->getOperands())
      out << " %" << numbers.lookup(operand);
    for (NamedAttribute attribute : op->getAttrs())
      writeAttribute(op, attribute);
    out << " ->";
    for (Value result : op->getResults())
      writeValue(result);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument argument : block.getArguments())
          writeValue(argument);
    out << "\n";
  }

  /// What constants and factors are does not change what computing with them takes; a random stream's number neither.
  void writeAttribute(Operation *op, NamedAttribute attribute) {
    StringRef name = attribute.getName();
    if (isa<arith::ConstantOp>(op) || name == "id" || name.contains('.'))
      return;
    out << " " << name;
    if (auto array = dyn_cast<DenseArrayAttr>(attribute.getValue()); array && isa<FloatType>(array.getElementType()))
      out << "[" << array.size() << "]";
    else if (!isa<FloatAttr, ElementsAttr>(attribute.getValue()))
      out << "=" << attribute.getValue();
  }

  const Axes &axes;
  std::string text;
  llvm::raw_string_ostream out;
  llvm::DenseMap<Value, size_t> numbers;
};

} // namespace

std::string galvatron::hashText(StringRef text) {
  uint64_t hash = 14695981039346656037u;
  for (char c : text)
    hash = (hash ^ uint8_t(c)) * 1099511628211u;
  std::string digits = llvm::utohexstr(hash, /*LowerCase=*/true);
  return std::string(16 - digits.size(), '0') + digits;
}

llvm::StringMap<std::string> galvatron::hashLayers(ModuleOp module) {
  Axes axes(module);
  llvm::StringMap<std::string> hashes;
  for (auto layer : module.getOps<graph::LayerOp>())
    hashes[layer.getSymName()] = hashText(LayerText(axes).write(layer));
  return hashes;
}
