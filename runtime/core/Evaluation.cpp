//===- Evaluation.cpp - the loss on data that are not trained on ---------------------------------===//
#include "runtime/core/Evaluation.h"
#include "runtime/core/Ends.h"
#include "runtime/core/Pass.h"

#include <algorithm>
#include <cmath>

namespace galvatron {

/// The last batch of an epoch may be filled up with rows without labels, where the program knows of such.
Status Evaluation::checkLastBatch(int64_t samples) const {
  if (samples % manifest.globalBatch == 0 || (manifest.readsTokens() && manifest.takesIgnoredLabels()))
    return Status::success();
  if (!manifest.readsTokens())
    return Status::error("--eval-batches 0 takes each of the ", samples, " samples once, which batches of ",
                         manifest.globalBatch, " do not divide; say how many batches");
  return Status::error("--eval-batches 0 fills the last batch of ", samples,
                       " samples up with rows without labels, but this program takes it that all positions have one; "
                       "import it again with --labels next or --documents, or say how many batches");
}

Status Evaluation::checkProgram() const {
  if (!isAskedFor())
    return Status::success();
  return program.evaluation ? timetable.check()
                            : Status::error("this program has no list of forwards to evaluate by; compile it again");
}

Status Evaluation::open(std::vector<std::string> &warnings) {
  if (!isAskedFor())
    return Status::success();
  const char *flag = options.evalOnly ? "--eval-only" : "--eval-every";
  bool isShare = options.evalData.empty();
  bool hasShare = options.shares.size() > 1 && options.shares[1] > 0;
  if (isShare && !hasShare)
    return Status::error(flag,
                         " has no data to evaluate: give them with --eval-data, or a second share of indexed data "
                         "with --split, as in --split 949,50,1");
  bool isEpoch = options.evalBatches == 0;
  int64_t samples = options.evalBatches.value_or(kDefaultBatches) * manifest.globalBatch;
  DataSource source(world, manifest, options, context.seed);
  Status status = source.open({isShare ? options.data : options.evalData, options.evalLabels,
                               isShare ? Share::Evaluation : Share::All, isEpoch ? -1 : samples, /*shuffle=*/false,
                               isShare ? "--data" : "--eval-data", "--eval-labels"});
  if (!source.getWarning().empty())
    warnings.push_back(source.getWarning());
  if (!status.ok())
    return status;
  if (isShare && source.getOrder().samples != "gpt")
    return Status::error(flag, " has no data to evaluate: --split is for --samples gpt, but these samples are ",
                         source.getOrder().samples, "; give them with --eval-data");
  auto read = source.samples();
  if (isEpoch)
    samples = read->numInEpoch();
  if (isEpoch && samples < manifest.globalBatch)
    return Status::error("the data to evaluate have ", samples, " samples, but one batch needs ", manifest.globalBatch,
                         "; use more data or a smaller --global-batch");
  if (status = checkLastBatch(samples); !status.ok())
    return status;
  numBatches = (samples + manifest.globalBatch - 1) / manifest.globalBatch;
  warnOfRounds(*read, warnings);
  batches.emplace(manifest, read, source.rules(), numBatches * manifest.globalBatch, samples);
  data = source.describe();
  return read->check(0, samples, world.rank(), world.size());
}

/// gpt's order is made for so many samples, and tells its epochs itself.
void Evaluation::warnOfRounds(const Samples &samples, std::vector<std::string> &warnings) const {
  int64_t wanted = numBatches * manifest.globalBatch, there = samples.numInEpoch();
  if (!options.evalBatches.value_or(kDefaultBatches) || there == 0 || wanted <= there)
    return;
  warnings.push_back("--eval-batches " + std::to_string(numBatches) + " takes " + std::to_string(wanted) +
                     " samples, but the data to evaluate have " + std::to_string(there) +
                     ", so some count more than once; " +
                     (there < manifest.globalBatch
                          ? "give more data to evaluate, or compile for a smaller --global-batch"
                          : "give at most " + std::to_string(there / manifest.globalBatch) +
                                ", or 0, which takes each once"));
}

void Evaluation::warnOfNone(int64_t first, int64_t last, std::vector<std::string> &warnings) const {
  if (options.evalEvery > 0 && last / options.evalEvery == (first - 1) / options.evalEvery)
    warnings.push_back("--eval-every " + std::to_string(options.evalEvery) + " evaluates after none of the steps " +
                       std::to_string(first) + " to " + std::to_string(last) +
                       "; give a smaller number, or leave it out");
}

std::string Evaluation::describe() const {
  return std::to_string(numBatches) + (numBatches == 1 ? " batch of " : " batches of ") + data;
}

void Evaluation::fill(char *arena, int64_t batch) {
  int64_t first = batch * manifest.globalBatch;
  Status status;
  if (!isDumped && !options.dumpBatches.empty() && world.rank() == 0)
    status = batches->dump(options.dumpBatches, "evaluation", batch + 1, first);
  if (status.ok())
    status = batches->fill(context, device, arena, first);
  if (!status.ok())
    context.onFailure(&context, "rank " + std::to_string(context.rank) + ": " + status.message);
}

std::optional<double> Evaluation::run(char *arena, int64_t &wantedEnd) {
  struct Sums {
    double loss, labels;
    int64_t wantedEnd;
  };
  double loss = 0, labels = 0;
  int64_t numDone = 0;
  context.isEvaluating = true;
  for (int64_t batch = 0; batch < numBatches; ++batch) {
    fill(arena, batch);
    runPass(context, device, timetable, arena, /*rate=*/0);
    Sums own{ownLoss(context, device, manifest, arena), ownLabels(context, device, manifest, arena), signalThatCame()};
    Sums total{0, -1, kNoEnd};
    for (const Sums &rank : world.gather(own))
      total = {total.loss + rank.loss, std::max(total.labels, rank.labels), std::max(total.wantedEnd, rank.wantedEnd)};
    // It need not come to its end where the run is to.
    if ((wantedEnd = total.wantedEnd) != kNoEnd && batch + 1 < numBatches)
      break;
    // Where no sum over labels is made, all positions have one.
    double weight = total.labels < 0 ? 1 : total.labels;
    loss += weight > 0 ? total.loss * weight : 0;
    labels += weight;
    ++numDone;
  }
  context.isEvaluating = false;
  isDumped = true;
  return numDone < numBatches ? std::nullopt : std::optional(loss / labels);
}

} // namespace galvatron
