// What galvatron-profile knows a layer's bodies by: its shape and code, whatever the model around it is.
#ifndef GALVATRON_COSTS_LAYERHASH_H
#define GALVATRON_COSTS_LAYERHASH_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

#include <string>

namespace galvatron {

/// By the name of each layer of a module after phase differentiate, 16 hexadecimal digits (FNV-1a) of its ops, types
/// and what they say, and of the compiler's version. Equal for another number of samples or length of the sequence, as
/// prices are interpolated in these: extents of the axes batch and seq count as such, unless they are 1, when they are
/// no axes. Neither names, places nor initial values count, nor what constants hold.
llvm::StringMap<std::string> hashLayers(mlir::ModuleOp module);

/// The digits of any text.
std::string hashText(llvm::StringRef text);

} // namespace galvatron

#endif // GALVATRON_COSTS_LAYERHASH_H
