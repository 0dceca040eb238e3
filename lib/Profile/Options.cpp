// Command line of galvatron-profile.
#include "Options.h"

#include "galvatron/Search/Model/Cluster.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

namespace galvatron::profile {

using search::Error;

namespace {

/// What can be measured on the processor, as `--kinds` names it.
const char *const kKinds[] = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send",
                              "exchange",   "gemm",       "attention",      "copy",       "elementwise",
                              "overlap",    "layers",     "to_host",        "from_host"};

class Parser {
public:
  explicit Parser(const std::vector<std::string> &arguments) : arguments(arguments) {}

  search::Result<Options> run() {
    while (at < arguments.size() && !error)
      readOne();
    if (!error && !options.help && !options.version)
      checkCommand();
    if (error)
      return *error;
    return std::move(options);
  }

private:
  void fail(const std::string &message) {
    if (!error)
      error = Error{message};
  }

  std::string value() {
    if (inlineValue)
      return *inlineValue;
    if (at < arguments.size())
      return arguments[at++];
    fail("option " + name + " expects a value");
    return "";
  }

  double number(double least, double most) {
    std::string text = value();
    char *end = nullptr;
    double read = std::strtod(text.c_str(), &end);
    if (text.empty() || *end || !(read >= least) || read > most)
      fail("option " + name + " expects a number from " + std::to_string(std::int64_t(least)) + " to " +
           std::to_string(std::int64_t(most)) + ", but got '" + text + "'");
    return read;
  }

  std::int64_t count() {
    double read = number(1, 1 << 20);
    if (!error && read != std::floor(read))
      fail("option " + name + " expects a whole number");
    return std::int64_t(read);
  }

  bool isFlag(const char *flag, bool &option) { return name == flag && (option = true); }

  void readOne();
  void readNamed();
  void readSizes();
  void readKinds();
  void readCounts(std::vector<std::int64_t> &counts);
  void checkModel();
  void readWord(std::string &option);
  void checkCommand();

  const std::vector<std::string> &arguments;
  std::size_t at = 0;
  std::string name;
  const options::Option *row = nullptr; ///< of the option that is read
  std::optional<std::string> inlineValue;
  std::vector<std::string> positional;
  std::string nvls = "off";
  Options options;
  std::optional<Error> error;
};

/// One of the words that the table has.
void Parser::readWord(std::string &option) {
  option = value();
  std::vector<std::string> words = options::choices(*row);
  std::string list;
  for (const std::string &word : words)
    list += (list.empty() ? "" : " or ") + word;
  if (std::find(words.begin(), words.end(), option) == words.end())
    fail("option " + name + " expects " + list + ", but got '" + option + "'");
}

void Parser::readSizes() {
  std::string text = value();
  std::size_t colon = text.find(':');
  search::Result<std::int64_t> low = search::parseBytes(text.substr(0, colon));
  search::Result<std::int64_t> high = colon == std::string::npos ? low : search::parseBytes(text.substr(colon + 1));
  auto isPower = [](std::int64_t bytes) { return std::has_single_bit(std::uint64_t(bytes)); };
  // Sixteen ranks have a cache line each at least.
  if (!low || !high || !isPower(*low) || !isPower(*high) || *low > *high || *low < 1024 || *high > 1ll << 34)
    return fail("option --sizes expects two powers of two from 1KiB to 16GiB, as 4KiB:1GiB, but got '" + text + "'");
  options.smallest = *low, options.largest = *high;
}

void Parser::readKinds() {
  std::string text = value() + ",";
  for (std::size_t begin = 0, end; (end = text.find(',', begin)) != std::string::npos; begin = end + 1) {
    std::string kind = text.substr(begin, end - begin), list;
    for (const char *known : kKinds)
      list += (list.empty() ? "" : ", ") + std::string(known);
    if (std::find(std::begin(kKinds), std::end(kKinds), kind) == std::end(kKinds))
      return fail("option --kinds expects kinds out of " + list + ", but got '" + kind + "'");
    options.kinds.push_back(kind);
  }
}

/// "1,2,4", or min:max:step.
void Parser::readCounts(std::vector<std::int64_t> &counts) {
  constexpr std::int64_t kMost = 1 << 22, kMostOfThem = 64;
  std::string text = value();
  char separator = text.find(':') == std::string::npos ? ',' : ':';
  std::vector<std::int64_t> numbers;
  bool isGood = true;
  for (std::size_t begin = 0, end; begin <= text.size(); begin = end + 1) {
    end = std::min(text.find(separator, begin), text.size());
    std::int64_t number = 0;
    auto [last, code] = std::from_chars(text.data() + begin, text.data() + end, number);
    isGood &= code == std::errc() && last == text.data() + end && number >= 1 && number <= kMost;
    numbers.push_back(number);
  }
  if (isGood && separator == ':' && (isGood = numbers.size() == 3 && numbers[1] >= numbers[0])) {
    std::int64_t low = numbers[0], high = numbers[1], step = numbers[2];
    numbers.clear();
    for (std::int64_t number = low; number <= high && std::int64_t(numbers.size()) <= kMostOfThem; number += step)
      numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  if (!isGood || std::int64_t(numbers.size()) > kMostOfThem)
    return fail("option " + name + " expects up to 64 whole numbers, as 1,2,4 or min:max:step, but got '" + text + "'");
  counts = std::move(numbers);
}

void Parser::readNamed() {
  if (isFlag("--help", options.help) || isFlag("-h", options.help) || isFlag("--version", options.version) ||
      isFlag("--allow-busy", options.allowBusy) || isFlag("--restart", options.restart) ||
      isFlag("--quiet", options.quiet))
    return;
  if (name == "-o" || name == "--output")
    options.folder = value();
  else if (name == "--target")
    readWord(options.target);
  else if (name == "--precision")
    readWord(options.precision);
  else if (name == "--nvls")
    readWord(nvls);
  else if (name == "--sizes")
    readSizes();
  else if (name == "--kinds")
    readKinds();
  else if (name == "--time-limit")
    options.timeLimit = number(1, 1e6);
  else if (name == "--ranks")
    options.ranks = count();
  else if (name == "--devices-per-node")
    options.devicesPerNode = count();
  else if (name == "--micro-batch")
    readCounts(options.microBatches);
  else if (name == "--seq")
    readCounts(options.seqs);
  else if (name == "--max-tp")
    options.maxTp = count();
  else if (name == "--prepare")
    options.prepare = value();
  else if (name == "--format")
    readWord(options.format);
  else if (name == "--model-name")
    options.modelName = value();
}

void Parser::readOne() {
  std::string argument = arguments[at++];
  if (!argument.starts_with("-") || argument == "-")
    return positional.push_back(argument);
  std::size_t equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
  name = argument.substr(0, equals);
  inlineValue.reset();
  if (equals != std::string::npos)
    inlineValue = argument.substr(equals + 1);
  row = options::findOption(commandLine().options, name);
  if (!row)
    return fail("unknown option " + name + "; see --help");
  if (row->value.empty() && inlineValue)
    return fail("option " + name + " takes no value");
  readNamed();
}

void Parser::checkCommand() {
  if (positional.empty())
    return fail("expects a command: hardware, model, all, export or show; see --help");
  std::string command = options.command = positional[0];
  bool isOfFile = command == "show" || command == "export";
  if (!isOfFile && command != "hardware" && !options.measuresModel())
    return fail("unknown command '" + command + "'; there are hardware, model, all, export and show");
  if (isOfFile && positional.size() != 2)
    return fail("command " + command + " expects one profile, as profile/profile.json");
  if (options.measuresModel() && positional.size() != 2)
    return fail("command " + command + " expects one model: model.mlir, model.pt, or a folder that --prepare made");
  if (command == "hardware" && positional.size() != 1)
    return fail("command hardware expects options alone, but got '" + positional[1] + "'");
  if (isOfFile)
    options.profile = positional[1];
  if (options.measuresModel())
    options.model = positional[1];
  checkModel();
  if (nvls == "on" && options.target != "cuda")
    return fail("option --nvls on is for GPUs (--target cuda)");
  options.nvls = nvls == "on";
  if (options.precision.empty()) // as galvatron-opt has it
    options.precision = options.target == "cuda" ? "bf16" : "fp32";
  if (options.folder.empty())
    return fail("option -o expects a folder");
}

/// Options that mean something for models alone.
void Parser::checkModel() {
  if (!options.prepare.empty() && options.command != "model")
    return fail("option --prepare belongs to command model");
  if (options.command == "export" && options.format.empty())
    return fail("command export expects --format=reference, the one that there is");
}

} // namespace

bool Options::wants(const std::string &kind) const {
  return kinds.empty() || std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

search::Result<Options> parseOptions(const std::vector<std::string> &arguments) { return Parser(arguments).run(); }

const options::Tool &commandLine() {
  static const options::Tool tool = {
      "galvatron-profile",
      "measures a machine, so that plans are priced by what it does",
      "galvatron-profile hardware -o DIR      messages and kernels: DIR/profile.json and DIR/cluster.json\n"
      "galvatron-profile model MODEL -o DIR   adds the bodies of a model's layers; MODEL: model.mlir, model.pt, or a\n"
      "                                       folder that --prepare made\n"
      "galvatron-profile all MODEL -o DIR     both\n"
      "galvatron-profile model MODEL --prepare FOLDER   compiles what will be run: no device, but the compiler\n"
      "galvatron-profile export FILE --format=reference -o FOLDER   as files that Hetu-Galvatron's search reads\n"
      "galvatron-profile show FILE            what a profile holds, how old, of which machine, how well it repeated",
      "Started by itself it starts its ranks under mpirun; under mpirun or srun it takes the ranks it finds. Each "
      "measurement is kept in DIR/profile.journal as soon as it is done: the same command goes on after an "
      "interruption. Memory is not measured: the compiler plans it to the byte.",
      {
#define OPTION(flags, value, help) {flags, value, help},
#include "Options.def"
#undef OPTION
          options::completionOption(),
      },
      "MPIRUN names another launcher with mpirun's syntax, MPIRUN_FLAGS adds options for it, e.g. \"--hostfile "
      "hosts\".\n"
      "\n"
      "Exit status: 0, 1 an error, 130 interrupted."};
  return tool;
}

} // namespace galvatron::profile
