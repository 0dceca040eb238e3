//===- Options.cpp - reads and checks the command line -------------------------------------===//
#include "runtime/core/Options.h"
#include "runtime/data/TokenType.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

namespace galvatron {
namespace {

/// The table's row of a flag, or null.
const options::Option *findRow(const std::string &flag) {
  return options::findOption(Options::commandLine().options, flag);
}

template <typename T> bool parseNumber(const std::string &text, T &value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

using Setter = std::function<Status(const std::string &flag, const std::string &text)>;

Setter real(double &out, double low, double below, const char *range) {
  return [&out, low, below, range](const std::string &flag, const std::string &text) {
    if (!parseNumber(text, out) || !std::isfinite(out) || out < low || out >= below)
      return Status::error(flag, " expects a number ", range, ", but got '", text, "'");
    return Status::success();
  };
}

Setter integer(int64_t &out, int64_t low) {
  // Products with windows, tokens and ranks stay below 2^63.
  static constexpr int64_t kMost = 1'000'000'000'000;
  return [&out, low](const std::string &flag, const std::string &text) {
    if (!parseNumber(text, out) || out < low)
      return Status::error(flag, " expects a whole number from ", low, " on, but got '", text, "'");
    if (out > kMost)
      return Status::error(flag, " expects a whole number of at most ", kMost, ", but got '", text, "'");
    return Status::success();
  };
}

Setter text(std::string &out) {
  return [&out](const std::string &flag, const std::string &value) {
    out = value;
    return value.empty() ? Status::error(flag, " expects a name, but got nothing") : Status::success();
  };
}

/// A size in bytes with a unit, as transformers takes max_shard_size.
Setter size(int64_t &out) {
  return [&out](const std::string &flag, const std::string &value) {
    static const std::map<std::string, int64_t> units = {{"B", 1},
                                                         {"KB", 1'000},
                                                         {"MB", 1'000'000},
                                                         {"GB", 1'000'000'000},
                                                         {"TB", 1'000'000'000'000},
                                                         {"KiB", int64_t(1) << 10},
                                                         {"MiB", int64_t(1) << 20},
                                                         {"GiB", int64_t(1) << 30},
                                                         {"TiB", int64_t(1) << 40}};
    size_t digits = std::min(value.find_first_not_of("0123456789"), value.size());
    std::string unit = value.substr(digits);
    auto found = units.find(unit);
    if (!parseNumber(value.substr(0, digits), out) || out < 1 || found == units.end() ||
        __builtin_mul_overflow(out, found->second, &out))
      return Status::error(flag, " expects a size above 0 as in 5GB, 200MB or 64KiB, but got '", value, "'");
    return Status::success();
  };
}

using Words = std::vector<std::string>;

/// One of several, which the option takes one by one.
Setter names(Words &out) {
  return [&out](const std::string &flag, const std::string &value) {
    out.push_back(value);
    return value.empty() ? Status::error(flag, " expects a name, but got nothing") : Status::success();
  };
}

/// a, b or c
std::string listText(const Words &words, const char *last) {
  std::string list;
  for (size_t i = 0; i < words.size(); ++i)
    list += (i == 0 ? "" : i + 1 == words.size() ? std::string(" ") + last + " " : ", ") + words[i];
  return list;
}

bool contains(const Words &words, const std::string &word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// One of those that the table has.
Setter choice(std::string &out) {
  return [&out](const std::string &flag, const std::string &value) {
    Words choices = options::choices(*findRow(flag));
    out = value;
    return contains(choices, value)
               ? Status::success()
               : Status::error(flag, " expects ", listText(choices, "or"), ", but got '", value, "'");
  };
}

/// Names of options, or words for what the program fixes, with commas between them.
Status parseOverrides(Options &options, const std::string &flag, const std::string &text) {
  std::set<std::string> known = {"model", "precision", "batch", "seq", "documents", "all"};
  for (std::string flag : {
#define GROUP(title)
#define LAUNCH_OPTION(flags, value, help)
#define OPTION(flags, value, help) flags,
#include "runtime/core/Options.def"
#undef OPTION
#undef LAUNCH_OPTION
#undef GROUP
       })
    if (flag.starts_with("--"))
      known.insert(flag.substr(std::strlen("--")));
  std::istringstream rest(text + ",");
  for (std::string word; std::getline(rest, word, ',');) {
    if (!known.contains(word))
      return Status::error(flag,
                           " expects names of options, as lr, or model, precision, batch, seq, documents or all, "
                           "with commas between several, but got '",
                           word, "'");
    options.overrides.insert(word);
  }
  return Status::success();
}

/// Several, with commas between them.
Setter list(Words &out) {
  return [&out](const std::string &flag, const std::string &value) {
    std::istringstream rest(value);
    for (std::string word; std::getline(rest, word, ',');)
      if (!word.empty())
        out.push_back(word);
    return out.empty() ? Status::error(flag, " expects names, with commas between several, but got '", value, "'")
                       : Status::success();
  };
}

Status parseBetas(Options &options, const std::string &flag, const std::string &text) {
  size_t comma = text.find(',');
  constexpr const char *kRange = "from 0 to below 1";
  if (comma == std::string::npos)
    return Status::error(flag, " expects two numbers as in 0.9,0.999, but got '", text, "'");
  Status first = real(options.beta1, 0, 1, kRange)(flag, text.substr(0, comma));
  return first.ok() ? real(options.beta2, 0, 1, kRange)(flag, text.substr(comma + 1)) : first;
}

Status parseTraceSteps(Options &options, const std::string &flag, const std::string &text) {
  size_t colon = text.find(':');
  if (colon == std::string::npos || !parseNumber(text.substr(0, colon), options.traceFirst) ||
      !parseNumber(text.substr(colon + 1), options.traceLast) || options.traceFirst < 1 ||
      options.traceLast < options.traceFirst)
    return Status::error(flag, " expects the first and the last step as in 3:5, but got '", text, "'");
  return Status::success();
}

/// A scale that is a positive float, too.
bool parseScale(const std::string &text, double &scale) {
  return parseNumber(text, scale) && std::isfinite((float)scale) && (float)scale > 0;
}

Status parseLossScale(Options &options, const std::string &flag, const std::string &text) {
  options.lossScale = text;
  options.fixedLossScale = 0;
  if (text == "dynamic" || parseScale(text, options.fixedLossScale))
    return Status::success();
  return Status::error(flag, " expects dynamic or a number above 0, but got '", text, "'");
}

/// Up to three numbers; those that are not said are 0.
Status parseSplit(Options &options, const std::string &flag, const std::string &text) {
  std::istringstream rest(text + ",");
  options.split = text;
  options.shares.clear();
  double sum = 0;
  for (std::string word; std::getline(rest, word, ',');) {
    double share;
    if (options.shares.size() == 3 || !parseNumber(word, share) || !std::isfinite(share) || share < 0)
      return Status::error(flag,
                           " expects the shares of training, evaluation and test as numbers from 0 on, as in "
                           "949,50,1, but got '",
                           text, "'");
    options.shares.push_back(share);
    sum += share;
  }
  options.shares.resize(3);
  if (sum == 0)
    return Status::error(flag, " expects a share above 0, but got '", text, "'");
  return Status::success();
}

/// Whether a word belongs to the option before it: no option, though perhaps a negative number.
bool isValue(const std::string &word) {
  return word.empty() || word[0] != '-' || (word.size() > 1 && (std::isdigit(word[1]) || word[1] == '.'));
}

std::map<std::string, Setter> setters(Options &o) {
  constexpr double kAny = HUGE_VAL;
  constexpr const char *kNotNegative = "from 0 on";
  return {
      {"--steps", integer(o.steps, 1)},
      {"--lr", real(o.lr, 0, kAny, kNotNegative)},
      {"--min-lr", real(o.minLr, 0, kAny, kNotNegative)},
      {"--lr-schedule", choice(o.lrSchedule)},
      {"--wsd-decay-steps", integer(o.wsdDecaySteps, 1)},
      {"--wsd-decay", choice(o.wsdDecay)},
      {"--warmup", integer(o.warmup, 0)},
      {"--optimizer", choice(o.optimizer)},
      {"--betas", [&o](const std::string &flag, const std::string &text) { return parseBetas(o, flag, text); }},
      {"--eps", real(o.eps, 0, kAny, kNotNegative)},
      {"--weight-decay", real(o.weightDecay, 0, kAny, kNotNegative)},
      {"--weight-decay-on", choice(o.weightDecayOn)},
      {"--no-weight-decay", list(o.noWeightDecay)},
      {"--clip-grad", real(o.clipGrad, 0, kAny, kNotNegative)},
      {"--loss-scale",
       [&o](const std::string &flag, const std::string &text) { return parseLossScale(o, flag, text); }},
      {"--initial-loss-scale",
       [&o](const std::string &flag, const std::string &text) {
         return parseScale(text, o.initialLossScale.emplace())
                    ? Status::success()
                    : Status::error(flag, " expects a number above 0, but got '", text, "'");
       }},
      {"--loss-scale-window",
       [&o](const std::string &flag, const std::string &text) {
         return integer(o.lossScaleWindow.emplace(), 1)(flag, text);
       }},
      {"--seed",
       [&o](const std::string &flag, const std::string &text) {
         return parseNumber(text, o.seed.emplace())
                    ? Status::success()
                    : Status::error(flag, " expects a whole number from 0 on, but got '", text, "'");
       }},
      {"--data", names(o.data)},
      {"--labels", names(o.labels)},
      {"--pad-token", integer(o.padToken, 0)},
      {"--data-dtype", choice(o.dataDtype)},
      {"--samples", choice(o.samples)},
      {"--data-seed",
       [&o](const std::string &flag, const std::string &text) {
         constexpr int64_t kBelow = int64_t(1) << 32;
         return parseNumber(text, o.dataSeed.emplace()) && *o.dataSeed >= 0 && *o.dataSeed < kBelow
                    ? Status::success()
                    : Status::error(flag, " expects a whole number from 0 to below 2^32, but got '", text, "'");
       }},
      {"--split", [&o](const std::string &flag, const std::string &text) { return parseSplit(o, flag, text); }},
      {"--train-samples", integer(o.trainSamples, 1)},
      {"--eod", integer(o.eod, 0)},
      {"--eval-every", integer(o.evalEvery, 1)},
      {"--eval-data", names(o.evalData)},
      {"--eval-labels", names(o.evalLabels)},
      {"--eval-batches", [&o](const std::string &flag,
                              const std::string &text) { return integer(o.evalBatches.emplace(), 0)(flag, text); }},
      {"--weights", text(o.weights)},
      {"--save", text(o.save)},
      {"--save-every", integer(o.saveEvery, 1)},
      {"--max-seconds", real(o.maxSeconds, 1e-3, kAny, "above 0")},
      {"--keep", integer(o.keep, 0)},
      {"--shard-size", size(o.shardBytes)},
      {"--timeout", real(o.timeout, 0, kAny, kNotNegative)},
      {"--restarts", integer(o.restarts, 0)},
      {"--restarted", integer(o.restarted, 0)},
      {"--spent", real(o.spent, 0, kAny, kNotNegative)},
      {"--load", text(o.load)},
      {"--override", [&o](const std::string &flag, const std::string &text) { return parseOverrides(o, flag, text); }},
      {"--dump-gradients", text(o.dumpGradients)},
      {"--dump-batches", text(o.dumpBatches)},
      {"--log", text(o.log)},
      {"--events", text(o.events)},
      {"--tensorboard", text(o.tensorboard)},
      {"--trace", text(o.trace)},
      {"--trace-steps",
       [&o](const std::string &flag, const std::string &text) { return parseTraceSteps(o, flag, text); }},
      {"--on-nan", choice(o.onNan)},
      {"--save-frozen", choice(o.saveFrozen)},
      {"--nan-limit", integer(o.nanLimit, 1)},
  };
}

} // namespace

Status Options::parse(int argc, const char *const *argv, Options &options) {
  options = Options();
  std::map<std::string, Setter> withValue = setters(options);
  std::map<std::string, bool *> switches = {
      {"--shuffle", &options.shuffle},    {"--reset-at-documents", &options.resetAtDocuments},
      {"--save-sync", &options.saveSync}, {"--share-gpus", &options.shareGpus},
      {"--eval-only", &options.evalOnly}, {"--quiet", &options.quiet},
      {"--help", &options.help},          {"-h", &options.help},
      {"--version", &options.version}};
  for (int i = 1; i < argc; ++i) {
    std::string flag = argv[i], value;
    size_t equals = flag.find('=');
    bool attached = equals != std::string::npos && flag.starts_with("--");
    if (attached) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    }
    if (auto found = switches.find(flag); found != switches.end() && findRow(flag) && !attached) {
      *found->second = true;
      continue;
    }
    auto setter = withValue.find(flag);
    if (setter == withValue.end() || !findRow(flag))
      return Status::error("there is no option '", argv[i], "'; --help lists them");
    if (!attached) {
      if (i + 1 == argc)
        return Status::error(flag, " expects a value after it");
      value = argv[++i];
      // Two numbers may also stand apart, as they do in Python's argparse.
      if (flag == "--betas" && value.find(',') == std::string::npos && i + 1 < argc)
        value += std::string(",") + argv[++i];
    }
    if (Status status = setter->second(flag, value); !status.ok())
      return status;
    bool takesSeveral = contains({"--data", "--labels", "--eval-data", "--eval-labels"}, flag);
    for (; takesSeveral && i + 1 < argc && isValue(argv[i + 1]); ++i)
      if (Status status = setter->second(flag, argv[i + 1]); !status.ok())
        return status;
  }
  if (options.lrSchedule != "constant" && options.minLr > options.lr)
    return Status::error("--min-lr ", options.minLr, " is above --lr ", options.lr, "; give a rate that --lr falls to");
  if (options.saveEvery && options.save.empty())
    return Status::error("--save-every needs a folder to save to; give --save DIR");
  if (options.keep && !options.saveEvery)
    return Status::error("--keep is of the checkpoints that --save-every writes; give both");
  if (options.traceFirst && options.trace.empty())
    return Status::error("--trace-steps says what to trace, but not where to; give --trace FILE");
  Status status = options.checkSchedule();
  return status.ok() ? options.checkEvaluation() : status;
}

Status Options::checkSchedule() const {
  if (lrSchedule != "WSD") {
    if (wsdDecaySteps || !wsdDecay.empty())
      return Status::error(wsdDecaySteps ? "--wsd-decay-steps" : "--wsd-decay", " is of --lr-schedule WSD, but it is ",
                           lrSchedule, "; leave one of them out");
    return Status::success();
  }
  if (wsdDecaySteps == 0)
    return Status::error("--lr-schedule WSD needs to know over how many of the last steps the rate decays; give "
                         "--wsd-decay-steps N");
  if (wsdDecaySteps > steps)
    return Status::error("--wsd-decay-steps ", wsdDecaySteps, " is more than the ", steps,
                         " steps of the run; give fewer, or more --steps");
  return Status::success();
}

Status Options::checkEvaluation() const {
  bool isAskedFor = evalEvery || evalOnly;
  for (auto [flag, isGiven] : {std::pair{"--eval-data", !evalData.empty()},
                               {"--eval-labels", !evalLabels.empty()},
                               {"--eval-batches", evalBatches.has_value()}})
    if (isGiven && !isAskedFor)
      return Status::error(flag, " says what to evaluate, but not when; give --eval-every N or --eval-only");
  for (auto [flag, isGiven] : {std::pair{"--save", !save.empty()},
                               {"--log", !log.empty()},
                               {"--trace", !trace.empty()},
                               {"--dump-gradients", !dumpGradients.empty()},
                               {"--eval-every", evalEvery > 0}})
    if (isGiven && evalOnly)
      return Status::error(flag, " is of a run that trains, but --eval-only does not; leave one of them out");
  return Status::success();
}

std::map<std::string, std::string> Options::updateSettings() const {
  auto number = [](auto value) {
    char text[32];
    return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
  };
  std::map<std::string, std::string> settings = {{"--optimizer", optimizer},
                                                 {"--lr", number(lr)},
                                                 {"--lr-schedule", lrSchedule},
                                                 {"--warmup", number(warmup)},
                                                 {"--weight-decay", number(weightDecay)},
                                                 {"--clip-grad", number(clipGrad)}};
  if (weightDecay != 0) {
    settings["--weight-decay-on"] = weightDecayOn;
    for (const std::string &pattern : noWeightDecay)
      settings["--no-weight-decay"] += (settings["--no-weight-decay"].empty() ? "" : ",") + pattern;
  }
  if (optimizer == "adamw") {
    settings["--betas"] = number(beta1) + "," + number(beta2);
    settings["--eps"] = number(eps);
  }
  if (padToken > 0)
    settings["--pad-token"] = number(padToken);
  if (lrSchedule != "constant")
    settings["--min-lr"] = number(minLr);
  if (lrSchedule != "constant" && lrSchedule != "inverse-square-root")
    settings["--steps"] = number(steps);
  if (lrSchedule == "WSD") {
    settings["--wsd-decay-steps"] = number(wsdDecaySteps);
    settings["--wsd-decay"] = wsdDecay.empty() ? "exponential" : wsdDecay;
  }
  return settings;
}

const options::Tool &Options::commandLine() {
  static const options::Tool tool = {"galvatron-launch",
                                     "trains the model that a program was compiled from",
                                     "launch --steps 100 --data tokens.bin --log log.csv --save run",
                                     "The compiler writes launch beside the binaries of the stages, stage0, stage1 and "
                                     "so on: it starts them all, under "
                                     "mpirun or srun, with the same options. In parentheses: what holds if not said.",
                                     {
#define GROUP(title) {"", "", title},
#define OPTION(flags, value, help) {flags, value, help},
#define LAUNCH_OPTION(flags, value, help) OPTION(flags, value, help)
#include "runtime/core/Options.def"
#undef LAUNCH_OPTION
#undef OPTION
#undef GROUP
                                         options::completionOption(),
                                     },
                                     "docs/runtime.md lists exit codes and what each option does.",
                                     "launch"};
  return tool;
}

} // namespace galvatron
