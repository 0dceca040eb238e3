// The pickle machine with a stack of values and a memo, for the opcodes of torch.jit.save alone. A call (REDUCE) makes
// a value of a known kind or is refused; objects are only named. A container that has become part of another one stays
// as it is: so no value contains itself, and depth and size of each are known when it is made.
#include "PickleCheck.h"

#include "CodeCheck.h"

#include "lib/Import/Expression/Value.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"

#include <vector>

using namespace galvatron::importer;
using llvm::StringRef;

namespace {

/// Values and levels that a pickle may have. A tree of modules needs three levels for each of its own.
constexpr uint64_t kMostValues = 1 << 22, kMostLevels = 500, kMostMemos = 1 << 22;
/// Elements that a tensor may show beyond those of its storage: 512 MiB of single precision. One that shows a single
/// element (all strides 0) stands for values that are not there, as weightless archives have them, and is never written
/// out.
constexpr int64_t kMostRepeated = 1 << 27;

enum class Kind { None, Bool, Integer, Double, Text, Global, Storage, Tensor, Tuple, List, Dict, Object, Marker };

struct Item {
  Kind kind;
  int64_t integer = 0;   // of a storage: its elements
  StringRef text;        // of a global: "module name"
  bool isClosed = false; // part of another value, or an object with its attributes
  uint64_t levels = 1, values = 1;
  std::vector<const Item *> parts;
};

/// Bytes of an element of the storage class; 0 if it is unknown.
int64_t elementBytes(StringRef global) {
  return llvm::StringSwitch<int64_t>(global)
      .Cases({"torch BoolStorage", "torch ByteStorage", "torch CharStorage"}, 1)
      .Cases({"torch ShortStorage", "torch HalfStorage", "torch BFloat16Storage"}, 2)
      .Cases({"torch IntStorage", "torch FloatStorage"}, 4)
      .Cases({"torch LongStorage", "torch DoubleStorage", "torch ComplexFloatStorage"}, 8)
      .Case("torch ComplexDoubleStorage", 16)
      .Default(0);
}

/// Modules and named tuples are written as what their code is called; custom classes of C++ would run their own.
bool isClass(StringRef global) {
  auto [module, name] = global.split(' ');
  return (module == "__torch__" || module.starts_with("__torch__.")) &&
         !module.starts_with("__torch__.torch.classes") && !name.empty() &&
         llvm::all_of(global, [](char c) { return llvm::isAlnum(c) || c == '_' || c == '.' || c == ' '; });
}

class Machine {
public:
  Machine(StringRef pickle, StorageBytes storageBytes) : pickle(pickle), storageBytes(storageBytes) {}
  const Item *run();

private:
  [[noreturn]] void refuse(const llvm::Twine &why) const {
    throw ImportError((why + " (byte " + llvm::Twine(at) + ")").str());
  }
  StringRef take(uint64_t count) {
    if (count > pickle.size() - at)
      refuse("is cut short");
    StringRef result = pickle.substr(at, count);
    at += count;
    return result;
  }
  template <typename T> T number() {
    return llvm::support::endian::read<T, llvm::endianness::little>(take(sizeof(T)).data());
  }
  StringRef line() {
    StringRef result = pickle.substr(at).take_until([](char c) { return c == '\n'; });
    take(result.size());
    take(1);
    return result;
  }
  Item *push(Item item) {
    if (items.size() >= kMostValues)
      refuse("has more than " + llvm::Twine(kMostValues) + " values");
    items.push_back(std::make_unique<Item>(std::move(item)));
    stack.push_back(items.back().get());
    return stack.back();
  }
  Item *pop() {
    if (stack.empty() || stack.back()->kind == Kind::Marker)
      refuse("takes a value where there is none");
    return stack.pop_back_val();
  }
  Item *pop(Kind kind, const char *what) {
    Item *item = pop();
    if (item->kind != kind)
      refuse(llvm::Twine("expects ") + what);
    return item;
  }
  std::vector<Item *> popToMarker() {
    std::vector<Item *> result;
    while (!stack.empty() && stack.back()->kind != Kind::Marker)
      result.push_back(stack.pop_back_val());
    if (stack.empty())
      refuse("takes values from a mark that is not there");
    stack.pop_back();
    std::reverse(result.begin(), result.end());
    return result;
  }
  void add(Item &whole, Item *part);
  void addTo(Kind kind, const std::vector<Item *> &parts);
  void pushTuple(const std::vector<Item *> &parts);
  void pushStorage();
  void reduce();
  void checkTensor(const Item &arguments) const;
  void build();
  void step(uint8_t opcode);

  StringRef pickle;
  StorageBytes storageBytes;
  size_t at = 0;
  bool hasStopped = false;
  std::vector<std::unique_ptr<Item>> items;
  std::vector<std::unique_ptr<std::string>> globals; // what items' texts refer to
  llvm::SmallVector<Item *> stack;
  llvm::DenseMap<uint32_t, Item *> memo;
  llvm::StringSet<> storages;
};

void Machine::add(Item &whole, Item *part) {
  if (part->kind == Kind::Object && !part->isClosed)
    refuse("an object is used before it has its attributes");
  part->isClosed = true;
  whole.levels = std::max(whole.levels, part->levels + 1);
  whole.values += part->values;
  if (whole.levels > kMostLevels)
    refuse("has values nested deeper than " + llvm::Twine(kMostLevels));
  if (whole.values > kMostValues)
    refuse("has more than " + llvm::Twine(kMostValues) + " values, counting those that are shared each time");
  whole.parts.push_back(part);
}

void Machine::addTo(Kind kind, const std::vector<Item *> &parts) {
  Item *whole = stack.empty() ? nullptr : stack.back();
  if (!whole || whole->kind != kind || whole->isClosed || (kind == Kind::Dict && parts.size() % 2 != 0))
    refuse("adds to what is no list or dict, or is complete");
  for (Item *part : parts) {
    if (part == whole)
      refuse("a value contains itself");
    add(*whole, part);
  }
}

void Machine::pushTuple(const std::vector<Item *> &parts) {
  Item *tuple = push({Kind::Tuple});
  for (Item *part : parts)
    add(*tuple, part);
}

/// ('storage', class, key, device, elements)
void Machine::pushStorage() {
  Item *id = pop(Kind::Tuple, "a tuple that names a storage");
  constexpr Kind kKinds[] = {Kind::Text, Kind::Global, Kind::Text, Kind::Text, Kind::Integer};
  bool fits = id->parts.size() == 5;
  for (size_t i = 0; fits && i < 5; ++i)
    fits = id->parts[i]->kind == kKinds[i];
  if (!fits || id->parts[0]->text != "storage")
    refuse("expects a storage of ('storage', class, key, device, elements)");
  StringRef key = id->parts[2]->text;
  int64_t elements = id->parts[4]->integer, bytes = elementBytes(id->parts[1]->text), needed = 0;
  if (bytes == 0)
    refuse("storage " + key + " is of class " + id->parts[1]->text + ", which is unsupported");
  if (key.empty() || key.size() > 20 || !llvm::all_of(key, llvm::isDigit))
    refuse("expects a storage's key to be a number, as data/0 is called");
  std::optional<uint64_t> there = storageBytes(key);
  if (!there)
    refuse("storage " + key + " has no entry in the archive");
  if (elements < 0 || llvm::MulOverflow(elements, bytes, needed) || uint64_t(needed) > *there)
    refuse("storage " + key + " says " + llvm::Twine(elements) + " elements of " + llvm::Twine(bytes) +
           " bytes, but its entry has " + llvm::Twine(*there) + " bytes");
  if (!storages.insert(key).second)
    refuse("storage " + key + " is read twice");
  push({Kind::Storage, elements, key});
}

/// (storage, offset, sizes, strides, requires_grad, hooks)
void Machine::checkTensor(const Item &arguments) const {
  const auto &parts = arguments.parts;
  if (parts.size() < 6 || parts[0]->kind != Kind::Storage || parts[1]->kind != Kind::Integer ||
      parts[2]->kind != Kind::Tuple || parts[3]->kind != Kind::Tuple || parts[4]->kind != Kind::Bool ||
      parts[2]->parts.size() != parts[3]->parts.size() || parts[2]->parts.size() > 64)
    refuse("expects a tensor of (storage, offset, sizes, strides, requires_grad, hooks)");
  int64_t offset = parts[1]->integer, count = 1, last = offset;
  bool fits = offset >= 0, isOne = true;
  for (auto [size, stride] : llvm::zip(parts[2]->parts, parts[3]->parts)) {
    int64_t reach = 0;
    fits = fits && size->kind == Kind::Integer && stride->kind == Kind::Integer && size->integer >= 0 &&
           stride->integer >= 0 && !llvm::MulOverflow(count, size->integer, count) &&
           !llvm::MulOverflow(std::max<int64_t>(size->integer - 1, 0), stride->integer, reach) &&
           !llvm::AddOverflow(last, reach, last);
    isOne &= stride->integer == 0;
  }
  const Item &storage = *parts[0];
  if (!fits || (count > 0 && last >= storage.integer) || offset > storage.integer)
    refuse("a tensor's offset, sizes and strides reach outside storage " + storage.text + " of " +
           llvm::Twine(storage.integer) + " elements");
  if (!isOne && count > storage.integer && count > kMostRepeated)
    refuse("a tensor shows the " + llvm::Twine(storage.integer) + " elements of storage " + storage.text + " as " +
           llvm::Twine(count) + ", but at most " + llvm::Twine(kMostRepeated) + " are read");
}

/// Calls are those that LibTorch's reader knows; each takes and makes what is written here.
void Machine::reduce() {
  Item *arguments = pop(Kind::Tuple, "a tuple of arguments");
  StringRef callee = pop(Kind::Global, "a call of a global")->text;
  if (callee == "torch._utils _rebuild_tensor_v2") {
    checkTensor(*arguments);
    push({Kind::Tensor});
  } else if (callee == "collections OrderedDict" && arguments->parts.empty()) {
    push({Kind::Dict})->isClosed = true;
  } else if (callee == "torch device" && arguments->parts.size() == 1 && arguments->parts[0]->kind == Kind::Text) {
    push({Kind::Text, 0, "device"});
  } else if (callee == "torch.jit._pickle restore_type_tag" && arguments->parts.size() == 2 &&
             arguments->parts[1]->kind == Kind::Text) {
    const Item *value = arguments->parts[0];
    if (value->kind != Kind::List && value->kind != Kind::Dict)
      refuse("expects a list or a dict with a type");
    checkType(arguments->parts[1]->text);
    stack.push_back(const_cast<Item *>(value));
  } else if (callee.consume_front("torch.jit._pickle build_")) {
    Kind kind = llvm::StringSwitch<Kind>(callee)
                    .Case("intlist", Kind::Integer)
                    .Case("doublelist", Kind::Double)
                    .Case("boollist", Kind::Bool)
                    .Case("tensorlist", Kind::Tensor)
                    .Default(Kind::None);
    if (kind == Kind::None || arguments->parts.size() != 1 || arguments->parts[0]->kind != Kind::List ||
        !llvm::all_of(arguments->parts[0]->parts, [&](const Item *part) { return part->kind == kind; }))
      refuse("expects a list of what " + callee + " says");
    stack.push_back(const_cast<Item *>(arguments->parts[0]));
  } else {
    refuse("calls '" + callee + "', which no exported module needs");
  }
}

void Machine::build() {
  Item *attributes = pop(Kind::Dict, "an object's attributes");
  if (stack.empty() || stack.back()->kind != Kind::Object || stack.back()->isClosed)
    refuse("sets attributes of what is no new object");
  for (size_t i = 0; i < attributes->parts.size(); i += 2)
    if (attributes->parts[i]->kind != Kind::Text)
      refuse("an object has an attribute whose name is no text");
  add(*stack.back(), attributes);
  stack.back()->isClosed = true;
}

void Machine::step(uint8_t opcode) {
  switch (opcode) {
  case 0x80: // PROTO
    if (number<uint8_t>() != 2)
      refuse("expects protocol 2");
    return;
  case '(':
    push({Kind::Marker});
    return;
  case 'N':
    push({Kind::None});
    return;
  case 0x88: // NEWTRUE
  case 0x89: // NEWFALSE
    push({Kind::Bool, opcode == 0x88});
    return;
  case 'K':
    push({Kind::Integer, number<uint8_t>()});
    return;
  case 'M':
    push({Kind::Integer, number<uint16_t>()});
    return;
  case 'J':
    push({Kind::Integer, number<int32_t>()});
    return;
  case 0x8a: // LONG1
    if (number<uint8_t>() != 8)
      refuse("expects an integer of 8 bytes");
    push({Kind::Integer, number<int64_t>()});
    return;
  case 'G':
    take(8);
    push({Kind::Double});
    return;
  case 'X': {
    uint32_t count = number<uint32_t>();
    push({Kind::Text, 0, take(count)});
    return;
  }
  case 'c': {
    size_t begin = at;
    line(), line();
    std::string joined = pickle.slice(begin, at - 1).str();
    std::replace(joined.begin(), joined.end(), '\n', ' ');
    globals.push_back(std::make_unique<std::string>(joined));
    StringRef name = *globals.back();
    if (!isClass(name) && !elementBytes(name) &&
        !llvm::is_contained({"torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch device"}, name) &&
        !name.starts_with("torch.jit._pickle "))
      refuse("names '" + printable(name) + "', which no exported module needs");
    push({Kind::Global, 0, name});
    return;
  }
  case ')':
    push({Kind::Tuple});
    return;
  case 0x85:   // TUPLE1
  case 0x86:   // TUPLE2
  case 0x87: { // TUPLE3
    std::vector<Item *> parts(opcode - 0x84);
    for (size_t i = parts.size(); i-- > 0;)
      parts[i] = pop();
    return pushTuple(parts);
  }
  case 't':
    return pushTuple(popToMarker());
  case ']':
    push({Kind::List});
    return;
  case '}':
    push({Kind::Dict});
    return;
  case 'e':
    return addTo(Kind::List, popToMarker());
  case 'u':
    return addTo(Kind::Dict, popToMarker());
  case 'a':
    return addTo(Kind::List, {pop()});
  case 's': {
    Item *value = pop();
    return addTo(Kind::Dict, {pop(), value});
  }
  case 'q':
  case 'r': {
    uint32_t key = opcode == 'q' ? number<uint8_t>() : number<uint32_t>();
    if (stack.empty() || stack.back()->kind == Kind::Marker || key >= kMostMemos)
      refuse("remembers what is no value, or as number " + llvm::Twine(key));
    memo[key] = stack.back();
    return;
  }
  case 'h':
  case 'j': {
    uint32_t key = opcode == 'h' ? number<uint8_t>() : number<uint32_t>();
    auto found = key < kMostMemos ? memo.find(key) : memo.end();
    if (found == memo.end())
      refuse("recalls " + llvm::Twine(key) + ", which is nothing");
    stack.push_back(found->second);
    return;
  }
  case 'Q':
    return pushStorage();
  case 'R':
    return reduce();
  case 0x81: // NEWOBJ
    if (!pop(Kind::Tuple, "an object's arguments")->parts.empty() || !isClass(pop(Kind::Global, "a class")->text))
      refuse("makes an object with arguments, or of what is no class of the archive");
    push({Kind::Object});
    return;
  case 'b':
    return build();
  case '.':
    hasStopped = true;
    return;
  }
  refuse("has opcode " + llvm::Twine(unsigned(opcode)) + ", which torch.jit.save does not write");
}

const Item *Machine::run() {
  while (!hasStopped)
    step(number<uint8_t>());
  const Item *result = pop();
  if (!stack.empty() || (result->kind == Kind::Object && !result->isClosed))
    refuse("ends before its value is complete");
  return result;
}

} // namespace

void galvatron::importer::checkPickle(StringRef pickle, StorageBytes storageBytes) {
  Machine(pickle, storageBytes).run();
}

/// ("FORMAT_WITH_STRING_TABLE", texts, ((offset, ((numbers of texts, number of the name, first line), begin, end),
/// tag), …))
void galvatron::importer::checkDebugPickle(StringRef pickle) {
  Machine machine(pickle, [](StringRef) { return std::nullopt; });
  const Item *root = machine.run();
  auto refuse = [](const char *what) { throw ImportError(std::string("expects a table of sources, but ") + what); };
  auto isInteger = [](const Item *item, int64_t end) {
    return item->kind == Kind::Integer && item->integer >= 0 && item->integer < end;
  };
  auto isTuple = [](const Item *item, size_t count) {
    return item->kind == Kind::Tuple && item->parts.size() == count;
  };
  constexpr int64_t kAny = INT64_MAX;
  if (!isTuple(root, 3) || root->parts[0]->text != "FORMAT_WITH_STRING_TABLE" || root->parts[1]->kind != Kind::Tuple ||
      root->parts[2]->kind != Kind::Tuple)
    return refuse("it has another form");
  const auto &texts = root->parts[1]->parts;
  llvm::DenseMap<const Item *, int64_t> lengths; // of sources, each looked through once
  for (const Item *text : texts)
    if (text->kind != Kind::Text)
      return refuse("a text is none");
  int64_t numTexts = int64_t(texts.size());
  for (const Item *entry : root->parts[2]->parts) {
    if (!isTuple(entry, 3) || !isInteger(entry->parts[0], kAny) || !isTuple(entry->parts[1], 3) ||
        entry->parts[2]->kind != Kind::Integer)
      return refuse("an entry has another form");
    const auto &range = entry->parts[1]->parts;
    const Item *source = range[0];
    auto [length, isNew] = lengths.try_emplace(source, 0);
    if (isNew) {
      if (!isTuple(source, 3) || source->parts[0]->kind != Kind::List || !isInteger(source->parts[1], numTexts) ||
          !isInteger(source->parts[2], kAny))
        return refuse("a source has another form");
      for (const Item *number : source->parts[0]->parts) {
        if (!isInteger(number, numTexts))
          return refuse("a source has a text that is not there");
        length->second += int64_t(texts[number->integer]->text.size());
      }
    }
    int64_t end = std::max<int64_t>(length->second, 1) + 1; // what has no place in Python stands at [0, 1) of nothing
    if (!isInteger(range[1], end) || !isInteger(range[2], end) || range[1]->integer > range[2]->integer)
      return refuse("a range is outside its source");
  }
}
