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
/// An argument of the reference: its option is its key with dashes.
struct ReferenceOption {
  const char *key, *group, *help;
  bool isText;
};

const ReferenceOption kReferenceOptions[] = {
    {"num_nodes", "hardware_info", "hosts", false},
    {"num_gpus_per_node", "hardware_info", "devices of each", false},
    {"memory_constraint", "hardware_info", "memory per device, GB of 1024 MB", false},
    {"min_bsz", "batch_size_info", "smallest global batch to try", false},
    {"max_bsz", "batch_size_info", "largest", false},
    {"bsz_scale", "batch_size_info", "step", false},
    {"settle_bsz", "batch_size_info", "exactly this global batch; -1: range", false},
    {"settle_chunk", "batch_size_info", "exactly so many micro-batches; -1: all", false},
    {"disable_dp", "search_space_info", "1: no data parallelism", false},
    {"disable_tp", "search_space_info", "1: no tensor parallelism", false},
    {"disable_pp", "search_space_info", "1: one stage", false},
    {"disable_sp", "search_space_info", "1: no Ulysses", false},
    {"disable_cp", "search_space_info", "1 (default): no context parallelism", false},
    {"disable_sdp", "search_space_info", "1: no ZeRO-3 (also disable_fsdp)", false},
    {"disable_fsdp", "search_space_info", "the same", false},
    {"disable_ckpt", "search_space_info", "1: no recomputation", false},
    {"disable_vtp", "search_space_info", "1: no tp in the ends", false},
    {"disable_vsp", "search_space_info", "1: no Ulysses in the ends", false},
    {"disable_embedding_lmhead_tp", "search_space_info", "the same as disable_vtp", false},
    {"disable_embedding_lmhead_sp", "search_space_info", "the same as disable_vsp", false},
    {"max_tp_deg", "search_space_info", "largest tp (8)", false},
    {"max_pp_deg", "search_space_info", "largest pp (8)", false},
    {"max_sp_deg", "search_space_info", "largest Ulysses degree (8)", false},
    {"max_cp_deg", "search_space_info", "largest cp (8)", false},
    {"time_profile_mode", "profiling_info", "static, batch or sequence", true},
    {"memory_profile_mode", "profiling_info", "static or sequence", true},
    {"time_profiling_path", "profiling_info", "file or folder", true},
    {"memory_profiling_path", "profiling_info", "file or folder", true},
    {"allreduce_bandwidth_config_path", "profiling_info", "file or folder", true},
    {"p2p_bandwidth_config_path", "profiling_info", "file or folder", true},
    {"overlap_coe_path", "profiling_info", "file or folder", true},
    {"sp_time_path", "profiling_info", "file or folder", true},
    {"fine_grained_mode", "options_info", "0: one strategy for all layers", false},
    {"output_config_path", "options_info", "folder for the plan file", true},
    {"default_dp_type", "parallelism_info", "ddp, zero2 or zero3", true},
    {"pipeline_type", "parallelism_info", "gpipe or pipedream_flush; native also interleaved, zb-h1 or zb-v", true},
    {"mixed_precision", "parallelism_info", "fp32, fp16 or bf16", true},
    {"async_grad_reduce", "parallelism_info", "1: gradients are summed once a step, 0: every micro-batch", false},
    {"sequence_parallel", "common_train_info", "1: Megatron-SP", false},
    {"global_memory_buffer", "common_train_info", "1: one gather buffer", false},
    {"debug_costmodel_coe", "debug_info", "factor on all times", false},
    {"model_name", "model", "name in the profile's file names", true},
    {"hidden_size", "model", "width of the profiled model", false},
    {"num_layers", "model", "its layers", false},
    {"seq_length", "model", "its tokens a sample", false},
    {"profiles", "", "folder of the model's profiles", true},
    {"hardware", "", "folder of the hardware profiles", true},
};

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

  std::string word(const std::string &name, std::vector<std::string> allowed) {
    std::string text = value(name), list;
    for (const std::string &one : allowed) {
      if (text == one)
        return text;
      list += (list.empty() ? "" : ", ") + one;
    }
    fail("option --" + name + " expects one of " + list + ", but got '" + text + "'");
    return text;
  }

  void one();
  bool reference(std::string name);
  void space(const std::string &name);
  void conflicts();

  std::vector<std::string> arguments;
  std::size_t at = 0;
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
  auto isFlag = [&](const char *flag) {
    if (name != flag)
      return false;
    if (hasInline)
      fail("option --" + name + " takes no value");
    return true;
  };
  if (isFlag("help"))
    options.help = true;
  else if (isFlag("version"))
    options.version = true;
  else if (isFlag("explain"))
    options.explain = true;
  else if (isFlag("quiet"))
    options.quiet = true;
  else if (isFlag("reference-division"))
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
    options.precision = word(name, {"fp32", "fp16", "bf16"});
  else if (name == "cost-model")
    options.costModel = word(name, {"native", "galvatron"});
  else if (name == "evaluate")
    options.evaluateFile = value(name);
  else if (name == "predict")
    options.predictFolder = value(name);
  else if (name == "output")
    options.outputFile = value(name);
  else if (name == "format")
    options.format = word(name, {"auto", "own", "reference"});
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
  else if (!reference(name))
    fail("unknown option --" + name + "; see --help");
}

bool OptionParser::reference(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  for (const ReferenceOption &option : kReferenceOptions) {
    if (name != option.key)
      continue;
    std::string text = value(name);
    std::string key = name == "model_name" ? "name" : name;
    Json parsed = text;
    if (!option.isText && !error) {
      std::string ignored;
      parsed = galvatron::parseJson(text, "", ignored).value_or(Json());
      if (!parsed.is_number() && !parsed.is_boolean())
        fail("option --" + name + " expects a number, but got '" + text + "'");
    }
    (*option.group ? options.overrides[option.group] : options.overrides)[key] = parsed;
    return true;
  }
  return false;
}

void OptionParser::space(const std::string &name) {
  std::string text = value(name);
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
      return;
    }
  fail("option --space expects supported, full, configured, 3d, dp+tp, dp+pp, dp, tp, pp or sdp, but got '" + text +
       "'");
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
    return fail("--profile needs --model config.json: a profile does not say how large the values between its layers are; "
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

std::string helpText() {
  std::string text =
      "galvatron-search: how to train a Transformer fastest on a cluster within a memory budget\n"
      "\n"
      "  galvatron-search --model config.json --cluster cluster.json --global-batch 64\n"
      "  galvatron-search --config case.json --root FOLDER --cost-model=galvatron\n"
      "  galvatron-search --config case.json --root FOLDER --evaluate plan.json\n"
      "\n"
      "One JSON object on standard output: plan, times, memory. Progress and --explain go to\n"
      "standard error. Ctrl-C ends the search with the best plan so far.\n"
      "Exit status: 0 a plan (\"status\": \"interrupted\" after Ctrl-C or --time-limit), 1 an error\n"
      "or no plan found before Ctrl-C, 2 nothing fits. A second Ctrl-C ends it at once: 130.\n"
      "\n"
      "what to plan\n"
      "  --model FILE           Hugging Face config.json of a decoder (native cost model)\n"
      "  --seq N                sequence length (default: the model's longest)\n"
      "  --global-batch N       samples a step\n"
      "  --micro-batches N      exactly so many (default: all divisors of the batch)\n"
      "  --precision P          bf16 (default), fp16 or fp32\n"
      "  --profile FILE         profile.json of galvatron-profile: cluster and prices; with --cluster or\n"
      "                         --ranks its devices in other numbers\n"
      "  --cluster FILE         nodes, devices_per_node, device, memory_bytes_per_device, links\n"
      "  --ranks N              one host with N devices; --device cpu|a100|h100|h200\n"
      "  --memory SIZE          per device: 24GiB, 80GB (default: the device's)\n"
      "  --config FILE          Hetu-Galvatron's configuration groups, JSON or YAML\n"
      "  --root FOLDER          where the config's relative folders lie (default: here)\n"
      "how\n"
      "  --cost-model M         native (default), or galvatron: the reference's formulas\n"
      "  --space S              full (default), supported by the lowering, configured (also what\n"
      "                         the config's parallelism_info fixes), or a preset: 3d, dp+tp,\n"
      "                         dp+pp, dp, tp, pp, sdp\n"
      "  --time-limit N         seconds\n"
      "  --threads N            of the native search (default: all; the plan is the same)\n"
      "  --evaluate FILE        price this plan (either format) instead of searching\n"
      "  --predict FOLDER       what a step of the stage binaries there takes, by their timetable.json;\n"
      "                         only --cluster (default: theirs) and --simulate beside it\n"
      "results\n"
      "  -o, --output FILE      write the plan there too\n"
      "  --format F             own or reference (default auto: reference for galvatron)\n"
      "  --explain              time and memory by cause, runners-up, what binds\n"
      "  --simulate[=FILE]      event simulation on all devices; trace for Perfetto in FILE\n"
      "  --quiet                no progress\n"
      "the reference's arguments (also in --config; dashes or underscores)\n";
  for (const ReferenceOption &option : kReferenceOptions) {
    std::string name = option.key;
    std::replace(name.begin(), name.end(), '_', '-');
    text += "  --" + name + std::string(name.size() < 20 ? 21 - name.size() : 1, ' ') + option.help + "\n";
  }
  return text;
}

} // namespace galvatron::search
