// Which token each position is to predict. The runtime feeds a window's own tokens as labels, so somebody must move
// them: the model, as those of transformers do, or the import.
#ifndef GALVATRON_IMPORT_PROGRAM_LABELS_H
#define GALVATRON_IMPORT_PROGRAM_LABELS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>
#include <vector>

namespace galvatron::importer {

/// The labels [batch, seq] moved by one: that of a position is the next token of its window, the last one's is ignored.
mlir::Value moveLabels(mlir::OpBuilder &builder, mlir::Value labels);

/// Gives the last label of `moved` (what `moveLabels` made, or null) the index that the loss ignores; takes it out
/// where the model moves its labels itself. Returns warnings about losses that compare the logits of a position with
/// the token that the model reads there, and about labels that are moved twice. `isPacked`: some labels are -100, so
/// that every loss must ignore it. Throws ImportError where no loss reads the moved labels, or losses ignore different
/// indices.
///
/// `areLabelsCounted` becomes true where labels are read as they come and each position sees all of them: such models
/// predict what is masked, which labels alone say.
std::vector<std::string> checkLabels(mlir::func::FuncOp step, mlir::Value moved, bool isPacked, bool &areLabelsCounted);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_PROGRAM_LABELS_H
