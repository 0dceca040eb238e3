// Decides between MlirOptMain and the main job (--search, --lower, --plan, --compile-to), which share
// one command line and all of mlir-opt's options.
#include "galvatron/Target/Driver.h"

#include "MainJob.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Support/LogicalResult.h"
#include "mlir/Support/Timing.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/WithColor.h"

using namespace mlir;
using namespace galvatron;
namespace cl = llvm::cl;

namespace {

/// The main job's own options. Made before the command line is parsed and destroyed after the run: no
/// global state.
struct JobCommandLine {
  cl::OptionCategory category{"The main job",
                              "From a model to stage binaries: galvatron-opt --search --lower model.mlir"};
  cl::opt<bool> search{"search", cl::cat(category),
                       cl::desc("Search the fastest plan that fits the budget (phases import to plan)")};
  cl::opt<bool> lower{"lower", cl::cat(category),
                      cl::desc("Turn the planned step into stage binaries (the other phases)")};
  cl::opt<std::string> plan{"plan", cl::cat(category), cl::value_desc("FILE"),
                            cl::desc("Take this plan instead of searching: plan.json, or Hetu-Galvatron's format")};
  cl::opt<std::string> compileTo{"compile-to", cl::cat(category), cl::value_desc("PHASE"),
                                 cl::desc("Stop after a phase and print the program: import, differentiate, plan, "
                                          "shard, stage or lower")};
  cl::opt<int64_t> ranks{"ranks", cl::cat(category), cl::init(0), cl::value_desc("N"),
                         cl::desc("Devices of this host (default: its cores)")};
  cl::opt<std::string> cluster{"cluster", cl::cat(category), cl::value_desc("FILE"),
                               cl::desc("Devices and links as cluster.json, instead of --ranks")};
  cl::opt<std::string> memory{"memory", cl::cat(category), cl::value_desc("SIZE"),
                              cl::desc("Budget of one device: 2GiB, 512MiB, 24GB (default: a share of this host's)")};
  cl::opt<int64_t> globalBatch{"global-batch", cl::cat(category), cl::value_desc("N"),
                               cl::desc("Samples of a step (default: the plan's, or as imported)")};
  cl::opt<std::string> target{"target", cl::cat(category), cl::init("cpu"), cl::value_desc("DEVICE"),
                              cl::desc("Device that the binaries run on: cpu")};
  cl::opt<bool> explain{"explain", cl::cat(category), cl::desc("Print why this plan was chosen")};

  bool asksForJob() const { return search || lower || plan.getNumOccurrences() || compileTo.getNumOccurrences(); }

  /// The first of the job's options that means nothing without it, or empty.
  llvm::StringRef findOrphan() const {
    for (const cl::Option *option :
         {static_cast<const cl::Option *>(&ranks), static_cast<const cl::Option *>(&cluster),
          static_cast<const cl::Option *>(&memory), static_cast<const cl::Option *>(&globalBatch),
          static_cast<const cl::Option *>(&target), static_cast<const cl::Option *>(&explain)})
      if (option->getNumOccurrences())
        return option->ArgStr;
    return "";
  }
};

} // namespace

static int reportUsage(const llvm::Twine &message) {
  llvm::WithColor::error(llvm::errs(), "galvatron-opt") << message << "\n";
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
  options.plan = line.plan;
  options.cluster = {line.cluster, line.ranks, line.memory};
  options.target = line.target;
  if (line.globalBatch.getNumOccurrences())
    options.globalBatch = line.globalBatch;
  if (line.ranks.getNumOccurrences() && line.ranks < 1)
    return reportUsage("expects --ranks of at least 1, but got " + llvm::Twine(line.ranks)), std::nullopt;
  if (line.plan.getNumOccurrences() && line.plan.empty())
    return reportUsage("expects a file behind --plan="), std::nullopt;
  if (line.compileTo.getNumOccurrences()) {
    options.compileTo = parsePhase(line.compileTo);
    if (!options.compileTo)
      return reportUsage("expects --compile-to import, differentiate, plan, shard, stage or lower, but got '" +
                         llvm::Twine(line.compileTo) + "'"),
             std::nullopt;
  }
  return options;
}

static int runMainJob(const MainJobOptions &options, DialectRegistry &registry) {
  std::string error;
  auto buffer = openInputFile(options.input, &error);
  if (!buffer)
    return reportUsage(error);
  auto sources = std::make_shared<llvm::SourceMgr>();
  sources->AddNewSourceBuffer(std::move(buffer), llvm::SMLoc());

  DefaultTimingManager manager;
  applyDefaultTimingManagerCLOptions(manager);
  TimingScope timing = manager.getRootScope();
  MLIRContext context(registry);
  SourceMgrDiagnosticHandler handler(*sources, &context);
  // One message is enough: an error about the whole model would print all of it.
  context.printOpOnDiagnostic(cl::getRegisteredOptions().lookup("mlir-print-op-on-diagnostic")->getNumOccurrences() >
                              0);
  // Passes of later phases build ops of dialects that the model does not mention.
  context.loadAllAvailableDialects();
  TimingScope parsing = timing.nest("parse");
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(sources, &context);
  parsing.stop();
  if (!module)
    return EXIT_FAILURE;
  return asMainReturnCode(MainJob(&context, options).run(std::move(module), timing));
}

int galvatron::runDriver(int argc, char **argv, DialectRegistry &registry) {
  JobCommandLine line;
  cl::AddExtraVersionPrinter([](llvm::raw_ostream &out) { out << "galvatron-opt, of a training step's compiler\n"; });
  auto [input, output] = registerAndParseCLIOptions(
      argc, argv, "galvatron-opt: from a training step to stage binaries, or MLIR in and MLIR out\n", registry);
  if (!line.asksForJob()) {
    if (llvm::StringRef orphan = line.findOrphan(); !orphan.empty())
      return reportUsage("expects --search, --lower, --plan or --compile-to beside --" + orphan);
    return asMainReturnCode(MlirOptMain(argc, argv, input, output, registry));
  }
  std::optional<MainJobOptions> options = readOptions(line, input, output);
  return options ? runMainJob(*options, registry) : EXIT_FAILURE;
}
