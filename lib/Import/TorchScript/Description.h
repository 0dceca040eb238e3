// `galvatron.json` inside an exported archive: what a trace cannot hold (see galvatron/archive.py).
#ifndef GALVATRON_IMPORT_TORCHSCRIPT_DESCRIPTION_H
#define GALVATRON_IMPORT_TORCHSCRIPT_DESCRIPTION_H

#include "lib/Import/Program/Importer.h"

#include "mlir/IR/BuiltinAttributes.h"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace galvatron::importer {

/// A size that an import must have, as the exporter found.
struct Bound {
  std::string dimension; // "batch" or "seq", as the options are called, or of an input, as "pixel_values[2]"
  int64_t value = 0;
  std::string place, reason;
};

struct Description {
  /// False for a plain TorchScript file: names are then attribute paths, ties shared storage.
  bool present = false;
  bool weightless = false;
  /// Removed from the front of attribute paths.
  std::string prefix;
  int64_t exampleBatch = 0, exampleSeq = 0;
  /// What forward takes, as in the example; empty: input_ids and labels, and position_ids where its argument says so.
  std::vector<Importer::Input> inputs;
  bool countsLabels = false; // data may leave labels out
  std::vector<Bound> bounds;
  std::map<std::string, mlir::DictionaryAttr> inits; // by parameter name
  std::vector<std::vector<std::string>> ties;        // canonical name first
  std::set<std::string> frozen;                      // parameters without gradient
  std::vector<std::string> persistentBuffers;        // those that are in state_dict()
  std::string adapter;                               // the text of adapter.json; empty: none
  std::string config;                                // the text of config.json; empty: none
};

/// Reads the JSON text; throws ImportError naming what is wrong with it.
Description parseDescription(const std::string &text, mlir::MLIRContext &context);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_TORCHSCRIPT_DESCRIPTION_H
