//===- Options.cpp - Command line of galvatron-search ---------------------===//
//
// The reference's arguments become members of its configuration groups, so
// that one strict reader checks them wherever they come from.
//
//===----------------------------------------------------------------------===//

#include "Options.h"

#include "galvatron/Search/Model/Cluster.h"
#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Support/Json.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace galvatron::search {

namespace {
enum class Kind { Number, Text };

/// An argument of the reference.
struct ReferenceOption {
  Kind kind;
  const char *flag, *group;
};

const ReferenceOption kReferenceOptions[] = {
#define GROUP(title)
#define OPTION(flags, value, help)
#define REFERENCE(kind, flag, group, value, help) {Kind::kind, flag, group},
#include "Options.def"
#undef REFERENCE
};

std::vector<options::Option> makeOptions() {
  return {
#define REFERENCE(kind, flag, group, value, help) {flag, value, help},
#undef GROUP
#undef OPTION
#define GROUP(title) {"", "", title},
#define OPTION(flags, value, help) {flags, value, help},
#include "Options.def"
#undef REFERENCE
#undef OPTION
#undef GROUP
      options::completionOption(),
  };
}

/// What the older guides call a search space.
struct Preset {
  const char *name;
  std::vector<const char *> disabled;
};

const Preset kPresets[] = {
    {"3d", {"disable_fsdp", "disable_sp", "disable_cp", "disable_ckpt"}},
    {"dp+tp", {"disable_pp", "disable_fsdp", "disable_sp", "disable_cp", "disable_ckpt"}},
    {"dp+pp", {"disable_tp", "disable_fsdp", "disable_sp", "disable_cp", "disable_ckpt"}},
    {"dp", {"disable_tp", "disable_pp", "disable_fsdp", "disable_sp", "disable_cp", "disable_ckpt"}},
    {"tp", {"disable_dp", "disable_pp", "disable_fsdp", "disable_sp", "disable_cp", "disable_ckpt"}},
    {"pp", {"disable_dp", "disable_tp", "disable_fsdp", "disable_sp", "disable_cp", "disable_ckpt"}},
    {"sdp", {"disable_tp", "disable_pp", "disable_sp", "disable_cp", "disable_ckpt"}},
};

/// The row of an option, or null. Names of the reference's may have underscores.
const options::Option *findRow(const std::string &name) {
  const std::vector<options::Option> &rows = commandLine().options;
  if (const options::Option *row = options::findOption(rows, "--" + name))
    return row;
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  for (const ReferenceOption &option : kReferenceOptions)
    if (option.flag == "--" + dashed)
      return options::findOption(rows, option.flag);
  return nullptr;
}

class OptionParser {
public:
  OptionParser(int argc, char **argv) : arguments(argv + std::min(argc, 1), argv + argc) {}

  Result<ToolOptions> run() {
    while (at < arguments.size() && !error)
      one();
    if (!error)
      conflicts();
    if (error)
      return *error;
    return std::move(options);
  }

private:
  void fail(std::string message) {
    if (!error)
      error = Error{std::move(message)};
  }

  std::string value(const std::string &name) {
    if (hasInline)
      return inlineValue;
    if (at < arguments.size())
      return arguments[at++];
    fail("option --" + name + " expects a value");
    return "";
  }

  std::int64_t count(const std::string &name, std::int64_t least = 1, std::int64_t most = kMostOfAnything) {
    std::string text = value(name);
    std::int64_t number = 0;
    auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc() || end != text.data() + text.size() || number < least)
      fail("option --" + name + " expects an integer of at least " + std::to_string(least) + ", but got '" + text +
           "'");
    if (number > most)
      fail("option --" + name + " expects at most " + std::to_string(most) + ", but got " + text);
    return number;
  }

  /// One of those that the table has.
  std::string word(const std::string &name) {
    std::string text = value(name), list;
    for (const std::string &one : options::choices(*row)) {
      if (text == one)
        return text;
      list += (list.empty() ? "" : ", ") + one;
    }
    fail("option --" + name + " expects one of " + list + ", but got '" + text + "'");
    return text;
  }

  void one();
  void reference(std::string name);
  void space(const std::string &name);
  void conflicts();

  std::vector<std::string> arguments;
  std::size_t at = 0;
  const options::Option *row = nullptr; ///< of the option that is read
  bool hasInline = false;
  std::string inlineValue;
  ToolOptions options;
  std::optional<Error> error;
};

void OptionParser::one() {
  std::string argument = arguments[at++];
  if (argument == "-h")
    argument = "--help";
  if (argument == "-o")
    argument = "--output";
  if (!argument.starts_with("--"))
    return fail("unexpected argument '" + argument + "'; options begin with --, see --help");
  std::size_t equals = argument.find('=');
  hasInline = equals != std::string::npos;
  inlineValue = hasInline ? argument.substr(equals + 1) : "";
  std::string name = argument.substr(2, hasInline ? equals - 2 : std::string::npos);
  row = findRow(name);
  if (!row)
    return fail("unknown option --" + name + "; see --help");
  if (row->value.empty() && hasInline)
    return fail("option --" + name + " takes no value");
  if (name == "help")
    options.help = true;
  else if (name == "version")
    options.version = true;
  else if (name == "explain")
    options.explain = true;
  else if (name == "quiet")
    options.quiet = true;
  else if (name == "reference-division")
    options.referenceDivision = true;
  else if (name == "simulate") {
    options.simulate = true;
    options.traceFile = inlineValue;
  } else if (name == "config")
    options.configFile = value(name);
  else if (name == "root")
    options.root = value(name);
  else if (name == "model")
    options.modelFile = value(name);
  else if (name == "cluster")
    options.clusterFile = value(name);
  else if (name == "profile")
    options.profileFile = value(name);
  else if (name == "device")
    options.device = value(name);
  else if (name == "ranks")
    options.ranks = count(name);
  else if (name == "seq")
    options.sequence = count(name);
  else if (name == "global-batch")
    options.globalBatch = count(name);
  else if (name == "micro-batches")
    options.microBatches = count(name, 1, kMostMicroBatches);
  else if (name == "precision")
    options.precision = word(name);
  else if (name == "cost-model")
    options.costModel = word(name);
  else if (name == "evaluate")
    options.evaluateFile = value(name);
  else if (name == "predict")
    options.predictFolder = value(name);
  else if (name == "output")
    options.outputFile = value(name);
  else if (name == "format")
    options.format = word(name);
  else if (name == "time-limit")
    options.timeLimitSeconds = double(count(name));
  else if (name == "threads")
    options.threads = int(std::min<std::int64_t>(count(name), 1024));
  else if (name == "memory") {
    std::string text = value(name);
    Result<std::int64_t> bytes = parseBytes(text);
    if (!bytes)
      return fail("option --memory " + bytes.error().message);
    options.memoryBytes = *bytes;
  } else if (name == "space")
    space(name);
  else
    reference(name);
}

void OptionParser::reference(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  for (const ReferenceOption &option : kReferenceOptions) {
    if (row->flags != option.flag)
      continue;
    std::string text = value(name);
    std::string key = name == "model_name" ? "name" : name;
    Json parsed = text;
    if (option.kind == Kind::Number && !error) {
      std::string ignored;
      parsed = galvatron::parseJson(text, "", ignored).value_or(Json());
      if (!parsed.is_number() && !parsed.is_boolean())
        fail("option --" + name + " expects a number, but got '" + text + "'");
    }
    (*option.group ? options.overrides[option.group] : options.overrides)[key] = parsed;
  }
}

void OptionParser::space(const std::string &name) {
  std::string text = word(name);
  if (text == "full" || text == "supported" || text == "configured") {
    options.supportedOnly = text == "supported";
    options.configured = text == "configured";
    return;
  }
  for (const Preset &preset : kPresets)
    if (text == preset.name) {
      for (const char *key : preset.disabled)
        options.overrides["search_space_info"][key] = 1;
      options.onlySharded = text == "sdp"; // nothing but fully sharded data parallelism
    }
}

void OptionParser::conflicts() {
  const ToolOptions &o = options;
  if (o.help || o.version)
    return;
  if (!o.predictFolder.empty()) {
    bool asksForPlan = !o.configFile.empty() || !o.modelFile.empty() || !o.evaluateFile.empty() ||
                       !o.outputFile.empty() || !o.overrides.empty() || o.globalBatch || o.microBatches ||
                       o.memoryBytes || o.ranks || !o.device.empty() || o.costModel != "native" || o.explain;
    if (asksForPlan)
      return fail(
          "--predict takes a program that has its plan: beside it stand only --cluster, --profile and --simulate=FILE");
    if (o.simulate && o.traceFile.empty())
      return fail("--predict simulates already; --simulate=FILE says where to write the trace");
    return;
  }
  bool fromProfiles = !o.configFile.empty() || o.overrides.contains("profiles");
  if (fromProfiles && !o.modelFile.empty())
    return fail("--model and --config (or --profiles) conflict: a model comes from its shape or "
                "from its profiles; give one");
  if (fromProfiles && !o.profileFile.empty())
    return fail("--profile and --config (or --profiles) conflict: this project's profile or the reference's; give one");
  if (!o.profileFile.empty() && !o.device.empty())
    return fail("--profile and --device conflict: a profile says what its devices are; drop --device");
  if (!o.profileFile.empty() && o.modelFile.empty())
    return fail(
        "--profile needs --model config.json: a profile does not say how large the values between its layers are; "
        "galvatron-opt --profile takes its bodies");
  if (fromProfiles && (!o.clusterFile.empty() || o.ranks || !o.device.empty()))
    return fail("--cluster, --ranks and --device conflict with --config: its hardware_info and "
                "hardware folder say what the cluster is; use --num-nodes, --num-gpus-per-node");
  if (!fromProfiles && o.modelFile.empty())
    return fail("expects --config FILE (profiles) or --model config.json (shape); see --help");
  if (!o.modelFile.empty() && o.costModel == "galvatron")
    return fail("--cost-model=galvatron needs the reference's profiles: give --config, or "
                "--profiles and --hardware, instead of --model");
  Json none = Json::object(), batches = o.overrides.value("batch_size_info", none);
  if (!o.modelFile.empty() && batches.contains("settle_bsz"))
    return fail("--settle-bsz belongs to --config; with --model use --global-batch");
  if (o.globalBatch && (batches.contains("min_bsz") || batches.contains("max_bsz") || batches.contains("settle_bsz")))
    return fail("--global-batch conflicts with --min-bsz, --max-bsz and --settle-bsz; give one batch or a range");
  if (fromProfiles && (o.sequence || !o.precision.empty()))
    return fail("--seq and --precision belong to --model; with --config use --seq-length and --mixed-precision");
  if (!o.modelFile.empty() && o.configured)
    return fail("--space=configured needs --config, whose parallelism_info it takes");
  if (o.costModel == "galvatron" && o.configured)
    return fail(
        "--space=configured and --cost-model=galvatron conflict: the reference always takes what is configured");
  if (o.microBatches && batches.contains("settle_chunk"))
    return fail("--micro-batches and --settle-chunk conflict; give one");
  if (!o.modelFile.empty() && !o.globalBatch && !batches.contains("max_bsz") && o.evaluateFile.empty())
    return fail("--model needs --global-batch, or a range from --min-bsz to --max-bsz");
  const std::vector<std::string> known = {"search_space_info", "options_info", "common_train_info", "parallelism_info",
                                          "batch_size_info"};
  if (!o.modelFile.empty() && !o.overrides.empty())
    for (const auto &item : o.overrides.items())
      if (std::find(known.begin(), known.end(), item.key()) == known.end())
        return fail("options of '" + item.key() +
                    "' belong to --config; with --model use "
                    "--cluster, --memory, --global-batch, --seq and --precision");
  if (o.costModel == "galvatron" && o.supportedOnly)
    return fail("--space=supported and --cost-model=galvatron conflict: the reference has its own "
                "space; use --cost-model=native");
  if (o.quiet && o.explain)
    return fail("--quiet and --explain conflict; give one");
}
} // namespace

Result<ToolOptions> parseOptions(int argc, char **argv) { return OptionParser(argc, argv).run(); }

const options::Tool &commandLine() {
  static const options::Tool tool = {
      "galvatron-search",
      "how to train a Transformer fastest on a cluster within a memory budget",
      "galvatron-search --model config.json --cluster cluster.json --global-batch 64\n"
      "galvatron-search --config case.json --root FOLDER --cost-model=galvatron\n"
      "galvatron-search --config case.json --root FOLDER --evaluate plan.json",
      "One JSON object on standard output: plan, times, memory. Progress and --explain go to standard error. Ctrl-C "
      "ends "
      "the search with the best plan so far.",
      makeOptions(),
      "Exit status: 0 a plan (\"status\": \"interrupted\" after Ctrl-C or --time-limit), 1 an error or no plan found "
      "before Ctrl-C, 2 nothing fits. A second Ctrl-C ends it at once: 130."};
  return tool;
}

} // namespace galvatron::search
