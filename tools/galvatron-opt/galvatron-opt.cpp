// galvatron-opt: reads MLIR, runs passes or the whole main job, writes MLIR or stage binaries.
#include "galvatron/Driver/Driver.h"
#include "galvatron/Pipelines/Pipelines.h"

#include "mlir/IR/DialectRegistry.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  galvatron::registerDialects(registry);
  galvatron::registerPasses();
  return galvatron::runDriver(argc, argv, registry);
}
