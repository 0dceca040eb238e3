// See LoopNest.h.
#include "LoopNest.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

LoopNest galvatron::simplifyLoops(exec::LoopsOp op) {
  size_t loops = op.getExtents().size(), buffers = op.getInputs().size() + op.getOutputs().size();
  SmallVector<size_t> order;
  bool hasRows = op.hasRows();
  for (size_t loop = 0; loop < loops - hasRows; ++loop)
    if (op.getExtents()[loop] != 1)
      order.push_back(loop);
  auto strideOf = [&](size_t buffer, size_t loop) { return op.getStrides()[buffer * loops + loop]; };
  llvm::stable_sort(order, [&](size_t a, size_t b) { return strideOf(buffers - 1, a) > strideOf(buffers - 1, b); });
  if (hasRows)
    order.push_back(loops - 1);
  LoopNest nest;
  nest.strides.resize(buffers);
  for (size_t loop : order) {
    bool merges = !nest.extents.empty() && !(hasRows && loop + 1 == loops);
    for (size_t buffer = 0; merges && buffer < buffers; ++buffer)
      merges = nest.strides[buffer].back() == strideOf(buffer, loop) * op.getExtents()[loop];
    if (!merges)
      nest.extents.push_back(1);
    nest.extents.back() *= op.getExtents()[loop];
    for (size_t buffer = 0; buffer < buffers; ++buffer) {
      if (!merges)
        nest.strides[buffer].push_back(0);
      nest.strides[buffer].back() = strideOf(buffer, loop);
    }
  }
  return nest;
}

KernelPointers galvatron::collectPointers(exec::LoopsOp op) {
  KernelPointers pointers;
  pointers.distinct.assign(op.getOutputs().begin(), op.getOutputs().end());
  for (Value input : op.getInputs()) {
    auto found = llvm::find(pointers.distinct, input);
    pointers.indexOf.push_back(found - pointers.distinct.begin());
    if (found == pointers.distinct.end())
      pointers.distinct.push_back(input);
  }
  for (unsigned output = 0; output < op.getOutputs().size(); ++output)
    pointers.indexOf.push_back(output);
  return pointers;
}

SmallVector<exec::RowSumOp> galvatron::takeRowSums(Block::iterator &it) {
  SmallVector<exec::RowSumOp> sums;
  for (; auto sum = dyn_cast<exec::RowSumOp>(*it); ++it) {
    if (llvm::is_contained(sums, sum.getValue().getDefiningOp()))
      break;
    sums.push_back(sum);
  }
  return sums;
}
