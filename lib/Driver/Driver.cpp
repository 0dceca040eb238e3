// Decides between MlirOptMain and the main job (--search, --lower, --plan, --compile-to), which share
// one command line and all of mlir-opt's options.
#include "galvatron/Driver/Driver.h"

#include "HelpText.h"
#include "MainJob.h"
#include "ProgramDiagnostics.h"
#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Reference/Evaluate.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Nesting.h"
#include "galvatron/Transforms/PlanMemory.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Support/LogicalResult.h"
#include "mlir/Support/Timing.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/WithColor.h"

using namespace mlir;
using namespace galvatron;
namespace cl = llvm::cl;

namespace {

/// Options of `--evaluate`, named as a stage binary names them.
struct EvaluateCommandLine {
  cl::OptionCategory category{
      "The reference evaluator",
      "What the program computes, slowly and in one process: galvatron-opt --evaluate model.mlir"};
  cl::opt<bool> evaluate{
      "evaluate", cl::cat(category),
      cl::desc("Train the program as it is, at any phase from differentiate on, and print the losses; one before "
               "differentiate is taken there first, in fp32. After phase stage or lower (--keep-bodies) the timetables "
               "of all ranks are executed together")};
  cl::opt<std::string> weights{"weights", cl::cat(category), cl::value_desc("FILE"),
                               cl::desc("Start from this safetensors file (default: random values)")};
  cl::opt<std::string> data{"data", cl::cat(category), cl::value_desc("FILE"), cl::desc("Token ids (default: random)")};
  cl::opt<std::string> dataType{"data-dtype", cl::cat(category), cl::init("u8"), cl::value_desc("u8|u16|u32|i32|i64"),
                                cl::desc("Of --data (u8)")};
  cl::opt<int64_t> eod{"eod", cl::cat(category), cl::init(-1), cl::value_desc("ID"),
                       cl::desc("Rows hold several documents, each ended by this token")};
  cl::opt<int64_t> steps{"steps", cl::cat(category), cl::init(1), cl::value_desc("N"), cl::desc("Steps to train")};
  cl::opt<uint64_t> seed{"seed", cl::cat(category), cl::init(0), cl::value_desc("N"),
                         cl::desc("Seed of random values")};
  cl::opt<std::string> optimizer{"optimizer", cl::cat(category), cl::init("adamw"), cl::value_desc("adamw|sgd"),
                                 cl::desc("As in torch.optim (adamw)")};
  cl::opt<double> lr{"lr", cl::cat(category), cl::init(1e-3), cl::value_desc("X"), cl::desc("Learning rate")};
  cl::opt<double> clipGrad{"clip-grad", cl::cat(category), cl::init(0), cl::value_desc("X"),
                           cl::desc("Largest gradient norm; 0: off")};
  cl::opt<std::string> dumpGradients{"dump-gradients", cl::cat(category), cl::value_desc("DIR"),
                                     cl::desc("Write each step's gradients here")};

  reference::EvaluateOptions read() const {
    reference::EvaluateOptions options;
    options.weights = weights;
    options.data = data;
    options.dataType = dataType;
    options.eod = eod;
    options.steps = steps;
    options.seed = seed;
    options.optimizer.sgd = optimizer == "sgd";
    options.optimizer.lr = lr;
    options.optimizer.clipGrad = clipGrad;
    options.dumpGradients = dumpGradients;
    return options;
  }
};

/// The main job's own options. Made before the command line is parsed and destroyed after the run: no
/// global state.
struct JobCommandLine {
  /// LLVM's libraries register an option of this name, which nothing here reads.
  struct Freed {
    explicit Freed(llvm::StringRef name) {
      if (cl::Option *other = cl::getRegisteredOptions().lookup(name))
        other->removeArgument();
    }
  };
  Freed freed{"threads"};
  cl::OptionCategory category{"The main job",
                              "From a model to stage binaries: galvatron-opt --search --lower model.mlir"};
  cl::opt<bool> search{"search", cl::cat(category),
                       cl::desc("Search the fastest plan that fits the budget (phases import to plan)")};
  cl::opt<bool> lower{"lower", cl::cat(category),
                      cl::desc("Turn the planned step into stage binaries (the other phases)")};
  cl::opt<std::string> plan{"plan", cl::cat(category), cl::value_desc("FILE"),
                            cl::desc("Take this plan instead of searching: plan.json, or Hetu-Galvatron's format")};
  cl::opt<std::string> compileTo{"compile-to", cl::cat(category),
                                 cl::value_desc("import|differentiate|plan|shard|stage|lower"),
                                 cl::desc("Stop after a phase and print the program")};
  cl::opt<int64_t> ranks{"ranks", cl::cat(category), cl::init(0), cl::value_desc("N"),
                         cl::desc("Devices of this host (default: its cores)")};
  cl::opt<std::string> cluster{"cluster", cl::cat(category), cl::value_desc("FILE"),
                               cl::desc("Devices and links as cluster.json, instead of --ranks; or the "
                                        "name of a kind of device: h200, h100, a100")};
  cl::opt<std::string> profile{
      "profile", cl::cat(category), cl::value_desc("FILE"),
      cl::desc("Price messages, kernels and bodies of layers by what galvatron-profile measured (profile.json), "
               "on its devices or those of --cluster or --ranks")};
  cl::opt<std::string> memory{"memory", cl::cat(category), cl::value_desc("SIZE"),
                              cl::desc("Budget of one device: 2GiB, 512MiB, 24GB (default: a share of this host's)")};
  cl::opt<int64_t> globalBatch{"global-batch", cl::cat(category), cl::value_desc("N"),
                               cl::desc("Samples of a step (default: the plan's, or as imported)")};
  cl::opt<int64_t> microBatches{"micro-batches", cl::cat(category), cl::value_desc("N"),
                                cl::desc("Cut the batch of a searched plan into exactly so many pieces (default: the "
                                         "fastest number that divides it)")};
  cl::opt<int64_t> listPlans{
      "list-plans", cl::cat(category), cl::value_desc("N"),
      cl::desc("Write the N best plans of a search that fit, best first, as DIR/plans/01.json, 02.json and so on; with "
               "-o DIR")};
  cl::opt<int64_t> threads{"threads", cl::cat(category), cl::value_desc("N"),
                           cl::desc("Threads of the search (default: all cores); the plan is the same whatever their "
                                    "number")};
  cl::opt<std::string> target{
      "target", cl::cat(category), cl::init("cpu"), cl::value_desc("cpu|cuda"),
      cl::desc("Device that the binaries run on (cpu; the cluster of cuda is by default of h200)")};
  cl::opt<std::string> architecture{"arch", cl::cat(category), cl::init("sm_90a"), cl::value_desc("GPU"),
                                    cl::desc("GPU that kernels are generated for, as nvcc names it")};
  cl::opt<std::string> precision{"precision", cl::cat(category), cl::value_desc("fp32|bf16|fp16"),
                                 cl::desc("Of activations and products, with fp32 masters (default: "
                                          "fp32 on cpu, bf16 on cuda)")};
  cl::opt<bool> printTimetable{"print-timetable", cl::cat(category),
                               cl::desc("Lower the program and print what every stage does in a step, one line an "
                                        "entry, with the buffers it touches")};
  cl::opt<bool> verifyTimetable{"verify-timetable", cl::cat(category),
                                cl::desc("Lower the program and print what is proved of its stages, by every byte that "
                                         "they read and write in a step")};
  cl::opt<std::string> simulate{
      "simulate", cl::cat(category), cl::value_desc("FILE"),
      cl::desc("Write what every stage is predicted to do in a step, and when, as a trace for "
               "Perfetto; with or without --lower")};
  cl::opt<bool> keepBodies{"keep-bodies", cl::cat(category),
                           cl::desc("With --compile-to=lower: keep what bodies compute, for --evaluate")};
  cl::opt<std::string> bodies{
      "bodies", cl::cat(category), cl::value_desc("FILE"),
      cl::desc("For galvatron-profile: libraries of one layer of each type under the strategies "
               "that FILE lists, into the folder -o")};
  cl::opt<bool> explain{"explain", cl::cat(category), cl::desc("Print why this plan was chosen")};

  bool asksForJob() const {
    return search || lower || printTimetable || verifyTimetable || plan.getNumOccurrences() ||
           compileTo.getNumOccurrences() || simulate.getNumOccurrences() || bodies.getNumOccurrences();
  }

  /// The first of the job's options that means nothing without it, or empty.
  llvm::StringRef findOrphan() const {
    for (const cl::Option *option :
         {static_cast<const cl::Option *>(&ranks), static_cast<const cl::Option *>(&cluster),
          static_cast<const cl::Option *>(&memory), static_cast<const cl::Option *>(&profile),
          static_cast<const cl::Option *>(&globalBatch), static_cast<const cl::Option *>(&microBatches),
          static_cast<const cl::Option *>(&listPlans), static_cast<const cl::Option *>(&threads),
          static_cast<const cl::Option *>(&target), static_cast<const cl::Option *>(&architecture),
          static_cast<const cl::Option *>(&precision), static_cast<const cl::Option *>(&explain),
          static_cast<const cl::Option *>(&keepBodies)})
      if (option->getNumOccurrences())
        return option->ArgStr;
    return "";
  }
};

} // namespace

static int reportUsage(const llvm::Twine &message) {
  (void)reportError(message);
  return EXIT_FAILURE;
}

/// The options as the job takes them; prints what is wrong and returns nothing.
static std::optional<MainJobOptions> readOptions(const JobCommandLine &line, llvm::StringRef input,
                                                 llvm::StringRef output) {
  MainJobOptions options;
  options.input = input.str();
  options.output = output == "-" ? "" : output.str();
  options.search = line.search;
  options.lower = line.lower;
  options.explain = line.explain;
  options.keepBodies = line.keepBodies;
  options.printTimetable = line.printTimetable;
  options.verifyTimetable = line.verifyTimetable;
  options.plan = line.plan;
  options.simulate = line.simulate;
  options.bodies = line.bodies;
  options.cluster = {line.cluster, line.ranks, line.memory, line.profile, line.target == "cuda" ? "h200" : "cpu"};
  options.target = line.target;
  options.architecture = line.architecture;
  options.precision = line.precision;
  if (line.globalBatch.getNumOccurrences())
    options.globalBatch = line.globalBatch;
  if (line.microBatches.getNumOccurrences())
    options.microBatches = line.microBatches;
  if (line.listPlans.getNumOccurrences())
    options.listPlans = line.listPlans;
  if (line.threads.getNumOccurrences())
    options.threads = line.threads;
  if (line.ranks.getNumOccurrences() && line.ranks < 1)
    return reportUsage("expects --ranks of at least 1, but got " + llvm::Twine(line.ranks)), std::nullopt;
  if (line.plan.getNumOccurrences() && line.plan.empty())
    return reportUsage("expects a file after --plan="), std::nullopt;
  if (line.simulate.getNumOccurrences() && line.simulate.empty())
    return reportUsage("expects a file after --simulate="), std::nullopt;
  if (line.compileTo.getNumOccurrences()) {
    options.compileTo = parsePhase(line.compileTo);
    if (!options.compileTo)
      return reportUsage("expects --compile-to import, differentiate, plan, shard, stage or lower, but got '" +
                         llvm::Twine(line.compileTo) + "'"),
             std::nullopt;
  }
  return options;
}

/// Whether nobody has sent a program to standard input: a terminal would wait for someone to type it. Without a word
/// on the command line, only a pipe or a file says that a program comes.
static bool isInteractive(bool isFilter) {
  llvm::sys::fs::file_status status;
  if (llvm::sys::Process::StandardInIsUserInput())
    return true;
  return !isFilter && (llvm::sys::fs::status(llvm::sys::fs::getStdinHandle(), status) ||
                       (status.type() != llvm::sys::fs::file_type::regular_file &&
                        status.type() != llvm::sys::fs::file_type::fifo_file));
}

/// Of a file within bounds; of standard input all that comes. Or nothing and what is wrong.
static std::unique_ptr<llvm::MemoryBuffer> readInput(llvm::StringRef input, std::string &error) {
  if (input == "-" || !llvm::sys::fs::exists(input))
    return openInputFile(input, &error);
  std::optional<std::string> text = readTextFile(input.str(), error, kMaxProgramBytes);
  if (!text)
    error += "; write one with galvatron-import";
  return text ? llvm::MemoryBuffer::getMemBufferCopy(*text, input) : nullptr;
}

/// Passes alone, as mlir-opt runs them. Its own main opens the output first, and where it fails removes it, even if that
/// is a device.
static LogicalResult runPasses(int argc, char **argv, llvm::StringRef input, llvm::StringRef output,
                               DialectRegistry &registry) {
  MlirOptMainConfig config = MlirOptMainConfig::createFromCLOptions();
  if (config.shouldShowDialects() || config.shouldListPasses())
    return MlirOptMain(argc, argv, input, "-", registry);
  std::string error;
  std::unique_ptr<llvm::MemoryBuffer> buffer = readInput(input, error);
  if (!buffer)
    return reportError(error);
  if (error = findDeepNesting(buffer->getBuffer()); !error.empty())
    return reportError("cannot read '" + input + "': " + error);
  if (output == "-")
    return MlirOptMain(llvm::outs(), std::move(buffer), registry, config);
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (failed(MlirOptMain(stream, std::move(buffer), registry, config)))
    return failure();
  return writeOutputFile(output.str(), text, error) ? success() : reportError(error + "; name another with -o");
}

/// Names of a program become JSON, which is UTF-8.
static LogicalResult checkTexts(ModuleOp module) {
  Operation *current = nullptr;
  AttrTypeWalker texts;
  texts.addWalk([&](StringAttr text) {
    if (isUtf8(text.getValue()))
      return WalkResult::advance();
    current->emitOpError("expects texts in UTF-8, but got ") << text;
    return WalkResult::interrupt();
  });
  WalkResult result = module.walk([&](Operation *op) {
    current = op;
    bool isGood = !texts.walk<WalkOrder::PreOrder>(op->getAttrDictionary()).wasInterrupted() &&
                  !texts.walk<WalkOrder::PreOrder>(LocationAttr(op->getLoc())).wasInterrupted();
    return isGood ? WalkResult::advance() : WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

/// Reads a program and hands it to `run`.
static int withProgram(llvm::StringRef input, DialectRegistry &registry,
                       llvm::function_ref<LogicalResult(OwningOpRef<ModuleOp>, TimingScope &)> run) {
  std::string error;
  std::unique_ptr<llvm::MemoryBuffer> buffer = readInput(input, error);
  if (!buffer)
    return reportUsage(error);
  if (std::string foreign = findForeignFormat(input, buffer->getBuffer()); !foreign.empty())
    return reportUsage(foreign);
  auto sources = std::make_shared<llvm::SourceMgr>();
  sources->AddNewSourceBuffer(std::move(buffer), llvm::SMLoc());

  DefaultTimingManager manager;
  applyDefaultTimingManagerCLOptions(manager);
  TimingScope timing = manager.getRootScope();
  MLIRContext context(registry);
  ProgramDiagnostics diagnostics(*sources, &context);
  // One message is enough: an error about the whole model would print all of it.
  context.printOpOnDiagnostic(cl::getRegisteredOptions().lookup("mlir-print-op-on-diagnostic")->getNumOccurrences() >
                              0);
  // Passes of later phases build ops of dialects that the model does not mention.
  context.loadAllAvailableDialects();
  TimingScope parsing = timing.nest("parse");
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(sources, &context);
  parsing.stop();
  if (!module) {
    llvm::WithColor::note(llvm::errs(), "galvatron-opt")
        << "'" << input << "' is not a whole program; write it again with galvatron-import\n";
    return EXIT_FAILURE;
  }
  if (failed(checkTexts(*module)))
    return EXIT_FAILURE;
  // Messages about the whole model name its file; a line of it would say nothing.
  (*module)->setLoc(NameLoc::get(StringAttr::get(&context, input)));
  return asMainReturnCode(run(std::move(module), timing));
}

/// Trains a program after phase stage or lower by the timetables of all its ranks.
static LogicalResult evaluateStages(ModuleOp module, const reference::EvaluateOptions &options) {
  bool isLowered = detectPhase(module) == Phase::Lower;
  ModuleOp bodies = isLowered ? module.lookupSymbol<ModuleOp>(dist::kBodiesModuleName) : module;
  if (!bodies)
    return module.emitError("expects a lowered program that says what its bodies compute; compile it with "
                            "--keep-bodies, or evaluate the program after phase stage");
  bodies->setLoc(module.getLoc());
  // One that is lowered already holds all that its timetables are made of; else its bodies stay as they are.
  OwningOpRef<ModuleOp> lowered(module.clone());
  LowerPhaseOptions lower;
  lower.timetables = std::make_shared<std::vector<Timetable>>();
  PassManager passes(module.getContext());
  if (failed(applyPassManagerCLOptions(passes)))
    return failure();
  if (isLowered)
    passes.addPass(createPlanMemoryPass(lower.timetables));
  else
    buildLowerPhase(passes, lower);
  if (failed(passes.run(*lowered)))
    return failure();
  return reference::runTimetables(bodies, *lower.timetables, options, llvm::outs());
}

/// Gives a program that is before phase differentiate its gradients, so that it can be trained.
static LogicalResult differentiate(ModuleOp module) {
  Phase start = detectPhase(module);
  PassManager passes(module.getContext());
  if (failed(applyPassManagerCLOptions(passes)))
    return failure();
  if (start < Phase::Import)
    buildImportPhase(passes, {});
  if (start < Phase::Differentiate)
    buildDifferentiatePhase(passes, {});
  return passes.run(module);
}

/// The command line as a shell takes it: words with anything that a shell reads are quoted.
static std::string spellCommand(ArrayRef<char *> words) {
  std::string text = llvm::sys::path::filename(words.front()).str();
  for (llvm::StringRef word : words.drop_front()) {
    bool isPlain = !word.empty() && llvm::all_of(word, [](char c) {
      return llvm::isAlnum(c) || llvm::is_contained(llvm::StringRef("-_=./,:+%@"), c);
    });
    text += " ";
    if (isPlain) {
      text += word;
      continue;
    }
    text += "'";
    for (char c : word)
      text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += "'";
  }
  return llvm::json::fixUTF8(text);
}

/// What pages say of the tool, besides its options.
static options::Tool makeManual() {
  return {
      "galvatron-opt",
      "from a training step to stage binaries, or MLIR in and MLIR out",
      "galvatron-opt --search --lower model.mlir --ranks=4 --memory=2GiB -o build/model\n"
      "galvatron-opt --plan=build/model/plan.json --lower model.mlir -o build/other\n"
      "galvatron-opt --search --compile-to=plan model.mlir --ranks=8 --explain\n"
      "galvatron-opt --evaluate model.mlir",
      "A program, as galvatron-import writes it, is taken through the phases import, differentiate, plan, shard, stage "
      "and lower, to a folder with a binary for each pipeline stage, plan.json, timetable.json and launch, which "
      "starts them; or to the program after one of these phases. Without an option of the main job or the evaluator, "
      "it runs passes as mlir-opt does.",
      {},
      "All that mlir-opt takes is parsed, too: --help-hidden lists it, with the options of each pass."};
}

static int drive(int argc, char **argv, DialectRegistry &registry) {
  JobCommandLine line;
  EvaluateCommandLine evaluator;
  cl::AddExtraVersionPrinter([](llvm::raw_ostream &out) { out << "galvatron-opt, of a training step's compiler\n"; });
  static constexpr llvm::StringLiteral overview =
      "galvatron-opt: from a training step to stage binaries, or MLIR in and MLIR out\n";
  std::string header = registerCLIOptions(overview, registry);
  const cl::OptionCategory *categories[] = {&line.category, &evaluator.category};
  AnswerOptions answers(makeManual(), line.category,
                        [&](const RegisteredOptions &) { return describeHelp(categories); });
  if (asksForHelp(ArrayRef(argv, argc))) {
    printHelp(overview, categories);
    return EXIT_SUCCESS;
  }
  auto [input, output] = parseCLIOptions(argc, argv, header);
  bool isStandardInput =
      input == "-" && llvm::none_of(ArrayRef(argv, argc), [](StringRef word) { return word == "-"; });
  if (isStandardInput && isInteractive(/*isFilter=*/argc > 1))
    return reportUsage(
        "expects a program: galvatron-opt --search --lower model.mlir, or MLIR on standard input; --help "
        "tells the rest");
  if (evaluator.evaluate) {
    if (line.asksForJob())
      return reportUsage("expects --evaluate alone; first write the program of a phase with --compile-to");
    if (evaluator.optimizer != "adamw" && evaluator.optimizer != "sgd")
      return reportUsage("expects --optimizer adamw or sgd, but got '" + llvm::Twine(evaluator.optimizer) + "'");
    return withProgram(input, registry, [&](OwningOpRef<ModuleOp> module, TimingScope &) {
      if (detectPhase(*module) >= Phase::Stage)
        return evaluateStages(*module, evaluator.read());
      if (failed(differentiate(*module)))
        return failure();
      return reference::runEvaluate(*module, evaluator.read(), llvm::outs());
    });
  }
  if (!line.asksForJob()) {
    if (llvm::StringRef orphan = line.findOrphan(); !orphan.empty())
      return reportUsage("expects --search, --lower, --plan or --compile-to beside --" + orphan);
    return asMainReturnCode(runPasses(argc, argv, input, output, registry));
  }
  std::optional<MainJobOptions> options = readOptions(line, input, output);
  if (!options)
    return EXIT_FAILURE;
  options->command = spellCommand(ArrayRef(argv, argc));
  return withProgram(options->input, registry, [&](OwningOpRef<ModuleOp> module, TimingScope &timing) {
    return runMainJob(*module, *options, timing);
  });
}

int galvatron::runDriver(int argc, char **argv, DialectRegistry &registry) {
  int code = drive(argc, argv, registry);
  std::string why = finishWriting(llvm::outs());
  return why.empty() ? code : reportUsage("cannot write to standard output: " + why);
}
