// The importer: an exported module in, graph dialect and safetensors out.
#ifndef GALVATRON_IMPORT_IMPORT_H
#define GALVATRON_IMPORT_IMPORT_H

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace galvatron {

struct ImportOptions {
  /// TorchScript archive, as `python -m galvatron.export` writes it.
  std::string input;
  /// The `.mlir` file; weights go beside it as `.safetensors`, shards as the folder `.weights`. All appear whole or not at all.
  std::string output;
  /// Safetensors for an archive without weights: a file, or a folder of them; they are linked beside the output.
  std::string weights;
  /// Extents of the inputs [batch, seq]; 0 takes those of the trace's example.
  int64_t batch = 0, seq = 0;
  /// Of named inputs, the extents behind the batch.
  std::map<std::string, std::vector<int64_t>> shapes;
  /// Patterns (fnmatch) of names of parameters that are not trained, beside those that the module has frozen.
  std::vector<std::string> freeze;
  /// The label of a position is the window's next token, instead of its own: for models that do not shift.
  bool labelsAreNext = false;
  /// Rows hold several documents, of which the model knows nothing: the program has the inputs `positions` and
  /// `documents` in place of its own positions.
  bool hasDocuments = false;
};

/// Imports a model. Returns false and one sentence in `error` that names what is wrong and what to do; what is
/// suspicious, but no error, goes to `warnings`.
bool importModel(const ImportOptions &options, std::string &error, std::vector<std::string> &warnings);

/// The whole of galvatron-import, `main`'s result included.
int runImportTool(int argc, char **argv);

} // namespace galvatron

#endif // GALVATRON_IMPORT_IMPORT_H
