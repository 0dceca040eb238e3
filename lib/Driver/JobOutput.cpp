// Names of outputs follow from the model's file.
#include "JobOutput.h"

#include "OutputFolder.h"
#include "PlanSummary.h"
#include "ProgramDiagnostics.h"

#include "dialects/Graph/ConfigAttr.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Target/HostBytes.h"
#include "galvatron/Target/StageBinaries.h"

#include "mlir/Support/FileUtilities.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/ToolOutputFile.h"

using namespace mlir;
using namespace galvatron;

static std::string getModelName(const MainJobOptions &options) { return llvm::sys::path::stem(options.input).str(); }

static std::string getOutputFolder(const MainJobOptions &options) {
  return options.output.empty() ? "./" + getModelName(options) : options.output;
}

/// Beside the model: its weights and its buffers, if it has any.
static std::vector<std::string> getFilesBeside(ModuleOp module, const MainJobOptions &options) {
  std::vector<std::string> files;
  for (StringRef attribute : {graph::kWeightsAttr, graph::kBuffersAttr})
    if (auto name = module->getAttrOfType<StringAttr>(attribute)) {
      llvm::SmallString<256> path(llvm::sys::path::parent_path(options.input));
      llvm::sys::path::append(path, name.getValue());
      files.push_back(std::string(path));
    }
  return files;
}

LogicalResult galvatron::checkFilesBeside(ModuleOp module, const MainJobOptions &options) {
  for (const std::string &file : getFilesBeside(module, options))
    if (!llvm::sys::fs::exists(file))
      return reportError("expects the model's weights in '" + llvm::Twine(file) +
                         "', but there is no such file; import the model again, or bring its weights along");
  return success();
}

/// Text to the file of the options, or standard output.
static LogicalResult writeText(const MainJobOptions &options, llvm::function_ref<void(llvm::raw_ostream &)> write) {
  std::string error;
  auto file = openOutputFile(options.output.empty() ? "-" : options.output, &error);
  if (!file)
    return reportError(error);
  write(file->os());
  if (std::string failure = finishWriting(file->os()); !failure.empty())
    return reportError("cannot write " + file->getFilename() + ": " + failure + "; name another with -o");
  file->keep();
  return success();
}

LogicalResult galvatron::printProgram(ModuleOp module, const search::Plan &plan, const MainJobOptions &options) {
  auto write = [&](llvm::raw_ostream &out) {
    module.print(out);
    out << "\n";
  };
  if (failed(writeText(options, write)))
    return failure();
  if (options.explain && !plan.layers.empty()) {
    printPlanSummary(plan, llvm::errs());
    printPlanReasons(plan, llvm::errs());
  }
  return success();
}

LogicalResult galvatron::printTimetable(ModuleOp lowered, ArrayRef<Timetable> timetables, const TimetableProof &proof,
                                        const MainJobOptions &options) {
  return writeText(options, [&](llvm::raw_ostream &out) {
    if (options.printTimetable)
      printTimetables(lowered, timetables, out);
    if (options.verifyTimetable)
      printProof(proof, out << (options.printTimetable ? "\n" : ""));
  });
}

/// Everything but the folder's appearance under its own name.
static LogicalResult fillFolder(OutputFolder &folder, ModuleOp lowered, ArrayRef<Timetable> timetables,
                                const search::Plan &plan, StringRef timetable, const MainJobOptions &options) {
  StageOutputOptions stages;
  stages.directory = folder.getTemporaryPath();
  stages.modelName = getModelName(options);
  stages.device = options.target;
  stages.architecture = options.architecture;
  if (failed(emitStageBinaries(lowered, timetables, stages)))
    return failure();
  for (const std::string &file : getFilesBeside(lowered, options))
    if (std::string error = folder.addFile(llvm::sys::path::filename(file), file); !error.empty())
      return reportError(error);
  if (auto config = lowered->getAttrOfType<StringAttr>(graph::kConfigAttr))
    if (std::string error = folder.writeFile("config.json", config.getValue()); !error.empty())
      return reportError(error);
  if (std::string error = folder.writeFile("timetable.json", timetable); !error.empty())
    return reportError(error);
  std::string error = folder.writeFile("plan.json", search::writePlan(plan, countHostBytes(lowered, timetables)));
  return error.empty() ? success() : reportError(error);
}

LogicalResult galvatron::writeStageFolder(ModuleOp lowered, ArrayRef<Timetable> timetables, const search::Plan &plan,
                                          StringRef timetable, const MainJobOptions &options) {
  OutputFolder folder(getOutputFolder(options));
  if (std::string error = folder.create(); !error.empty())
    return reportError(error);
  if (failed(fillFolder(folder, lowered, timetables, plan, timetable, options)))
    return failure();
  if (std::string error = folder.commit(); !error.empty())
    return reportError(error);
  printPlanSummary(plan, llvm::outs());
  if (options.explain)
    printPlanReasons(plan, llvm::outs());
  llvm::outs() << "wrote " << folder.getPath() << "; train with " << getOutputFolder(options) << "/launch --help\n";
  return success();
}
