// Every pass in order: the table of contents of the compiler. One function per phase, a reason
// beside each addPass, the phase's verify pass last.
#include "galvatron/Pipelines/Pipelines.h"

#include "galvatron/Transforms/Passes.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

void galvatron::registerPasses() {
  registerGalvatronTransformsPasses();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mlir::registerSymbolDCEPass();
}
