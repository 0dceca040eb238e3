// Calls galvatron-import and galvatron-opt as a user would.
#include "Prepare.h"

#include "Journal.h"

#include "galvatron/Search/Formats/StrategyText.h"
#include "galvatron/Support/Json.h"

#include "runtime/api/Abi.h"
#include "runtime/core/Version.h"


#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

namespace galvatron::profile {

namespace fs = std::filesystem;
using search::Error;

namespace {

const char *const kBodies = "bodies.json", *const kMadeOf = "made_of";

std::optional<std::string> readText(const fs::path &path) {
  std::ifstream input(path, std::ios::binary);
  std::stringstream text;
  text << input.rdbuf();
  return input ? std::optional(text.str()) : std::nullopt;
}

/// A tool beside this one.
search::Result<fs::path> findTool(const std::string &name) {
  std::error_code ignored;
  fs::path path = fs::read_symlink("/proc/self/exe", ignored).parent_path() / name;
  if (!fs::exists(path, ignored))
    return Error{"cannot find " + name +
                 " beside this tool, which compiles the model; prepare it where the compiler is "
                 "(--prepare) and name that folder"};
  return path;
}

/// Its messages are the user's; what it prints is not.
std::optional<Error> runTool(const fs::path &tool, const std::vector<std::string> &arguments) {
  pid_t child = fork();
  if (child == 0) {
    if (!std::freopen("/dev/null", "w", stdout))
      _exit(127);
    std::vector<char *> words = {const_cast<char *>(tool.c_str())};
    for (const std::string &argument : arguments)
      words.push_back(const_cast<char *>(argument.c_str()));
    words.push_back(nullptr);
    execv(tool.c_str(), words.data());
    _exit(127);
  }
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Error{tool.filename().string() + " could not prepare the model; its message is above"};
  return std::nullopt;
}

/// Strategies that change a layer's body, of up to so many ranks, as plan.json has them: first each way by itself, then
/// two ways at once, then all three.
std::vector<std::string> listStrategies(std::int64_t ranks, std::int64_t maxTp) {
  std::map<int, std::vector<std::string>> byWays;
  std::vector<std::int64_t> degrees;
  for (std::int64_t degree = 1; degree <= ranks; ++degree)
    if (ranks % degree == 0)
      degrees.push_back(degree);
  for (std::int64_t tp : degrees)
    for (std::int64_t ulysses : degrees)
      for (std::int64_t cp : degrees) {
        if (ranks % (tp * ulysses * cp) || (maxTp && tp > maxTp))
          continue;
        int ways = (tp > 1) + (ulysses > 1) + (cp > 1);
        for (bool isSequenceParallel : {false, true})
          for (bool isRing : {false, true}) {
            if ((isSequenceParallel && tp == 1) || (isRing && cp == 1))
              continue;
            nlohmann::ordered_json strategy;
            if (tp > 1 || ways == 0)
              strategy["tp"] = tp;
            if (isSequenceParallel)
              strategy["sequence_parallel"] = true;
            if (ulysses > 1)
              strategy["ulysses"] = ulysses;
            if (cp > 1)
              strategy["cp"] = cp;
            if (isRing)
              strategy["cp_kind"] = "ring";
            byWays[ways].push_back(strategy.dump());
          }
      }
  std::vector<std::string> strategies;
  for (const auto &[ways, found] : byWays)
    strategies.insert(strategies.end(), found.begin(), found.end());
  return strategies;
}

std::string describeSource(const std::string &model) {
  std::error_code ignored;
  std::string text =
      fs::absolute(model, ignored).string() + "\n" + std::to_string(fs::file_size(model, ignored)) + "\n";
  return text + std::to_string(fs::last_write_time(model, ignored).time_since_epoch().count()) + "\n";
}

class Preparer {
public:
  Preparer(const Options &options, std::int64_t ranks) : options(options), folder(preparedFolder(options)) {
    request.samples = options.microBatches;
    request.strategies = listStrategies(ranks, options.maxTp);
    // Bytes of every degree that the reference's tables have, whatever the ranks.
    for (std::int64_t degree : {2, 4, 8})
      for (const char *more : {"", R"(,"sequence_parallel":true)"}) {
        std::string strategy = R"({"tp":)" + std::to_string(degree) + more + "}";
        if (std::find(request.strategies.begin(), request.strategies.end(), strategy) == request.strategies.end())
          request.planned.push_back(strategy);
      }
  }

  std::optional<Error> run();

private:
  std::optional<Error> prepareLength(std::int64_t seq);
  std::optional<Error> checkProgramLength(std::int64_t seq, const fs::path &into) const;
  std::optional<Error> compile(std::int64_t seq, const fs::path &into, const search::BodiesRequest &wanted) const;
  std::optional<Error> checkLength(std::int64_t seq, const fs::path &into) const;

  const Options &options;
  fs::path folder;
  search::BodiesRequest request;
};

std::optional<Error> Preparer::run() {
  std::error_code code;
  if (!fs::is_regular_file(options.model, code))
    return Error{"cannot read the model '" + options.model +
                 "'; name a model.mlir, a model.pt or a folder that --prepare made"};
  std::string ending = fs::path(options.model).extension().string();
  if (ending != ".mlir" && ending != ".pt")
    return Error{"expects a model.mlir, a model.pt or a folder that --prepare made, but got '" + options.model + "'"};
  if (ending == ".mlir" && options.seqs.size() > 1)
    return Error{"option --seq with several lengths needs a model.pt, as '" + options.model +
                 "' has one; import it once for each, or name the model.pt"};
  fs::create_directories(folder, code);
  if (code)
    return Error{"cannot make the folder '" + folder.string() + "': " + code.message()};
  std::vector<std::int64_t> lengths = options.seqs.empty() ? std::vector<std::int64_t>{0} : options.seqs;
  for (std::int64_t seq : lengths)
    if (auto error = prepareLength(seq))
      return error;
  return std::nullopt;
}

/// `seq` 0: the model's own.
std::optional<Error> Preparer::prepareLength(std::int64_t seq) {
  fs::path final = folder / (seq ? "seq" + std::to_string(seq) : "own"), partial = folder / ".partial";
  std::string madeOf = std::string("galvatron ") + kVersion + ", ABI " + std::to_string(kAbi) + "\n" +
                       describeSource(options.model) + options.target + " " + options.precision + "\n" +
                       search::writeBodiesRequest(request);
  if (readText(final / kMadeOf) == madeOf)
    return std::nullopt;
  std::error_code code;
  fs::remove_all(partial, code);
  fs::create_directories(partial, code);
  if (code)
    return Error{"cannot make the folder '" + partial.string() + "': " + code.message()};
  std::optional<Error> error = checkProgramLength(seq, partial);
  if (!error && !options.quiet) {
    std::printf("compiling %zu strategies with %zu numbers of samples%s\n", request.strategies.size(),
                request.samples.size(), seq ? (", " + std::to_string(seq) + " tokens").c_str() : "");
    std::fflush(stdout);
  }
  if (!error)
    error = compile(seq, partial, request);
  if (!error)
    error = checkLength(seq, partial);
  if (!error)
    error = replaceFile((partial / kMadeOf).string(), madeOf);
  if (!error) {
    fs::remove_all(final, code);
    fs::rename(partial, final, code);
    if (code)
      error = Error{"cannot write '" + final.string() + "': " + code.message()};
  }
  fs::remove_all(partial, code);
  return error;
}

/// A program has a length of its own, which the compiler knows: one strategy says it, before all of them are begun.
std::optional<Error> Preparer::checkProgramLength(std::int64_t seq, const fs::path &into) const {
  if (!seq || fs::path(options.model).extension() != ".mlir")
    return std::nullopt;
  search::BodiesRequest one;
  one.samples = {request.samples.front()}, one.strategies = {request.strategies.front()};
  if (auto error = compile(seq, into, one))
    return error;
  return checkLength(seq, into);
}

std::optional<Error> Preparer::compile(std::int64_t seq, const fs::path &into,
                                       const search::BodiesRequest &wanted) const {
  search::Result<fs::path> import = findTool("galvatron-import"), compiler = findTool("galvatron-opt");
  std::string model = options.model,
              stem = options.modelName.empty() ? fs::path(model).stem().string() : options.modelName;
  std::error_code ignored;
  if (fs::path(model).extension() == ".pt") {
    if (!import)
      return import.error();
    // Samples are an axis of a program with two at least.
    std::int64_t batch = std::max<std::int64_t>(2, request.samples.back());
    std::string program = (into / (stem + ".mlir")).string();
    std::vector<std::string> arguments = {model, "--batch", std::to_string(batch), "-o", program};
    if (seq)
      arguments.insert(arguments.end(), {"--seq", std::to_string(seq)});
    if (auto error = runTool(*import, arguments))
      return error;
    fs::remove(into / (stem + ".safetensors"), ignored);
    model = program;
  } else if (fs::path(model).stem() != stem) {
    fs::copy_file(model, into / (stem + ".mlir"), ignored);
    model = (into / (stem + ".mlir")).string();
  }
  if (!compiler)
    return compiler.error();
  std::string list = (into / "request.json").string();
  if (auto error = replaceFile(list, search::writeBodiesRequest(wanted)))
    return error;
  auto error = runTool(*compiler, {"--bodies=" + list, "--target=" + options.target, "--precision=" + options.precision,
                                   model, "-o", into.string()});
  fs::remove(list, ignored);
  fs::remove(into / (stem + ".mlir"), ignored);
  return error;
}

std::optional<Error> Preparer::checkLength(std::int64_t seq, const fs::path &into) const {
  std::optional<std::string> text = readText(into / kBodies);
  search::Result<search::PreparedModel> model = search::parsePreparedModel(text.value_or(""));
  if (!model)
    return Error{"'" + (into / kBodies).string() + "': " + model.error().message};
  if (seq && model->model.seq != seq)
    return Error{"option --seq " + std::to_string(seq) + " is not the length of '" + options.model + "', " +
                 std::to_string(model->model.seq) + "; other lengths need the model.pt"};
  return std::nullopt;
}

} // namespace

bool isPreparedFolder(const std::string &path) {
  std::error_code code;
  for (fs::directory_iterator at(path, code), end; !code && at != end; at.increment(code))
    if (fs::exists(at->path() / kBodies) && at->path().filename() != ".partial")
      return true;
  return false;
}

std::string preparedFolder(const Options &options) {
  if (!options.prepare.empty())
    return options.prepare;
  return isPreparedFolder(options.model) ? options.model : (fs::path(options.folder) / "prepared").string();
}

std::optional<Error> prepareModel(const Options &options, std::int64_t ranks) {
  return isPreparedFolder(options.model) ? std::nullopt : Preparer(options, ranks).run();
}

namespace {

void addPlanned(const search::PreparedModel &model, const search::PreparedBodies &bodies,
                std::vector<search::PlannedBody> &planned) {
  nlohmann::json strategy = parseOwnJson(bodies.strategy);
  strategy["recompute"] = bodies.recomputes;
  search::Result<search::Strategy> read = search::parseStrategy(strategy.dump(), "key 'strategy'");
  for (const search::PreparedLayer &layer : bodies.layers)
    if (bodies.why.empty() && read)
      planned.push_back({layer.layerType, layer.hash, model.precision, strategy.dump(), bodies.samples, model.model.seq,
                         layer.parameterBytes, layer.sharedBytes, layer.stateBytes, layer.savedBytes,
                         layer.scratchBytes, *read});
}

/// Of one length.
std::optional<Error> addLength(const fs::path &folder, const Options &options, std::int64_t ranks, Prepared &prepared) {
  std::optional<std::string> text = readText(folder / kBodies);
  search::Result<search::PreparedModel> model = search::parsePreparedModel(text.value_or(""));
  std::string where = "'" + (folder / kBodies).string() + "'";
  if (!model)
    return Error{where + ": " + model.error().message + "; prepare the model again"};
  if (model->target != options.target || model->precision != options.precision)
    return Error{where + " was prepared for " + model->target + " in " + model->precision + ", but " + options.target +
                 " in " + options.precision +
                 " is to be measured; prepare it for that, or say so with --target and "
                 "--precision"};
  if (!options.modelName.empty())
    model->model.name = options.modelName;
  if (prepared.model.units.empty())
    prepared.model = model->model;
  else if (prepared.model.units.size() != model->model.units.size())
    return Error{where + " is of another model than the others there; prepare each in a folder of its own"};
  for (std::size_t index = 0; index < model->bodies.size(); ++index) {
    const search::PreparedBodies &bodies = model->bodies[index];
    addPlanned(*model, bodies, prepared.planned);
    if (bodies.recomputes || (bodies.library.empty() && bodies.why.empty()) ||
        std::find(options.microBatches.begin(), options.microBatches.end(), bodies.samples) ==
            options.microBatches.end())
      continue;
    const search::PreparedBodies *next = index + 1 < model->bodies.size() ? &model->bodies[index + 1] : nullptr;
    bool isPair = next && next->recomputes && next->samples == bodies.samples;
    std::string name = "layers with " + search::shortenStrategy(bodies.strategy) + ", " +
                       std::to_string(bodies.samples) + " samples of " + std::to_string(model->model.seq) + " tokens";
    if (bodies.library.empty())
      prepared.leftOut.push_back(name + ": " + bodies.why);
    else if (bodies.ranks > ranks || ranks % bodies.ranks)
      prepared.leftOut.push_back(name + ": needs a multiple of " + std::to_string(bodies.ranks) + " ranks");
    else
      prepared.groups.emplace_back(folder.string(), *model, bodies, isPair ? next : nullptr);
  }
  return std::nullopt;
}

} // namespace

search::Result<Prepared> readPrepared(const Options &options, std::int64_t ranks) {
  fs::path folder = preparedFolder(options);
  std::set<fs::path> lengths;
  std::error_code code;
  for (fs::directory_iterator at(folder, code), end; !code && at != end; at.increment(code))
    if (fs::exists(at->path() / kBodies) && at->path().filename() != ".partial")
      lengths.insert(at->path());
  Prepared prepared;
  bool isOwn = !isPreparedFolder(options.model);
  for (const fs::path &length : lengths) {
    bool isAsked = options.seqs.empty() ? !isOwn || length.filename() == "own"
                                        : std::any_of(options.seqs.begin(), options.seqs.end(), [&](std::int64_t seq) {
                                            return length.filename() == "seq" + std::to_string(seq);
                                          });
    if (!isAsked)
      continue;
    if (auto error = addLength(length, options, ranks, prepared))
      return *error;
  }
  if (prepared.groups.empty())
    return Error{"'" + folder.string() + "' holds no bodies of the --seq and --micro-batch asked for" +
                 (prepared.leftOut.empty() ? "" : " (" + prepared.leftOut.front() + ")") +
                 "; prepare the model with these"};
  return prepared;
}

} // namespace galvatron::profile
