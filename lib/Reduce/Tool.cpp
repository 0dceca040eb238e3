// mlir-reduce's own `reduction-tree` erases ops whose results are used, and ends where such a program is cloned. This
// one takes its place: as many ops at once as remain interesting, by halves down to single ones (Zeller, Hildebrandt:
// Simplifying and isolating failure-inducing input, 2002), each step a valid program.
#include "galvatron/Reduce/Tool.h"

#include "Reductions.h"

#include "galvatron/Pipelines/Pipelines.h"
#include "galvatron/Pipelines/RegisteredOptions.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Nesting.h"

#include "mlir/IR/Iterators.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Reducer/Tester.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/WithColor.h"

#include <algorithm>
#include <optional>
#include <vector>

using namespace mlir;
using namespace galvatron;

namespace {

struct ReductionTree : PassWrapper<ReductionTree, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ReductionTree)
  ReductionTree() = default;
  ReductionTree(const ReductionTree &other) : PassWrapper(other) {}

  StringRef getArgument() const final { return "reduction-tree"; }
  StringRef getDescription() const final { return "Reduces the program as far as the test stays interesting"; }

  Option<unsigned> traversalMode{*this, "traversal-mode", llvm::cl::desc("as mlir-reduce has it; there is one, 0"),
                                 llvm::cl::init(0)};
  Option<std::string> test{*this, "test", llvm::cl::desc("program that gets a file; exit code 1: it is interesting")};
  ListOption<std::string> testArguments{*this, "test-arg", llvm::cl::desc("arguments before the file")};

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (test.empty() || !llvm::sys::fs::can_execute(test)) {
      module.emitError("expects a program that can be run as option 'test' of reduction-tree, but got '")
          << test << "'";
      return signalPassFailure();
    }
    tester.emplace(test, testArguments);
    if (!isInteresting(module)) {
      module.emitError("expects a program that the test finds interesting (exit code 1), but it does not");
      return signalPassFailure();
    }
    OwningOpRef<ModuleOp> best = cast<ModuleOp>(module->clone());
    take(best, [](ModuleOp) { return true; });
    while (thinOut(best) || take(best, dropMicroBatch)) {
    }
    module->setAttrs(best->getOperation()->getAttrs());
    module.getBodyRegion().takeBody(best->getBodyRegion());
  }

private:
  /// Of programs that hold together.
  bool isInteresting(ModuleOp module) {
    ScopedDiagnosticHandler silence(module.getContext(), [](Diagnostic &) {});
    return succeeded(verify(module)) && tester->isInteresting(module).first == Tester::Interestingness::True;
  }

  /// `edit` of a copy, if it changes something and stays interesting.
  bool take(OwningOpRef<ModuleOp> &best, llvm::function_ref<bool(ModuleOp)> edit) {
    OwningOpRef<ModuleOp> copy = cast<ModuleOp>(best.get()->clone());
    if (!edit(*copy))
      return false;
    {
      ScopedDiagnosticHandler silence(copy->getContext(), [](Diagnostic &) {});
      cleanUp(*copy);
    }
    if (!isInteresting(*copy))
      return false;
    best = std::move(copy);
    return true;
  }

  /// By halves of what can be reduced, last ops first, as these have the fewest uses.
  bool thinOut(OwningOpRef<ModuleOp> &best) {
    bool isThinner = false;
    for (size_t size = std::max<size_t>(1, candidatesOf(*best).size()); size; size = size == 1 ? 0 : (size + 1) / 2)
      for (size_t begin = 0; begin < candidatesOf(*best).size();) {
        bool isTaken = take(best, [&](ModuleOp copy) {
          std::vector<Operation *> all = candidatesOf(copy);
          for (size_t index = begin; index < std::min(begin + size, all.size()); ++index)
            reduceOp(all[index]);
          return true;
        });
        isThinner |= isTaken;
        begin += isTaken ? 0 : size;
      }
    return isThinner;
  }

  static std::vector<Operation *> candidatesOf(ModuleOp module) {
    std::vector<Operation *> candidates;
    module.walk<WalkOrder::PostOrder, ReverseIterator>([&](Operation *op) {
      if (op != module && canReduce(op))
        candidates.push_back(op);
    });
    return candidates;
  }

  std::optional<Tester> tester;
};

int fail(const Twine &message) {
  llvm::WithColor::error(llvm::errs(), "galvatron-reduce") << message << "\n";
  return 1;
}

/// What pages say of the tool, besides its options.
options::Tool makeManual() {
  return {"galvatron-reduce",
          "the smallest program that a test finds interesting",
          "galvatron-reduce failing.mlir -reduction-tree='test=./interesting.sh' -o small.mlir",
          "The test is a program that gets a file after the arguments of test-arg; exit code 1 says that the file is "
          "interesting. The program loses as many ops at once as it can and stay so, then fewer, down to single ones; "
          "equal layers thin out, and timetables lose micro-batches. The options are those of mlir-reduce.",
          {},
          "Exit status: 0, 1 an error, such as a program that the test does not find interesting."};
}

/// Of passes the one that people come for.
std::vector<options::Option> describeRows(const RegisteredOptions &own) {
  std::vector<options::Option> rows = AnswerOptions::describeAll(own);
  for (options::Option &row : rows)
    row.isRare &= row.flags != "--reduction-tree";
  return rows;
}

} // namespace

int galvatron::runReduceTool(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  AnswerOptions answers(makeManual(), llvm::cl::getGeneralCategory(), describeRows);
  llvm::cl::opt<std::string> input(llvm::cl::Positional, llvm::cl::Required, llvm::cl::desc("<input file>"));
  llvm::cl::opt<std::string> output("o", llvm::cl::value_desc("FILE"), llvm::cl::desc("Output file (standard output)"),
                                    llvm::cl::init("-"));
  PassRegistration<ReductionTree>();
  galvatron::registerPasses();
  PassPipelineCLParser parser("", "Passes, of which reduction-tree reduces");
  llvm::cl::ParseCommandLineOptions(argc, argv,
                                    "galvatron-reduce: the smallest program that a test finds interesting\n");

  DialectRegistry registry;
  galvatron::registerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects(); // zeros are made wherever an op was
  std::string unread;
  std::optional<std::string> program = readProgram(input, unread);
  if (!program)
    return fail(unread);
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(*program, &context, input);
  if (!module)
    return fail("cannot read '" + input + "'");
  PassManager passes(&context);
  if (failed(parser.addToPipeline(passes, [](const Twine &message) { return fail(message), failure(); })))
    return 1;
  if (passes.empty())
    return fail("expects a pass, such as -reduction-tree='test=./interesting.sh'");
  if (failed(passes.run(*module)))
    return 1;
  std::string text, error;
  llvm::raw_string_ostream stream(text);
  module->print(stream);
  stream << "\n";
  bool isWritten = output == "-" ? writeStandardOutput(text, error) : writeOutputFile(output, text, error);
  return isWritten ? 0 : fail(error);
}
