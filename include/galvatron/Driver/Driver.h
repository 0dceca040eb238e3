// The body of galvatron-opt: either MLIR in, MLIR out like any *-opt, or the main job that ends in
// stage binaries.
#ifndef GALVATRON_DRIVER_DRIVER_H
#define GALVATRON_DRIVER_DRIVER_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace galvatron {

/// Runs the tool on its command line and returns the process's exit code.
int runDriver(int argc, char **argv, mlir::DialectRegistry &registry);

} // namespace galvatron

#endif // GALVATRON_DRIVER_DRIVER_H
