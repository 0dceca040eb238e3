//===- Options.h - what a user may say to a stage binary ------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_OPTIONS_H
#define GALVATRON_RUNTIME_CORE_OPTIONS_H

#include "galvatron/Options/OptionTable.h"
#include "runtime/core/Status.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace galvatron {

struct Options {
  int64_t steps = 100;
  double lr = 1e-3, minLr = 0;
  std::string lrSchedule = "constant";
  int64_t wsdDecaySteps = 0; // of WSD; 0: not said
  std::string wsdDecay;      // of WSD; empty: not said, exponential
  int64_t warmup = 0;
  std::string optimizer = "adamw";
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weightDecay = 0;
  std::string weightDecayOn = "matrices";
  std::vector<std::string> noWeightDecay; // patterns of parameters' names
  double clipGrad = 0;
  std::string lossScale;                  // dynamic or a number; empty: dynamic where the program is of fp16
  double fixedLossScale = 0;              // the number; 0: dynamic
  std::optional<double> initialLossScale; // 65536
  std::optional<int64_t> lossScaleWindow; // 2000
  std::optional<uint64_t> seed;           // 0, or a checkpoint's
  std::vector<std::string> data;          // a file, prefixes, or a weight before each of them
  std::string dataDtype;
  std::vector<std::string> labels; // prefixes
  std::string samples;             // windows, gpt, row or packed; empty: by the data
  int64_t padToken = -1;           // 0 if not said
  std::optional<int64_t> dataSeed; // below 2^32; else `seed`
  std::string split;               // as written, of three numbers; empty: all is training data
  std::vector<double> shares;      // the numbers of `split`
  int64_t trainSamples = 0;        // 0: steps times global batch
  bool shuffle = false;
  bool resetAtDocuments = false;
  /// Whether rows may hold several documents.
  bool keepsDocuments() const { return resetAtDocuments || samples == "packed"; }
  int64_t eod = -1;                              // a token without label, which ends a document; -1: not said
  int64_t evalEvery = 0;                         // steps; 0: never
  std::vector<std::string> evalData, evalLabels; // as `data` and `labels`; no data: of `split`
  std::optional<int64_t> evalBatches;            // 0: an epoch
  bool evalOnly = false;
  std::string weights, save, load, dumpGradients, dumpBatches, log, events, tensorboard, trace;
  int64_t traceFirst = 0, traceLast = 0; // steps; 0: as Trace.h chooses
  int64_t saveEvery = 0;                 // 0: at the end
  int64_t keep = 0;                      // 0: all
  int64_t shardBytes = 5'000'000'000;
  double maxSeconds = 0;           // 0: no end but --steps
  double timeout = 600;            // seconds; 0: none
  int64_t restarts = 0;            // for `launch`
  int64_t restarted = 0;           // how often `launch` has gone on before; 0: this is the first start
  double spent = 0;                // seconds since then
  std::set<std::string> overrides; // what a checkpoint may differ in: words of DataOrder.h
  std::string saveFrozen; // yes or no; empty: by the model
  bool saveSync = false;
  std::string onNan = "stop"; // or skip, rewind
  int64_t nanLimit = 3;       // bad steps in a row that end the run
  bool shareGpus = false;
  bool quiet = false, help = false, version = false;

  /// Reads argv[1] …; on failure `options` is unspecified.
  static Status parse(int argc, const char *const *argv, Options &options);
  /// Whether what is said of evaluation, and of the learning rate, fits together.
  Status checkEvaluation() const;
  Status checkSchedule() const;
  /// What decides how a step moves parameters, by flag, as the user would write it: the optimizer with its numbers,
  /// clipping and learning rates; --steps where these depend on it. Not what another option leaves without effect.
  std::map<std::string, std::string> updateSettings() const;
  /// What launch and stage binaries take, for people and shells.
  static const options::Tool &commandLine();
};

} // namespace galvatron

#endif
