// Masks of documents in front of attention: a kernel that reads the documents needs no mask of as many elements as
// scores.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC_DOCUMENTMASKS_H
#define GALVATRON_CONVERSION_DISTTOEXEC_DOCUMENTMASKS_H

#include "dialects/Dist/Dist.h"

#include "llvm/ADT/DenseMap.h"

namespace galvatron {

/// What takes the place of a bias [B, N or 1, Sq, Sk] that is `bias` (or 0, where null) for keys of the query's
/// document and -inf for others: the documents of queries [B, Sq] and of keys [B, Sk]. Dimension i of `bias` is
/// dimension biasDims[i] of scores, -1 where it is of extent one.
struct DocumentMask {
  mlir::Value queries, keys, bias;
  llvm::SmallVector<int64_t> biasDims;
};

/// Takes the masks of documents off the attention of a body, forward and backward, and what only they read out of it;
/// other biases stay. By op.
llvm::DenseMap<mlir::Operation *, DocumentMask> takeDocumentMasks(dist::BodyOp body);

} // namespace galvatron

#endif // GALVATRON_CONVERSION_DISTTOEXEC_DOCUMENTMASKS_H
