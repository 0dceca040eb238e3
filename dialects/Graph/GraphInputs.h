//===- GraphInputs.h - what the step reads --------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHINPUTS_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHINPUTS_H

#include "runtime/api/InputNames.h"

#include "mlir/IR/BuiltinOps.h"

namespace galvatron::graph {

using galvatron::kInputNames;
/// On a module whose `@step` reads other data than tokens: what each of its arguments is, in order, as dictionaries.
/// `name` is that of the module's forward and of the data's files; `type`, set with the layers, the argument's, a whole
/// batch in fp32; `below`, of integers, a number that all of them are below, where a table or classes say so, but
/// for labels that are `ignored`.
inline constexpr llvm::StringLiteral kInputsAttr = "graph.inputs";
inline constexpr llvm::StringLiteral kInputNameKey = "name", kInputTypeKey = "type", kInputBelowKey = "below",
                                     kInputIgnoredKey = "ignored";
/// On a module whose `@step` has the last two of them.
inline constexpr llvm::StringLiteral kPackedAttr = "graph.packed";
/// On a module whose positions a plan has padded: to how many. `graph.seq` stays what rows of data have.
inline constexpr llvm::StringLiteral kPaddedSeqAttr = "graph.padded_seq";
/// On a module whose labels the reader may shift instead of `@step`, as galvatron-import --labels next says.
inline constexpr llvm::StringLiteral kNextLabelsAttr = "graph.next_labels";
/// On a module whose labels are read as they come: what each position is to predict, this number where nothing.
inline constexpr llvm::StringLiteral kIgnoredLabelAttr = "graph.ignored_label";

/// On a module whose data may say of any label that it does not count, so that the number of those that do is found in
/// each batch.
inline constexpr llvm::StringLiteral kCountsLabelsAttr = "graph.counts_labels";

/// What an argument of `@step` is called.
std::string getInputName(mlir::ModuleOp module, unsigned argument);

/// The shape of what a step is given for an input [batch, positions]: without the padding, which is 0.
llvm::SmallVector<int64_t> getDataShape(mlir::ModuleOp module, llvm::ArrayRef<int64_t> shape);

} // namespace galvatron::graph

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHINPUTS_H
