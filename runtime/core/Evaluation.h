//===- Evaluation.h - the loss on data that are not trained on -----------------------------------===//
//
// Forwards alone, by the program's second list of entries, on the arena of training: no gradient, no update, dropout
// off. A batch's loss is its mean over labels, so batches weigh as many labels as they have.
//
//===----------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_EVALUATION_H
#define GALVATRON_RUNTIME_CORE_EVALUATION_H

#include "runtime/core/Timetable.h"
#include "runtime/core/World.h"
#include "runtime/data/Batches.h"
#include "runtime/data/DataSource.h"

#include <optional>

namespace galvatron {

class Evaluation {
public:
  /// All outlive the evaluation.
  Evaluation(const World &world, const Manifest &manifest, const gvrt_program &program, const Options &options,
             gvrt_context &context, const Device &device)
      : world(world), manifest(manifest), program(program), options(options), context(context), device(device),
        timetable(program, manifest, Timetable::evaluation(program)) {}

  bool isAskedFor() const { return options.evalEvery > 0 || options.evalOnly; }
  bool isDueAfter(int64_t step) const { return options.evalEvery > 0 && step % options.evalEvery == 0; }

  /// Whether the program can, if that is asked for.
  Status checkProgram() const;
  /// Collective, the same on every rank: the data; once the seed is known. Does nothing where no evaluation is asked
  /// for. Warnings are added to `warnings`.
  Status open(std::vector<std::string> &warnings);
  /// Adds a warning where none of these steps is evaluated, though that is asked for.
  void warnOfNone(int64_t first, int64_t last, std::vector<std::string> &warnings) const;
  /// For people.
  std::string describe() const;

  /// Collective: the mean loss over all labels of the batches, the same on every rank; nan where they have none. The
  /// first time, --dump-batches writes them too.
  /// None: it ended early, after some batch, as a signal came; `wantedEnd` says which (Ends.h).
  std::optional<double> run(char *arena, int64_t &wantedEnd);
  /// Gives back what it has of the device.
  void close() { batches.reset(); }

private:
  static constexpr int64_t kDefaultBatches = 10;

  Status checkLastBatch(int64_t samples) const;
  /// Adds a warning where the batches are more than the data have.
  void warnOfRounds(const Samples &samples, std::vector<std::string> &warnings) const;
  void fill(char *arena, int64_t batch);

  const World &world;
  const Manifest &manifest;
  const gvrt_program &program;
  const Options &options;
  gvrt_context &context;
  const Device &device;
  Timetable timetable;
  std::optional<Batches> batches;
  int64_t numBatches = 0;
  bool isDumped = false;
  std::string data; // for people
};

} // namespace galvatron

#endif
