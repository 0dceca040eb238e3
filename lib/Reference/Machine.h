// The devices of a stage and the micro-batches that they see, one after another: where the pieces of a
// global tensor are, and what the collectives do with them.
#ifndef GALVATRON_REFERENCE_MACHINE_H
#define GALVATRON_REFERENCE_MACHINE_H

#include "OpTable.h"

#include "dialects/Dist/Dist.h"

namespace galvatron::reference {

/// A value of a program: one tensor for each device.
using DeviceTensors = std::vector<Tensor>;

struct Machine {
  /// Sizes of the device mesh's axes, major to minor; a single device has none.
  llvm::SmallVector<int64_t> mesh;
  int64_t microBatches = 1;

  int64_t numDevices() const { return numElements(mesh); }
  llvm::SmallVector<int64_t> coordinates(int64_t device) const;
  int64_t device(llvm::ArrayRef<int64_t> coordinates) const;
  /// The devices that differ from this one only in `axes`, in the order of their positions.
  llvm::SmallVector<int64_t> group(int64_t device, llvm::ArrayRef<int64_t> axes) const;

  /// Where a device's piece lies; a null placement: everything is local.
  Position position(dist::PlacementAttr placement, int64_t device, int64_t microBatch) const;
  /// The device whose coordinates are less by `turn`, one number for each axis of the mesh or none.
  int64_t turned(int64_t device, llvm::ArrayRef<int64_t> turn) const;
  /// Every device's piece of a global tensor. What a partial value's devices hold adds up to it: the
  /// first has it, the others hold zeros.
  DeviceTensors scatter(const Tensor &global, dist::PlacementAttr placement, int64_t microBatch) const;
  /// Puts the pieces of one micro-batch into `global`, adding what is partial (taking the maximum where
  /// the reduction is one). Fails if replicas differ; `what`: " of …", for the message.
  mlir::LogicalResult gather(mlir::Location loc, const DeviceTensors &pieces, dist::PlacementAttr placement,
                             int64_t microBatch, Tensor &global, llvm::StringRef what = "") const;

  /// Runs a collective of the dist dialect on all devices: of one that moves several values, number `index`.
  mlir::FailureOr<DeviceTensors> runCollective(mlir::Operation *op, const DeviceTensors &x, unsigned index = 0) const;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_MACHINE_H
