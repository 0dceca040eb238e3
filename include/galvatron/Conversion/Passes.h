// Passes of lib/Conversion; their reference is Passes.td.
#ifndef GALVATRON_CONVERSION_PASSES_H
#define GALVATRON_CONVERSION_PASSES_H

#include "dialects/Exec/Exec.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"

namespace galvatron {

#define GEN_PASS_DECL
#include "galvatron/Conversion/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "galvatron/Conversion/Passes.h.inc"

} // namespace galvatron

#endif // GALVATRON_CONVERSION_PASSES_H
