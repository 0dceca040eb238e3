// What `runtime/api/Functions.def` says of a function: its buffers, and its constants by name.
#ifndef GALVATRON_DIALECTS_EXEC_RUNTIMEFUNCTIONS_H
#define GALVATRON_DIALECTS_EXEC_RUNTIMEFUNCTIONS_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/bit.h"

#include <optional>
#include <type_traits>

namespace galvatron::exec {

/// A constant as Functions.def lists it: `x`, `bits(x)`, `map(x)[n]`, or a list `x[n]`, `bits(x)[n]`, `x[n][4]`.
struct RuntimeConstant {
  enum class Kind { Word, Bits, Map };

  llvm::StringRef name;
  Kind kind = Kind::Word;
  llvm::StringRef count;   ///< What stands in the first brackets, a number or a constant before; empty: no list.
  int64_t wordsOfEach = 1; ///< What stands in the second brackets.

  bool isList() const { return !count.empty(); }
  /// The words that the runtime reads, or none if `value` is not of this constant's kind: an i64 or f64, or an array.
  std::optional<llvm::SmallVector<int64_t>> wordsOf(mlir::Attribute value) const;
  /// Whether a list of words is as long as `constants` say; of a map, as its own counts of sub-axes say.
  bool isWhole(llvm::ArrayRef<int64_t> words, mlir::DictionaryAttr constants) const;
};

struct RuntimeFunction {
  int64_t numBuffers = 0;                       ///< Optional ones included.
  llvm::SmallVector<RuntimeConstant> constants; ///< In the order of their words.

  const RuntimeConstant *findConstant(llvm::StringRef name) const;
  /// The function of that name, or null.
  static const RuntimeFunction *find(llvm::StringRef name);
};

/// The value of a constant under construction: a number, or a list of numbers.
class CallConstant {
public:
  template <typename Number>
    requires(std::is_arithmetic_v<Number> || std::is_enum_v<Number>)
  CallConstant(llvm::StringRef name, Number value) : name(name), isDouble(std::is_floating_point_v<Number>) {
    if constexpr (std::is_floating_point_v<Number>)
      words.push_back(llvm::bit_cast<int64_t>(static_cast<double>(value)));
    else
      words.push_back(static_cast<int64_t>(value));
  }
  CallConstant(llvm::StringRef name, llvm::ArrayRef<int64_t> values) : name(name), words(values), isList(true) {}
  CallConstant(llvm::StringRef name, llvm::ArrayRef<double> values) : name(name), isDouble(true), isList(true) {
    for (double value : values)
      words.push_back(llvm::bit_cast<int64_t>(value));
  }

  mlir::NamedAttribute toAttribute(mlir::Builder &builder) const;

private:
  llvm::StringRef name;
  llvm::SmallVector<int64_t> words;
  bool isDouble = false, isList = false;
};

} // namespace galvatron::exec

#endif // GALVATRON_DIALECTS_EXEC_RUNTIMEFUNCTIONS_H
