// What the raising passes put in place of arithmetic has passed its verifier; what has not never comes into being.
#include "../Reference/Program.h"
#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "lib/Transforms/Raise/Raise.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace galvatron;

namespace {

constexpr const char *kStep = R"(
func.func @step(%x: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>) {
  %0 = math.sin %x : tensor<2x4xf32>
  %1 = math.cos %0 : tensor<2x4xf32>
  return %0, %1 : tensor<2x4xf32>, tensor<2x4xf32>
}
)";

class RaiseReplace : public ::testing::Test {
protected:
  RaiseReplace() : program(kStep) {
    program.context->loadAllAvailableDialects(); // ops that the text does not mention
    body = &program.module->lookupSymbol<mlir::func::FuncOp>("step").getBody().front();
    sine = &body->front();
  }

  size_t countOps() const { return body->getOperations().size(); }

  reference::Program program;
  mlir::Block *body;
  mlir::Operation *sine;
};

TEST_F(RaiseReplace, LegalOpTakesAllUses) {
  EXPECT_TRUE(raise::replaceIfLegal(sine, [&](mlir::OpBuilder &builder) {
    return graph::ActivationOp::create(builder, sine->getLoc(), sine->getResult(0).getType(), sine->getOperand(0),
                                       graph::ActivationKind::Relu);
  }));
  EXPECT_TRUE(sine->use_empty());
  EXPECT_EQ(countOps(), 4u);
}

TEST_F(RaiseReplace, OpThatItsVerifierRefusesLeavesNoTrace) {
  EXPECT_FALSE(raise::replaceIfLegal(sine, [&](mlir::OpBuilder &builder) {
    // More elements rotate than there are.
    llvm::SmallVector<double> frequencies(3, 1.0);
    mlir::Value twice = mlir::arith::AddFOp::create(builder, sine->getLoc(), sine->getOperand(0), sine->getOperand(0));
    return graph::RopeOp::create(builder, sine->getLoc(), twice.getType(), twice, /*positions=*/mlir::Value(),
                                 builder.getDenseF64ArrayAttr(frequencies), builder.getI64IntegerAttr(0),
                                 graph::RopeStyleAttr::get(builder.getContext(), graph::RopeStyle::Half),
                                 builder.getF64FloatAttr(1));
  }));
  EXPECT_FALSE(sine->use_empty());
  EXPECT_EQ(countOps(), 3u);
}

TEST_F(RaiseReplace, ValueOfAnotherTypeIsRefused) {
  EXPECT_FALSE(raise::replaceIfLegal(sine, [&](mlir::OpBuilder &builder) {
    return raise::reshapeTo(builder, sine->getLoc(), sine->getOperand(0), {8});
  }));
  EXPECT_EQ(countOps(), 3u);
}

TEST_F(RaiseReplace, NothingMadeIsRefused) {
  EXPECT_FALSE(raise::replaceIfLegal(sine, [](mlir::OpBuilder &) { return mlir::Value(); }));
  EXPECT_EQ(countOps(), 3u);
}

} // namespace
