// The text of ops that are functions with a body (layers, bodies, runtime functions): as func.func's, without
// variadics.
#ifndef GALVATRON_DIALECTS_FUNCTIONSYNTAX_H
#define GALVATRON_DIALECTS_FUNCTIONSYNTAX_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/FunctionImplementation.h"

namespace galvatron {

/// `@name(%argument: type {attributes}, …) -> results attributes {…} { body }`
template <typename FunctionOp>
mlir::ParseResult parseFunction(mlir::OpAsmParser &parser, mlir::OperationState &result) {
  auto buildType = [](mlir::Builder &builder, llvm::ArrayRef<mlir::Type> arguments, llvm::ArrayRef<mlir::Type> results,
                      mlir::function_interface_impl::VariadicFlag,
                      std::string &) { return builder.getFunctionType(arguments, results); };
  return mlir::function_interface_impl::parseFunctionOp(
      parser, result, /*allowVariadic=*/false, FunctionOp::getFunctionTypeAttrName(result.name), buildType,
      FunctionOp::getArgAttrsAttrName(result.name), FunctionOp::getResAttrsAttrName(result.name));
}

template <typename FunctionOp> void printFunction(mlir::OpAsmPrinter &printer, FunctionOp op) {
  mlir::function_interface_impl::printFunctionOp(printer, op, /*isVariadic=*/false, op.getFunctionTypeAttrName(),
                                                 op.getArgAttrsAttrName(), op.getResAttrsAttrName());
}

} // namespace galvatron

#endif // GALVATRON_DIALECTS_FUNCTIONSYNTAX_H
