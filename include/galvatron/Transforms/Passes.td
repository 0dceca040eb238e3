// Passes that keep to one dialect or go between ours; each is lib/Transforms/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_PASSES_TD
#define GALVATRON_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def VerifyNothingPass : Pass<"galvatron-verify-nothing", "mlir::ModuleOp"> {
  let summary = "Accepts every module; holds the place of the first real pass";
  let description = [{
    Shows the wiring of a pass. To be deleted with its test when the first real pass arrives.

    **Before:** any module.
    **After:** the same module.
    **Example:**

    ```mlir
    func.func @example() {
      return
    }
    ```

    ```mlir
    func.func @example() {
      return
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numOps", "num-ops", "Ops that were looked at">];
}

#endif // GALVATRON_TRANSFORMS_PASSES_TD
