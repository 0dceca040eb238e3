// Passes that keep to one dialect or go between ours; each is lib/Transforms/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_PASSES_TD
#define GALVATRON_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Phase import
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase differentiate
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase plan
//===----------------------------------------------------------------------===//

def AnnotatePlanPass : Pass<"galvatron-annotate-plan", "mlir::ModuleOp"> {
  let summary = "Writes a plan that the user gives on the model's layers";
  let description = [{
    The plan is a file, in this project's format or in Hetu-Galvatron's, or, without `plan`, one
    strategy for all units, made from the degrees given as options; then stages get equal numbers of
    layers (the remainder goes to the last), the first stage what reads data and the last the loss.

    **Before:** the contract of phase `import` or `differentiate`; `graph.batch` is the plan's.
    **After:** `plan.pipeline` on the module, `plan.strategy` and `plan.stage` on each `graph.call`.
    **Example:** with `dp=2 micro-batches=2`

    ```mlir
    module attributes {graph.batch = 4 : i64} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    **Fails when:** the file cannot be read or is not a plan of this model (unknown key, wrong number
    of layers, a degree that does not divide ranks or batch); it asks for what the lowering lacks.
  }];
  let options = [
    Option<"planFile", "plan", "std::string", /*default=*/"", "Plan file; empty: a uniform plan from the degrees below">,
    Option<"ranks", "ranks", "int64_t", /*default=*/"0", "Ranks that the plan must use; 0: as many as it says">,
    Option<"pp", "pp", "int64_t", /*default=*/"1", "Pipeline stages of the uniform plan">,
    Option<"tp", "tp", "int64_t", /*default=*/"1", "Tensor parallel degree of the uniform plan">,
    Option<"dp", "dp", "int64_t", /*default=*/"1", "Data parallel degree of the uniform plan">,
    Option<"microBatches", "micro-batches", "int64_t", /*default=*/"1", "Micro-batches of the uniform plan">,
    Option<"schedule", "schedule", "std::string", /*default=*/"\"1f1b\"", "Schedule of the uniform plan: gpipe or 1f1b">,
    Option<"recompute", "recompute", "bool", /*default=*/"false", "Whether layers of the uniform plan recompute">,
  ];
  let statistics = [Statistic<"numUnits", "num-units", "Units that were given a strategy">];
  let dependentDialects = ["::galvatron::plan::PlanDialect"];
}

def VerifyPlanPass : Pass<"galvatron-verify-plan", "mlir::ModuleOp"> {
  let summary = "Verifies that every layer has one legal strategy";
  let description = [{
    The contract of phase `plan`, whoever wrote the attributes.

    **Before:** `plan.pipeline` on the module, `plan.strategy` and `plan.stage` on each `graph.call`.
    **After:** unchanged. Degrees multiply to the stage's devices, data-parallel degrees divide the
    micro-batch, stages rise one by one from 0 and none is empty, and the lowering can run it all.
    **Example:**

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    **Fails when:** an attribute is missing, a degree does not divide, or a strategy is not supported.
  }];
  let statistics = [Statistic<"numUnits", "num-units", "Units that were verified">];
}

//===----------------------------------------------------------------------===//
// Phase shard
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase stage
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase lower
//===----------------------------------------------------------------------===//


#endif // GALVATRON_TRANSFORMS_PASSES_TD
