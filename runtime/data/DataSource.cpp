//===- DataSource.cpp - the samples that options name -------------------------------------------===//
#include "runtime/data/DataSource.h"
#include "runtime/data/Fingerprint.h"
#include "runtime/data/NamedSamples.h"
#include "runtime/data/Windows.h"

#include <algorithm>
#include <filesystem>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

/// Of the words of --data: whether they name indexed data.
bool isIndexed(const std::vector<std::string> &words) {
  std::error_code ignored;
  return words.size() > 1 ||
         (words.size() == 1 && !fs::is_regular_file(words[0], ignored) && IndexedDataset::exists(words[0]));
}

std::string contentsOf(const std::string &prefix) { return fingerprint({prefix + ".bin", prefix + ".idx"}); }

/// Options of some ways to take samples, given to another.
Status checkSampleOptions(const Options &options, const std::string &samples) {
  struct Own {
    const char *flag;
    bool isGiven;
    std::vector<std::string> modes;
  };
  for (const Own &own : {Own{"--shuffle", options.shuffle && samples != "folder", {"windows", "row"}},
                         {"--data-dtype", !options.dataDtype.empty(), {"windows"}},
                         {"--data-seed", options.dataSeed.has_value(), {"gpt", "row"}},
                         {"--split", !options.split.empty(), {"gpt"}},
                         {"--train-samples", options.trainSamples > 0, {"gpt"}},
                         {"--labels", !options.labels.empty(), {"row", "packed"}},
                         {"--pad-token", options.padToken >= 0, {"row", "packed"}}})
    if (own.isGiven && std::find(own.modes.begin(), own.modes.end(), samples) == own.modes.end())
      return Status::error(own.flag, " is for --samples ", own.modes.front(),
                           own.modes.size() > 1 ? " and " + own.modes.back() : "", ", but these samples are ", samples,
                           "; leave it out");
  return Status::success();
}

} // namespace

Status DataSource::open(const Request &request) {
  Status status = world.agree(openWords(request));
  if (status.ok() && indexed)
    indexed->build(&world.host());
  return status;
}

Status DataSource::openWords(const Request &request) {
  const std::vector<std::string> &words = request.words;
  order.sequence = manifest.sequence;
  order.shuffle = request.shuffle;
  order.seed = seed;
  order.eod = options.eod;
  order.resets = options.keepsDocuments();
  std::error_code ignored;
  if (!manifest.readsTokens() || (words.size() == 1 && fs::is_directory(words[0], ignored)))
    return openNamed(request);
  bool areIndexed = isIndexed(words);
  order.samples = !options.samples.empty() ? options.samples : areIndexed ? "gpt" : "windows";
  if (!request.labels.empty() && order.samples != "row" && order.samples != "packed")
    return Status::error(request.labelsOption, " is for --samples row and packed, but these samples are ",
                         order.samples, "; leave it out");
  if (order.isWindows() && areIndexed)
    return Status::error("--samples windows reads one file, but ", request.dataOption,
                         " names indexed data; leave --samples out, or name one PREFIX.bin with its --data-dtype");
  if (!order.isWindows() && !areIndexed)
    return Status::error("--samples ", order.samples, " reads indexed data, but ", request.dataOption, " names ",
                         words.empty() ? "none" : words[0],
                         "; name the PREFIX of a PREFIX.bin and PREFIX.idx, which python -m galvatron.data writes");
  // Evaluation may take its samples otherwise.
  if (request.share == Share::Training)
    if (Status status = checkSampleOptions(options, order.samples); !status.ok())
      return status;
  text = "random tokens";
  Status status = areIndexed      ? openIndexed(request)
                  : words.empty() ? Status::success()
                                  : openFile(words[0]).about(request.dataOption);
  return status.ok() ? checkDocuments() : status;
}

/// What a folder has for a program: its fields, or tokens and labels as forward takes them.
static std::vector<data::Field> fieldsOf(const Manifest &manifest) {
  if (!manifest.readsTokens())
    return manifest.fields;
  data::Field ids = {"input_ids", false, {manifest.sequence}, manifest.vocabulary, {}}, labels = ids;
  labels.name = "labels";
  if (manifest.takesIgnoredLabels())
    labels.ignored = kIgnoredLabel;
  return {ids, labels};
}

Status DataSource::openNamed(const Request &request) {
  order.samples = "folder";
  for (auto [flag, isGiven] : {std::pair{"--samples", !options.samples.empty()},
                               {"--eod", options.eod >= 0},
                               {"--reset-at-documents", options.resetAtDocuments},
                               {request.labelsOption, !request.labels.empty()}})
    if (isGiven)
      return Status::error(flag, " is for files of tokens, but the data are a folder of named inputs; leave it out");
  if (request.share == Share::Training)
    if (Status status = checkSampleOptions(options, order.samples); !status.ok())
      return status;
  text = "random data";
  if (request.words.empty())
    return Status::success();
  if (request.words.size() > 1)
    return Status::error(request.dataOption, " of a program that reads named inputs is one folder, but got ",
                         request.words.size(), " words");
  std::string error;
  folder = data::Folder::open(request.words[0], fieldsOf(manifest), error);
  if (!folder)
    return Status::error(request.dataOption, ": ", error);
  order.file = fs::path(request.words[0]).lexically_normal().filename();
  order.bytes = folder->numBytes();
  order.tokens = folder->numSamples() * manifest.sequence;
  order.contents = fingerprint(folder->getFiles());
  text =
      request.words[0] + ", " + std::to_string(folder->numSamples()) + " samples" + (order.shuffle ? ", shuffled" : "");
  return Status::success();
}

Status DataSource::openFile(const std::string &name) {
  Status status = TokenFile::open(name, options.dataDtype, manifest.vocabulary, file.emplace(), warning);
  if (!status.ok())
    return status;
  order.file = fs::path(name).filename();
  order.bytes = file->numBytes();
  order.tokens = file->numTokens();
  order.contents = fingerprint({name});
  text = name + ", " + std::to_string(order.tokens) + " tokens of type " + file->type() +
         (order.shuffle ? ", shuffled" : "");
  return Status::success();
}

Status DataSource::openIndexed(const Request &request) {
  if (!manifest.ignoredLabel)
    return Status::error("--samples ", order.samples,
                         " gives each position its label, but this program shifts labels itself or does not shift "
                         "them, so it cannot take them; import it again with --labels next, or, where its loss shifts "
                         "labels in a way of its own, name one PREFIX.bin as a file");
  DataWords words;
  if (Status status = DataWords::parse(request.words, words, request.dataOption); !status.ok())
    return status;
  return order.samples == "gpt" ? openGpt(words, request) : openRows(words, request);
}

Status DataSource::openRows(const DataWords &words, const Request &wanted) {
  if (!words.weights.empty())
    return Status::error("--samples ", order.samples, " takes the sequences of ", wanted.dataOption,
                         " in order, which weights do not change; name the prefixes alone");
  if (options.padToken >= manifest.vocabulary)
    return Status::error("--pad-token ", options.padToken, " is no token of the vocabulary of ", manifest.vocabulary,
                         "; give one that is, it has no label anyway");
  RowSamples::Request request;
  request.data = words.prefixes;
  request.labels = wanted.labels;
  request.dataOption = wanted.dataOption;
  request.labelsOption = wanted.labelsOption;
  request.arePacked = order.samples == "packed";
  request.shuffle = wanted.shuffle;
  request.seed = order.seed = options.dataSeed ? uint64_t(*options.dataSeed) : seed;
  request.sequence = manifest.sequence;
  request.vocabulary = manifest.vocabulary;
  request.batch = manifest.globalBatch;
  request.padToken = std::max<int64_t>(options.padToken, 0);
  auto rows = std::make_shared<RowSamples>();
  indexed = rows;
  if (Status status = RowSamples::open(request, *rows); !status.ok())
    return status;
  for (const IndexedDataset &dataset : rows->getDatasets())
    order.datasets.push_back({fs::path(dataset.getPrefix()).filename(), dataset.numBytes(), dataset.numSequences(),
                              dataset.numTokens(0, dataset.numSequences()), 1, 1, false,
                              contentsOf(dataset.getPrefix())});
  text = rows->describe();
  return Status::success();
}

Status DataSource::openGpt(const DataWords &words, const Request &wanted) {
  order.seed = options.dataSeed ? uint64_t(*options.dataSeed) : seed;
  if (order.seed >= uint64_t(1) << 32)
    return Status::error("--seed ", order.seed, " cannot order samples, whose seeds are below 2^32; pass --data-seed");
  GptSamples::Request request;
  request.data = words;
  if (!options.split.empty() && wanted.share != Share::All)
    request.split = options.shares;
  request.share = wanted.share == Share::Evaluation;
  request.samples = wanted.count;
  request.sequence = manifest.sequence;
  request.vocabulary = manifest.vocabulary;
  request.batch = manifest.globalBatch;
  request.seed = order.seed;
  request.dataOption = wanted.dataOption;
  if (wanted.share != Share::Training)
    request.countOption = "--eval-batches";
  auto gpt = std::make_shared<GptSamples>();
  indexed = gpt;
  if (Status status = GptSamples::open(request, *gpt).about(wanted.dataOption); !status.ok())
    return status;
  order.split = options.split;
  for (const GptSamples::Dataset &dataset : gpt->getDatasets())
    order.datasets.push_back({fs::path(dataset.data.getPrefix()).filename(), dataset.data.numBytes(),
                              dataset.last - dataset.first, dataset.order.numTokens(), dataset.weight,
                              dataset.order.numEpochs(), dataset.order.isLastApart(),
                              contentsOf(dataset.data.getPrefix())});
  text = gpt->describe();
  return Status::success();
}

/// What --reset-at-documents and --eod need of the data and of the program.
Status DataSource::checkDocuments() const {
  if (order.resets && !manifest.isPacked)
    return Status::error(options.resetAtDocuments ? "--reset-at-documents" : "--samples packed",
                         " needs a program with the inputs positions and documents; import it "
                         "again with --documents, or of a module with position_ids as third input without");
  if (order.resets && options.eod < 0 && order.datasets.empty())
    return Status::error("--reset-at-documents needs to know where documents end, which only indexed data say "
                         "themselves; give --eod ID");
  if (options.eod >= manifest.vocabulary)
    return Status::error("--eod ", options.eod, " is no token of the vocabulary of ", manifest.vocabulary,
                         ", so no document would end; give the token that ends one");
  if (options.eod >= 0 && !manifest.takesIgnoredLabels())
    return Status::error("--eod leaves positions without a label, but this program takes it that all have one; import "
                         "it again with --labels next or --documents");
  return Status::success();
}

std::shared_ptr<const Samples> DataSource::samples() {
  if (indexed)
    return indexed;
  if (order.samples == "folder")
    return std::make_shared<NamedSamples>(manifest, std::move(folder), order);
  return std::make_shared<Windows>(manifest, std::move(file), order);
}

RowRules DataSource::rules() const {
  return {order.eod, order.resets, order.samples == "packed", manifest.ignoredLabel.has_value(),
          manifest.ignoredLabel.value_or(kIgnoredLabel)};
}

std::string DataSource::describe(std::optional<int64_t> next) const {
  int64_t size = order.numWindows();
  if (!next || size == 0 || order.shuffle || !order.isWindows())
    return text;
  return text + ", from token " + std::to_string(order.origin + *next % size * order.sequence) + " on";
}

} // namespace galvatron
