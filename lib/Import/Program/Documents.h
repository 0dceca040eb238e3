// Rows that hold several documents: how modules find where these begin.
#ifndef GALVATRON_IMPORT_PROGRAM_DOCUMENTS_H
#define GALVATRON_IMPORT_PROGRAM_DOCUMENTS_H

#include "mlir/IR/Value.h"

namespace galvatron::importer {

/// Whether the running sum along a row of `x` numbers the documents from 0: x is true where `positions` [batch, seq] do
/// not go on by one, as transformers' `find_packed_sequence_indices` asks.
bool countsDocuments(mlir::Value x, mlir::Value positions);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_PROGRAM_DOCUMENTS_H
