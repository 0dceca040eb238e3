// Tensors with padding and without.
#include "galvatron/Reference/PaddedTensor.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

class PaddedTensorTest : public testing::Test {
protected:
  PaddedTensorTest() {
    context.loadDialect<graph::GraphDialect>();
    // Rows [2 · (1, padded by 1)], columns 2, padded by 1.
    padding = graph::PaddingAttr::getCanonical(&context, {{{2}, {1, 1}}, {{2, 1}}});
    own.data = {1, 2, 3, 4};
  }

  mlir::MLIRContext context;
  graph::PaddingAttr padding;
  Tensor own{llvm::ArrayRef<int64_t>{2, 2}};
};

TEST_F(PaddedTensorTest, PaddingIsZero) {
  Tensor padded = addPadding(own, padding);
  EXPECT_EQ(padded.shape, Shape({4, 3}));
  EXPECT_EQ(padded.data, (std::vector<double>{1, 2, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0}));
  auto back = removePadding(mlir::UnknownLoc::get(&context), padded, padding, "w");
  ASSERT_TRUE(mlir::succeeded(back));
  EXPECT_EQ(back->shape, own.shape);
  EXPECT_EQ(back->data, own.data);
}

TEST_F(PaddedTensorTest, WithoutPaddingNothingChanges) {
  EXPECT_EQ(addPadding(own, {}).data, own.data);
  EXPECT_EQ(removePadding(mlir::UnknownLoc::get(&context), own, {}, "w")->data, own.data);
}

TEST_F(PaddedTensorTest, DataArePaddedAtTheEndOfRows) {
  Tensor tokens(llvm::ArrayRef<int64_t>{2, 2});
  tokens.data = {1, 2, 3, 4};
  EXPECT_EQ(padData(tokens, {2, 3}).data, (std::vector<double>{1, 2, 0, 3, 4, 0}));
  EXPECT_EQ(padData(tokens, {2, 2}).data, tokens.data);
}

TEST_F(PaddedTensorTest, PaddingThatLearnedIsAnError) {
  Tensor padded = addPadding(own, padding);
  padded[5] = 0.5;
  std::string complaint;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    complaint = diagnostic.str();
    return mlir::success();
  });
  EXPECT_TRUE(mlir::failed(removePadding(mlir::UnknownLoc::get(&context), padded, padding, "the gradient of w")));
  EXPECT_NE(complaint.find("expects the padding of the gradient of w to be 0, but got 5.0"), std::string::npos);
}

} // namespace
