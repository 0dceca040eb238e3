// Subscripts of products in the order in which they occur, so that equal products have equal equations whatever
// patterns have made of them: layers are compared by their attributes.
#include "Raise.h"

#include "dialects/Graph/GraphProducts.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_NORMALIZEEQUATIONSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// "bsi,oi->bso" is "abc,dc->abd".
static std::string normalize(StringRef text) {
  Equation equation = Equation::parse(text);
  std::string seen;
  for (char subscript : equation.lhs + equation.rhs)
    if (seen.find(subscript) == std::string::npos)
      seen += subscript;
  for (std::string *part : {&equation.lhs, &equation.rhs, &equation.result})
    for (char &subscript : *part)
      subscript = StringRef("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")[seen.find(subscript)];
  return equation.str();
}

namespace {

struct NormalizeEquationsPass : galvatron::impl::NormalizeEquationsPassBase<NormalizeEquationsPass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation()))
      for (auto einsum : function.getBody().front().getOps<EinsumOp>()) {
        std::string normal = normalize(einsum.getEquation());
        numChanged += normal != einsum.getEquation();
        einsum.setEquation(normal);
      }
  }
};

} // namespace
