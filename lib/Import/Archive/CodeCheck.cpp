// What loading an archive runs, and where each is closed:
//
//   __setstate__                      called on every object of its class: the name is refused wherever it stands
//   C++ classes (__torch__.torch.…)   have a __setstate__ of their own: their names are refused in pickles
//   f(x: int=EXPRESSION), and         EXPRESSION is computed when the class is: outside of bodies nothing can be called
//   values in class bodies
//   constant folding in bodies        runs operators without side effects; others than PyTorch's are refused, and what
//                                     folding may take is bounded by the memory that `load` may have
//   Enum, Interface, plain classes    are refused: no rule of the importer takes them
//
// Bodies themselves are never run: the importer reads their operators and has a rule for each that it knows. The scan
// takes tokens, not trees, and what it does not know it refuses.
#include "CodeCheck.h"

#include "lib/Import/Expression/Value.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace galvatron::importer;
using llvm::StringRef;

std::string galvatron::importer::printable(StringRef text) {
  std::string result;
  llvm::raw_string_ostream(result).write_escaped(text.take_front(200), /*UseHexEscapes=*/true);
  return result;
}

namespace {

/// Levels of an expression, each of which costs the parser about a KiB of stack a function; and of blocks.
constexpr unsigned kMostLevels = 400, kMostBlocks = 50;

struct Token {
  enum Kind { Name, Number, Text, Sign } kind;
  StringRef text;
};

class Scanner {
public:
  explicit Scanner(StringRef text) : text(text) {}
  void run() {
    while (readStatement())
      checkStatement();
  }

private:
  [[noreturn]] void refuse(const llvm::Twine &why) const {
    throw ImportError(("line " + llvm::Twine(line) + " " + why).str());
  }
  bool readStatement();
  bool readToken();
  void checkStatement();
  void checkDefinition() const;
  void checkValue(llvm::ArrayRef<Token> value) const;
  void checkNames() const;
  void checkLevels() const;
  bool has(size_t i, StringRef spelled) const { return i < tokens.size() && tokens[i].text == spelled; }

  StringRef text;
  size_t at = 0, indentation = 0;
  unsigned line = 1, open = 0; // brackets
  llvm::SmallVector<Token> tokens;
  bool inClass = false;
};

/// One token, or nothing where a comment, spaces or a line end are. False where the statement ends.
bool Scanner::readToken() {
  char c = text[at];
  size_t begin = at;
  if (c == '\n') {
    ++at, ++line;
    return open > 0;
  }
  if (c == ' ') {
    ++at;
    return true;
  }
  if (c == '#') {
    at = std::min(text.find('\n', at), text.size());
    return true;
  }
  if (c == '"') {
    for (++at; at < text.size() && text[at] != '"' && text[at] != '\n'; ++at)
      if (text[at] == '\\')
        ++at;
    if (at >= text.size() || text[at] != '"')
      refuse("has a text without an end");
    ++at;
    if (text.slice(begin, at) == "\"\"" && at < text.size() && text[at] == '"')
      refuse("has a text in three quotes");
    tokens.push_back({Token::Text, text.slice(begin, at)});
    return true;
  }
  if (llvm::isAlpha(c) || c == '_') {
    at = std::min(text.find_if_not([](char x) { return llvm::isAlnum(x) || x == '_'; }, at), text.size());
    tokens.push_back({Token::Name, text.slice(begin, at)});
    return true;
  }
  if (llvm::isDigit(c) || (c == '.' && at + 1 < text.size() && llvm::isDigit(text[at + 1]))) {
    // 1, 1., 1.5e-05, 1e10, 2j
    while (at < text.size() && (llvm::isAlnum(text[at]) || text[at] == '.' ||
                                ((text[at] == '-' || text[at] == '+') && (text[at - 1] == 'e' || text[at - 1] == 'E'))))
      ++at;
    tokens.push_back({Token::Number, text.slice(begin, at)});
    return true;
  }
  if (!StringRef("()[]{},.:=+-*/%<>!&|^~@").contains(c))
    refuse("has the character '" + printable(text.substr(at, 1)) + "', which no exported module needs");
  if (StringRef("([{").contains(c))
    ++open;
  if (StringRef(")]}").contains(c) && open-- == 0)
    refuse("closes a bracket that is not open");
  ++at;
  tokens.push_back({Token::Sign, text.slice(begin, at)});
  return true;
}

bool Scanner::readStatement() {
  tokens.clear();
  while (at < text.size() && tokens.empty()) {
    size_t begin = at;
    at = std::min(text.find_if_not([](char c) { return c == ' '; }, at), text.size());
    indentation = at - begin;
    open = 0;
    while (at < text.size() && readToken()) {
    }
  }
  if (open > 0)
    refuse("leaves a bracket open");
  return !tokens.empty();
}

/// What stands after '=' outside of bodies: constants, names of types and lists of them; nothing that can be called.
void Scanner::checkValue(llvm::ArrayRef<Token> value) const {
  for (auto [i, token] : llvm::enumerate(value)) {
    bool emptyTuple = token.text == "(" && i + 1 < value.size() && value[i + 1].text == ")";
    if (token.kind == Token::Sign && !emptyTuple && !StringRef("[],.-=>:){}").contains(token.text))
      refuse("computes a value outside of a method, which loading it would run");
  }
}

/// `def name(argument: type=value, …) -> type:`
void Scanner::checkDefinition() const {
  if (tokens.size() < 5 || tokens[1].kind != Token::Name || !has(2, "(") || !has(tokens.size() - 1, ":"))
    refuse("has a definition of another form than exported modules have");
  checkValue(llvm::ArrayRef(tokens).drop_front(3));
}

void Scanner::checkNames() const {
  for (auto [i, token] : llvm::enumerate(tokens)) {
    if (token.kind != Token::Name)
      continue;
    if (token.text == "__setstate__" || token.text == "__getstate__")
      refuse("has " + token.text + ", which loading the archive would run; export the module without it");
    if (token.text == "lambda" || token.text == "global" || token.text == "exec")
      refuse("has '" + token.text + "', which no exported module needs");
    if (token.text.size() > 4096)
      refuse("has a name of " + llvm::Twine(token.text.size()) + " bytes");
    if (i > 0 && has(i - 1, "."))
      continue;
    StringRef member = has(i + 1, ".") && i + 2 < tokens.size() ? tokens[i + 2].text : "";
    bool foreign = token.text == "ops" && member != "prim" && member != "aten" && !member.empty();
    bool files = token.text == "torch" && (member == "save" || member == "load" || member == "from_file");
    if (token.text == "ops" && member == "aten" && has(i + 3, ".") && i + 4 < tokens.size())
      files = tokens[i + 4].text == "save" || tokens[i + 4].text == "from_file";
    if (foreign || files)
      refuse("has operator " + token.text + "." + member +
             (files ? ", which writes or reads a file" : ", which is not one of PyTorch's own") +
             "; export the module without it");
  }
}

/// An upper bound of the expression's tree: each bracket and each operator before the next comma is a level.
void Scanner::checkLevels() const {
  llvm::SmallVector<unsigned> counts = {0};
  unsigned levels = 0;
  for (const Token &token : tokens) {
    bool isWord = llvm::is_contained({"if", "else", "and", "or", "not", "in", "is"}, token.text);
    if (token.kind != Token::Sign && !isWord)
      continue;
    if (token.text == ",") {
      levels -= counts.back();
      counts.back() = 0;
    } else if (StringRef(")]}").contains(token.text)) {
      levels -= counts.back();
      if (counts.size() > 1)
        counts.pop_back();
    } else {
      ++counts.back(), ++levels;
      if (StringRef("([{").contains(token.text))
        counts.push_back(0);
    }
    if (levels > kMostLevels)
      refuse("has an expression nested deeper than " + llvm::Twine(kMostLevels));
  }
}

void Scanner::checkStatement() {
  if (indentation % 2 != 0 || indentation / 2 > kMostBlocks)
    refuse("is indented by " + llvm::Twine(indentation) + ", but blocks by 2 each, at most " +
           llvm::Twine(kMostBlocks));
  checkLevels();
  checkNames();
  bool defines = tokens[0].text == "def";
  if (tokens[0].text == "class") {
    if (indentation != 0 || tokens.size() != 6 || !has(2, "(") || !(has(3, "Module") || has(3, "NamedTuple")))
      refuse("has a class that is neither a module nor a named tuple; export the module without it");
    inClass = true;
  } else if (indentation == 0) {
    inClass = false;
    if (!defines && tokens[0].text != "import" && !has(0, "op_version_set"))
      refuse("has a statement outside of classes and functions");
    defines ? checkDefinition() : checkValue(tokens);
  } else if (indentation == 2 && inClass) {
    defines ? checkDefinition() : checkValue(tokens);
  } else if (defines || tokens[0].text == "@" || tokens[0].text == "import") {
    refuse("has '" + tokens[0].text + "' inside a function");
  }
}

} // namespace

void galvatron::importer::checkCode(StringRef text) { Scanner(text).run(); }

void galvatron::importer::checkType(StringRef text) {
  constexpr size_t kMostBytes = 4096, kMostBrackets = 64;
  bool plain = llvm::all_of(text, [](char c) { return llvm::isAlnum(c) || StringRef("_.,[]() ").contains(c); });
  if (!plain || text.size() > kMostBytes || text.count('[') + text.count('(') > kMostBrackets ||
      text.contains("torch.classes"))
    throw ImportError("has type '" + printable(text) + "', which no exported module needs");
}
