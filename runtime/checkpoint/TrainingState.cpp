//===- TrainingState.cpp - how far a run is, and what training.json says of it -----------------===//
#include "runtime/checkpoint/TrainingState.h"
#include "galvatron/Support/Json.h"

#include <algorithm>
#include <limits>

using nlohmann::json;

namespace galvatron {
namespace {

/// Far beyond any run, and small enough that sums and products with numbers of windows do not overflow.
constexpr int64_t kMaxCount = 1'000'000'000'000'000;
constexpr int64_t kMaxExtent = 1'000'000'000;

/// Reads keys of an object until one is wrong.
class Fields {
public:
  Fields(const json &object, std::string prefix, Status &status)
      : object(object), prefix(std::move(prefix)), status(status) {}

  bool has(const char *key) const { return object.contains(key); }

  /// A whole number from `low` to `high`, not negative; without the key, `out` stays where that `mayLack`.
  template <typename T> void number(const char *key, T &out, T low, T high, bool mayLack = false) {
    const json *value = find(key, mayLack);
    if (!value)
      return;
    // One with a sign, a fraction or beyond 64 bits is no unsigned number to the parser.
    bool isInside = value->is_number_unsigned() && value->get<uint64_t>() >= (uint64_t)low &&
                    value->get<uint64_t>() <= (uint64_t)high;
    if (!isInside)
      return fail(key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high), *value);
    out = value->get<T>();
  }

  void flag(const char *key, bool &out, bool mayLack = false) {
    const json *value = find(key, mayLack);
    if (value && !value->is_boolean())
      return fail(key, "true or false", *value);
    if (value)
      out = value->get<bool>();
  }

  void text(const char *key, std::string &out) {
    const json *value = find(key, false);
    if (value && (!value->is_string() || value->get_ref<const std::string &>().empty()))
      return fail(key, "a text", *value);
    if (value)
      out = value->get<std::string>();
  }

  /// 16 hexadecimal digits, or nothing.
  void hash(const char *key, std::string &out, bool mayLack = false) {
    const json *value = find(key, mayLack);
    if (!value)
      return;
    std::string text = value->is_string() ? value->get<std::string>() : "?";
    if (text.find_first_not_of("0123456789abcdef") != std::string::npos || (text.size() != 16 && !text.empty()))
      return fail(key, "16 hexadecimal digits", *value);
    out = text;
  }

  /// A number above 0.
  void share(const char *key, double &out) {
    const json *value = find(key, false);
    if (value && !(value->is_number() && value->get<double>() > 0))
      return fail(key, "a number above 0", *value);
    if (value)
      out = value->get<double>();
  }

  void texts(const char *key, std::map<std::string, std::string> &out) {
    const json *value = find(key, true);
    if (!value)
      return;
    if (!value->is_object())
      return fail(key, "an object of texts", *value);
    for (const auto &[name, entry] : value->items()) {
      if (!entry.is_string())
        return fail(key, "an object of texts", *value);
      out[name] = entry.get<std::string>();
    }
  }

  /// Ascending [first, count] below `end`.
  void ranges(const char *key, int64_t end, std::vector<std::pair<int64_t, int64_t>> &out) {
    const json *value = find(key, true);
    if (!value)
      return;
    bool good = value->is_array();
    int64_t from = 0;
    for (size_t i = 0; good && i < value->size(); ++i) {
      const json &pair = (*value)[i];
      good = pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() && pair[1].is_number_unsigned();
      good = good && pair[0] >= from && pair[0] <= end && pair[1] <= end - pair[0].get<int64_t>();
      if (good) {
        out.push_back({pair[0], pair[1]});
        from = out.back().first + out.back().second;
      }
    }
    if (!good)
      fail(key, "pairs of a first sample and a number of them, ascending and below samples", *value);
  }

  void fail(const char *key, const std::string &expected, const json &value) {
    constexpr size_t kShown = 60;
    std::string got = value.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
    if (got.size() > kShown)
      got = got.substr(0, kShown) + "...";
    if (status.ok())
      status = Status::error("expects ", prefix, key, " to be ", expected, ", but got ", got);
  }

private:
  const json *find(const char *key, bool mayLack) {
    if (!status.ok())
      return nullptr;
    auto found = object.find(key);
    if (found == object.end() && !mayLack)
      status = Status::error("it lacks ", prefix, key);
    return found == object.end() ? nullptr : &*found;
  }

  const json &object;
  std::string prefix; // of keys in messages
  Status &status;
};

json toJson(const DatasetOrder &dataset) {
  return {{"prefix", dataset.name},
          {"bytes", dataset.bytes},
          {"sequences", dataset.sequences},
          {"tokens", dataset.tokens},
          {"weight", dataset.weight},
          {"epochs", dataset.epochs},
          {"last_apart", dataset.isLastApart},
          {"contents", dataset.contents}};
}

void readDatasets(const json &object, Fields &fields, Status &status, DataOrder &data) {
  fields.number<uint64_t>("data_seed", data.seed, 0, std::numeric_limits<uint64_t>::max());
  if (auto split = object.find("split"); split != object.end() && !split->is_null())
    fields.text("split", data.split);
  const json &list = object.at("data");
  if (!list.is_array() || list.empty())
    return fields.fail("data", "a list of datasets", list);
  for (const json &entry : list) {
    if (!entry.is_object())
      return fields.fail("data", "a list of datasets", list);
    DatasetOrder &dataset = data.datasets.emplace_back();
    Fields inner(entry, "data.", status);
    inner.text("prefix", dataset.name);
    inner.number<int64_t>("bytes", dataset.bytes, 1, kMaxCount);
    inner.number<int64_t>("sequences", dataset.sequences, 1, kMaxCount);
    inner.number<int64_t>("tokens", dataset.tokens, 1, kMaxCount);
    inner.share("weight", dataset.weight);
    inner.number<int64_t>("epochs", dataset.epochs, 1, kMaxCount);
    inner.flag("last_apart", dataset.isLastApart);
    inner.hash("contents", dataset.contents, /*mayLack=*/true);
  }
}

void readData(const json &object, Fields &fields, Status &status, DataOrder &data) {
  fields.flag("shuffle", data.shuffle);
  fields.number<int64_t>("sequence", data.sequence, 1, kMaxExtent);
  if (auto eod = object.find("eod"); eod != object.end() && !eod->is_null())
    fields.number<int64_t>("eod", data.eod, 0, kMaxCount);
  data.resets = data.eod >= 0;
  fields.flag("reset_at_documents", data.resets, /*mayLack=*/true);
  if (fields.has("sample_order"))
    fields.text("sample_order", data.samples);
  if (status.ok() && data.samples != "windows" && data.samples != "folder" && data.samples != "gpt" &&
      data.samples != "row" && data.samples != "packed")
    fields.fail("sample_order", "gpt, row, packed or folder", data.samples);
  if (!data.isPlain())
    return readDatasets(object, fields, status, data);
  const json &file = object.at("data");
  if (file.is_null())
    return;
  if (!file.is_object())
    return fields.fail("data", "null or an object", file);
  Fields inner(file, "data.", status);
  inner.text("file", data.file);
  inner.number<int64_t>("bytes", data.bytes, 1, kMaxCount);
  inner.number<int64_t>("tokens", data.tokens, 1, kMaxCount);
  inner.hash("contents", data.contents, /*mayLack=*/true);
  inner.number<int64_t>("origin", data.origin, 0, data.sequence - 1, /*mayLack=*/true);
}

void readIdentity(const json &object, Fields &fields, Status &status, TrainingState &training) {
  if (fields.has("precision"))
    fields.text("precision", training.precision);
  if (auto model = object.find("model"); model != object.end()) {
    if (!model->is_object())
      return fields.fail("model", "an object", *model);
    Fields inner(*model, "model.", status);
    inner.hash("hash", training.model.hash);
    inner.number<int64_t>("tensors", training.model.tensors, 0, kMaxCount);
    inner.number<int64_t>("elements", training.model.elements, 0, kMaxCount);
    inner.hash("frozen", training.model.frozen, /*mayLack=*/true);
  }
  auto list = object.find("overridden");
  if (list == object.end())
    return;
  if (!list->is_array())
    return fields.fail("overridden", "a list of differences", *list);
  for (const json &entry : *list) {
    if (!entry.is_object())
      return fields.fail("overridden", "a list of differences", *list);
    Overridden &one = training.overridden.emplace_back();
    Fields inner(entry, "overridden.", status);
    inner.number<int64_t>("step", one.step, 0, kMaxCount);
    inner.text("word", one.word);
    inner.text("difference", one.text);
  }
}

void readLossScale(Fields &fields, TrainingState &training) {
  if (!fields.has("loss_scale"))
    return;
  double scale = 1;
  LossScaleState &state = training.lossScale.emplace();
  fields.share("loss_scale", scale);
  fields.number<int64_t>("loss_scale_steps", state.steps, 0, kMaxCount);
  state.scale = (float)std::clamp<double>(scale, std::numeric_limits<float>::min(), std::numeric_limits<float>::max());
}

} // namespace

void TrainingState::skip(int64_t first, int64_t count) {
  if (!skipped.empty() && skipped.back().first + skipped.back().second == first)
    skipped.back().second += count;
  else
    skipped.push_back({first, count});
}

void TrainingState::goOnBehind(const RunSetting &own, int64_t next) {
  static_cast<RunSetting &>(*this) = own;
  skip(samples, next - samples);
  leftOut += next - samples;
  samples = next;
}

std::string TrainingState::toText() const {
  json text = {{"format", 2},        {"step", step},       {"updates", updates},          {"optimizer", optimizer},
               {"seed", seed},       {"samples", samples}, {"global_batch", globalBatch}, {"settings", settings},
               {"skipped", skipped}, {"left_out", leftOut}};
  if (!precision.empty())
    text["precision"] = precision;
  if (!model.hash.empty())
    text["model"] = {{"hash", model.hash}, {"tensors", model.tensors}, {"elements", model.elements}};
  if (!model.frozen.empty())
    text["model"]["frozen"] = model.frozen;
  for (const Overridden &one : overridden)
    text["overridden"].push_back({{"step", one.step}, {"word", one.word}, {"difference", one.text}});
  if (lossScale) {
    text["loss_scale"] = lossScale->scale;
    text["loss_scale_steps"] = lossScale->steps;
  }
  if (data) {
    text["shuffle"] = data->shuffle;
    text["sequence"] = data->sequence;
    text["eod"] = data->eod < 0 ? json() : json(data->eod);
    text["reset_at_documents"] = data->resets;
    text["data"] = nullptr; // random tokens
    if (!data->isWindows())
      text["sample_order"] = data->samples;
    if (!data->isPlain()) {
      text["data_seed"] = data->seed;
      text["split"] = data->split.empty() ? json() : json(data->split);
      text["data"] = json::array();
      for (const DatasetOrder &dataset : data->datasets)
        text["data"].push_back(toJson(dataset));
    } else if (!data->isRandom())
      text["data"] = {{"file", data->file},
                      {"bytes", data->bytes},
                      {"tokens", data->tokens},
                      {"contents", data->contents},
                      {"origin", data->origin}};
  }
  return text.dump(2) + "\n";
}

Status TrainingState::parse(const std::string &text, TrainingState &training) {
  std::string why;
  std::optional<json> parsed = parseJson(text, "it", why);
  if (!parsed)
    return Status::error(why);
  const json &object = *parsed;
  if (!object.is_object())
    return Status::error("it is no JSON object");
  training = {};
  Status status;
  Fields fields(object, "", status);
  if (auto format = object.find("format"); format != object.end() && *format != 1 && *format != 2)
    fields.fail("format", "1 or 2", *format);
  fields.number<int64_t>("step", training.step, 0, kMaxCount);
  training.updates = training.step;
  fields.number<int64_t>("updates", training.updates, 0, training.step, /*mayLack=*/true);
  fields.text("optimizer", training.optimizer);
  if (status.ok() && training.optimizer != "adamw" && training.optimizer != "sgd")
    fields.fail("optimizer", "adamw or sgd", training.optimizer);
  fields.number<uint64_t>("seed", training.seed, 0, std::numeric_limits<uint64_t>::max(), /*mayLack=*/true);
  fields.number<int64_t>("samples", training.samples, 0, kMaxCount, /*mayLack=*/true);
  fields.number<int64_t>("global_batch", training.globalBatch, 0, kMaxExtent, /*mayLack=*/true);
  fields.texts("settings", training.settings);
  readIdentity(object, fields, status, training);
  fields.ranges("skipped", training.samples, training.skipped);
  fields.number<int64_t>("left_out", training.leftOut, 0, training.samples, /*mayLack=*/true);
  readLossScale(fields, training);
  if (!status.ok() || !fields.has("shuffle") || !fields.has("sequence") || !fields.has("data"))
    return status;
  DataOrder &data = training.data.emplace();
  data.seed = training.seed;
  readData(object, fields, status, data);
  int64_t tokens;
  if (status.ok() && __builtin_mul_overflow(training.samples, data.sequence, &tokens))
    fields.fail("samples", "as few as make less than 2^63 tokens", training.samples);
  return status;
}

} // namespace galvatron
