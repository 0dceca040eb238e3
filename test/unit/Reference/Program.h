// Programs as text, for the evaluator's tests.
#ifndef GALVATRON_TEST_UNIT_REFERENCE_PROGRAM_H
#define GALVATRON_TEST_UNIT_REFERENCE_PROGRAM_H

#include "galvatron/Pipelines/Pipelines.h"
#include "galvatron/Reference/Evaluator.h"
#include "galvatron/Transforms/Passes.h"
#include "runtime/api/CounterRandom.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

namespace galvatron::reference {

/// A module with a context of its own.
struct Program {
  mlir::DialectRegistry registry;
  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> module;

  explicit Program(const std::string &text) {
    registerDialects(registry);
    context = std::make_unique<mlir::MLIRContext>(registry, mlir::MLIRContext::Threading::DISABLED);
    module = mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(context.get()));
    EXPECT_TRUE(module) << text;
  }

  /// Runs passes on the module, by their names: `a,b` or `builtin.module(a,b)`.
  bool run(llvm::StringRef pipeline) {
    registerPasses();
    mlir::PassManager manager(context.get());
    // The manager stands for builtin.module: named again, it would look for modules inside.
    if (pipeline.consume_front("builtin.module("))
      pipeline.consume_back(")");
    return succeeded(mlir::parsePassPipeline(pipeline, manager)) && succeeded(manager.run(*module));
  }

  std::vector<Tensor> call(llvm::StringRef name, llvm::ArrayRef<Tensor> inputs, llvm::ArrayRef<int64_t> mesh = {}) {
    auto result = evaluateFunction(module->lookupSymbol<mlir::func::FuncOp>(name), inputs, mesh);
    EXPECT_TRUE(succeeded(result));
    return succeeded(result) ? *result : std::vector<Tensor>();
  }
};

/// The errors of what an action does in a context, each with its notes after "; ".
template <typename Do> std::string errorsOf(mlir::MLIRContext *context, Do action) {
  std::string text;
  context->printOpOnDiagnostic(false);
  mlir::ScopedDiagnosticHandler handler(context, [&](mlir::Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != mlir::DiagnosticSeverity::Error)
      return;
    text += diagnostic.str();
    for (mlir::Diagnostic &note : diagnostic.getNotes())
      text += "; " + note.str();
  });
  action();
  return text;
}

inline Tensor tensor(llvm::ArrayRef<int64_t> shape, std::vector<double> values) {
  Tensor tensor(shape);
  tensor.data = std::move(values);
  return tensor;
}

/// Normal values with mean 0 and deviation 1, the same for the same name.
inline Tensor randomTensor(llvm::ArrayRef<int64_t> shape, llvm::StringRef name) {
  Tensor tensor(shape);
  random::Stream stream = random::initialStream(7, random::hashName(name.data(), name.size()));
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor[i] = stream.normal(i);
  return tensor;
}

} // namespace galvatron::reference

#endif // GALVATRON_TEST_UNIT_REFERENCE_PROGRAM_H
