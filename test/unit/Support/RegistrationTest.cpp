// The tools' registry loads what it promises.
#include "galvatron/Pipelines/Pipelines.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>

TEST(Registration, OwnDialectsLoad) {
  mlir::DialectRegistry registry;
  galvatron::registerDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  for (const char *name : {"graph", "plan", "dist", "exec"})
    EXPECT_NE(context.getOrLoadDialect(name), nullptr) << name;
}
