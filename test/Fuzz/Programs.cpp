// Programs in MLIR, as galvatron-opt reads them: within the bounds of nesting, then by MLIR's parser and the verifiers
// of the dialects.
#include "Fuzz.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Exec/Exec.h"
#include "dialects/Graph/Graph.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Support/Nesting.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;

namespace galvatron::fuzz {
namespace {

/// A number, a name or a type of the text in the place of another, or any mutation of texts.
std::string mutateProgram(Random &random, const std::string &example) {
  std::string text = example;
  const std::string kNumber = "0123456789", kWord = "abcdefghijklmnopqrstuvwxyz_";
  for (uint64_t count = 1 + random.below(4); count > 0; --count) {
    if (random.oneIn(3)) {
      mutateText(random, text);
      continue;
    }
    const std::string &set = random.oneIn(2) ? kNumber : kWord;
    auto spanFrom = [&](size_t at) {
      size_t begin = text.find_first_of(set, at), end = text.find_first_not_of(set, begin);
      return begin == std::string::npos ? std::pair(size_t(0), size_t(0))
                                        : std::pair(begin, (end == std::string::npos ? text.size() : end) - begin);
    };
    auto [to, toLength] = spanFrom(random.below(text.size() + 1));
    auto [from, fromLength] = spanFrom(random.below(text.size() + 1));
    std::string other = text.substr(from, fromLength);
    if (set == kNumber && random.oneIn(2))
      other = std::to_string(hostileInteger(random, std::atoll(other.c_str())));
    text.replace(to, toLength, other);
  }
  return text;
}

std::string readProgram(const std::string &input) {
  if (std::string deep = findDeepNesting(input); !deep.empty())
    return deep;
  DialectRegistry registry;
  registry.insert<graph::GraphDialect, plan::PlanDialect, dist::DistDialect, exec::ExecDialect, arith::ArithDialect,
                  math::MathDialect, func::FuncDialect>();
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  std::string why;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (why.empty())
      why = diagnostic.str();
    return success();
  });
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(input, ParserConfig(&context));
  if (!module)
    return why.empty() ? "refused without a word" : why;
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream);
  return "";
}

} // namespace

std::vector<Format> makeFormats(const std::filesystem::path &) {
  return {{"program", mutateProgram, readProgram}};
}

} // namespace galvatron::fuzz
