//===- AxesFactors.h - union-find over lists of factors -------------------===//
#ifndef GALVATRON_AXES_AXESFACTORS_H
#define GALVATRON_AXES_AXESFACTORS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

namespace galvatron {

/// A dimension as factors, major first. The names in it may be stale: `expand` gives what they stand
/// for now.
using FactorList = llvm::SmallVector<unsigned, 2>;

class FactorUnion {
public:
  /// A list of one new factor, or of none for extent 1.
  FactorList create(int64_t extent);

  /// The list in terms of factors that are neither united into others nor split.
  FactorList expand(llvm::ArrayRef<unsigned> list) const;

  /// Makes two lists equal by uniting and splitting factors; a split is seen by every list. False,
  /// with nothing changed, where factors do not divide: [12] matches [3, 4] and [2, 6] (as [2, 3, 2]
  /// does not), [4, 3] does not match [3, 4].
  bool match(llvm::ArrayRef<unsigned> a, llvm::ArrayRef<unsigned> b);

  int64_t getExtent(unsigned factor) const { return factors[find(factor)].extent; }

private:
  struct Factor {
    int64_t extent;
    unsigned parent;
    int major = -1, minor = -1;
  };
  unsigned find(unsigned factor) const;
  bool canMatch(llvm::ArrayRef<unsigned> a, llvm::ArrayRef<unsigned> b) const;
  void split(unsigned factor, int64_t majorExtent);

  mutable llvm::SmallVector<Factor> factors;
};

} // namespace galvatron

#endif // GALVATRON_AXES_AXESFACTORS_H
