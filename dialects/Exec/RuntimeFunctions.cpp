// Reads the lists of runtime/api/Functions.def, once; constants to attributes and to words.
#include "dialects/Exec/RuntimeFunctions.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace galvatron::exec;

/// `x`, `bits(x)[n]`, `map(x)[n]`, `x[n][4]`.
static RuntimeConstant parseConstant(StringRef text) {
  RuntimeConstant constant;
  auto [value, brackets] = text.trim().split('[');
  auto [count, each] = brackets.split("][");
  constant.count = count.rtrim(']');
  if (!each.empty())
    each.rtrim(']').getAsInteger(10, constant.wordsOfEach);
  if (value.consume_front("bits("))
    constant.kind = RuntimeConstant::Kind::Bits;
  else if (value.consume_front("map("))
    constant.kind = RuntimeConstant::Kind::Map;
  constant.name = value.rtrim(')');
  return constant;
}

static RuntimeFunction parseFunction(StringRef buffers, StringRef constants) {
  RuntimeFunction function;
  function.numBuffers = static_cast<int64_t>(buffers.count(',')) + 1;
  SmallVector<StringRef> listed;
  constants.split(listed, ',');
  function.constants = llvm::map_to_vector(listed, parseConstant);
  return function;
}

const RuntimeFunction *RuntimeFunction::find(StringRef name) {
  static const llvm::StringMap<RuntimeFunction> functions = {
#define GVRT_FUNCTION(name, buffers, constants) {#name, parseFunction(buffers, constants)},
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
  };
  auto found = functions.find(name);
  return found == functions.end() ? nullptr : &found->second;
}

const RuntimeConstant *RuntimeFunction::findConstant(StringRef name) const {
  auto found = llvm::find_if(constants, [&](const RuntimeConstant &constant) { return constant.name == name; });
  return found == constants.end() ? nullptr : found;
}

static std::optional<int64_t> wordOf(Attribute value, bool isDouble) {
  if (auto number = dyn_cast<FloatAttr>(value); number && isDouble && number.getType().isF64())
    return llvm::bit_cast<int64_t>(number.getValueAsDouble());
  if (auto number = dyn_cast<IntegerAttr>(value); number && !isDouble && number.getType().isInteger(64))
    return number.getInt();
  return std::nullopt;
}

std::optional<SmallVector<int64_t>> RuntimeConstant::wordsOf(Attribute value) const {
  auto list = dyn_cast<ArrayAttr>(value);
  if (isList() != bool(list))
    return std::nullopt;
  SmallVector<int64_t> words;
  for (Attribute element : list ? list.getValue() : ArrayRef(value)) {
    std::optional<int64_t> word = wordOf(element, kind == Kind::Bits);
    if (!word)
      return std::nullopt;
    words.push_back(*word);
  }
  return words;
}

bool RuntimeConstant::isWhole(ArrayRef<int64_t> words, DictionaryAttr constants) const {
  int64_t expected = 1;
  if (isList() && count.getAsInteger(10, expected))
    expected = constants.getAs<IntegerAttr>(count).getInt();
  if (kind != Kind::Map)
    return static_cast<int64_t>(words.size()) == expected * wordsOfEach;
  for (; expected > 0 && !words.empty() && words[0] >= 0 && 2 * words[0] < static_cast<int64_t>(words.size());
       --expected)
    words = words.drop_front(1 + 2 * words[0]);
  return expected == 0 && words.empty();
}

NamedAttribute CallConstant::toAttribute(Builder &builder) const {
  auto number = [&](int64_t word) -> Attribute {
    if (isDouble)
      return builder.getF64FloatAttr(llvm::bit_cast<double>(word));
    return builder.getI64IntegerAttr(word);
  };
  return builder.getNamedAttr(name, isList ? builder.getArrayAttr(llvm::map_to_vector(words, number))
                                           : number(words.front()));
}
