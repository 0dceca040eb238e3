// From a file to two files: loading, reading, writing.
#include "galvatron/Import/Import.h"

#include "Reader.h"

#include "dialects/Graph/GraphDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/raw_ostream.h"

#include <filesystem>

using namespace galvatron;
using namespace galvatron::importer;
namespace fs = std::filesystem;

static constexpr const char *kExtraFile = "galvatron.json";

/// The first sentence of an exception's text.
static std::string firstSentence(const char *text) {
  std::string line(text);
  line = line.substr(0, line.find('\n'));
  return line.substr(0, line.find(". "));
}

static torch::jit::Module load(const std::string &path, std::string &description) {
  if (!fs::exists(path))
    throw ImportError("no such file; write one with `python -m galvatron.export --config config.json -o model.pt`");
  if (fs::is_directory(path))
    throw ImportError("is a folder; expects an archive of `python -m galvatron.export`");
  torch::jit::ExtraFilesMap extra{{kExtraFile, ""}};
  try {
    torch::jit::Module module = torch::jit::load(path, c10::kCPU, extra);
    description = extra[kExtraFile];
    return module;
  } catch (const c10::Error &error) {
    throw ImportError("cannot be read as TorchScript (" + firstSentence(error.what_without_backtrace()) +
                      "): it is truncated or of another format; write it with `python -m galvatron.export`");
  } catch (const std::exception &error) {
    throw ImportError("cannot be read as TorchScript (" + firstSentence(error.what()) +
                      "): it is damaged or of another format; write it with `python -m galvatron.export`");
  }
}

static mlir::OwningOpRef<mlir::ModuleOp> read(mlir::MLIRContext &context, const torch::jit::Module &module,
                                              const Parameters &parameters, const Description &description,
                                              const ImportOptions &options, std::vector<std::string> &warnings) {
  int64_t batch = options.batch ? options.batch : description.exampleBatch;
  int64_t seq = options.seq ? options.seq : description.exampleSeq;
  if (batch <= 0 || seq <= 0)
    throw ImportError("the archive has no galvatron.json that tells its example's sizes; pass --batch and --seq");
  Importer importer(context, batch, seq);
  importer.exampleBatch = description.exampleBatch;
  importer.exampleSeq = description.exampleSeq;
  if (options.labelsAreNext)
    importer.moveLabels();
  Value loss = Reader(importer, parameters).run(module);
  auto result = importer.finish(loss);
  warnings = importer.warnings;
  return result;
}

static fs::path weightsBeside(const fs::path &output) { return fs::path(output).replace_extension(".safetensors"); }

/// Before any work. A rename would also replace a device or a link to one.
static void checkOutputs(const fs::path &output) {
  for (const fs::path &path : {output, weightsBeside(output)})
    if (path == "-" || (fs::exists(path) && !fs::is_regular_file(path)))
      throw ImportError("expects the output to be a file, with its weights beside it, but '" + path.string() +
                        "' is none; name a file with -o");
}

/// Writes under temporary names first: both files appear, or none does.
static void write(mlir::ModuleOp module, const Parameters &parameters, const ImportOptions &options) {
  fs::path output(options.output), weights = weightsBeside(output);
  auto temporary = [](const fs::path &path) { return path.string() + ".partial"; };
  auto discard = [&] {
    std::error_code ignored;
    fs::remove(temporary(output), ignored);
    fs::remove(temporary(weights), ignored);
  };
  auto refuse = [&](const fs::path &path, const std::string &why) {
    discard();
    throw ImportError("cannot write " + path.string() + ": " + why + "; check the folder and its free space");
  };
  std::error_code error;
  bool hasWeights = !parameters.isWeightless();
  if (hasWeights)
    module->setAttr(graph::kWeightsAttr, mlir::StringAttr::get(module.getContext(), weights.filename().string()));
  llvm::raw_fd_ostream stream(temporary(output), error);
  if (error)
    refuse(output, error.message());
  module->print(stream, mlir::OpPrintingFlags().enableDebugInfo(true, false));
  stream << '\n';
  stream.close();
  if (stream.has_error()) {
    std::string why = stream.error().message();
    stream.clear_error();
    refuse(output, why);
  }
  if (hasWeights) {
    if (std::string why = parameters.write(temporary(weights)); !why.empty())
      refuse(weights, why);
    fs::rename(temporary(weights), weights, error);
    if (error)
      refuse(weights, error.message());
  }
  fs::rename(temporary(output), output, error);
  if (error)
    refuse(output, error.message());
}

bool galvatron::importModel(const ImportOptions &options, std::string &error, std::vector<std::string> &warnings) {
  try {
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    context.loadDialect<graph::GraphDialect, mlir::arith::ArithDialect, mlir::math::MathDialect,
                        mlir::func::FuncDialect>();
    checkOutputs(options.output);
    std::string text;
    torch::jit::Module module = load(options.input, text);
    Description description = parseDescription(text, context);
    Parameters parameters(module, description);
    auto result = read(context, module, parameters, description, options, warnings);
    write(*result, parameters, options);
    return true;
  } catch (const ImportError &failure) {
    error = failure.what();
  } catch (const c10::Error &failure) {
    error = firstSentence(failure.what_without_backtrace());
  } catch (const std::exception &failure) {
    error = firstSentence(failure.what());
  }
  return false;
}
