// Names of outputs follow from the model's file.
#include "JobOutput.h"

#include "OutputFolder.h"
#include "PlanColors.h"
#include "PlanSummary.h"
#include "ProgramDiagnostics.h"

#include "dialects/Graph/ConfigAttr.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Target/HostBytes.h"
#include "galvatron/Target/StageBinaries.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace galvatron;

/// In the output's, of listed plans.
static constexpr char kPlansFolder[] = "plans";

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
  if (options.output.empty()) {
    write(llvm::outs());
    return success();
  }
  std::string text, error;
  llvm::raw_string_ostream stream(text);
  write(stream);
  return writeOutputFile(options.output, text, error) ? success() : reportError(error + "; name another with -o");
}

/// A text of PlanSummary.h, in colour where that is wanted.
static void print(const search::Plan &plan, llvm::raw_ostream &out,
                  void (*write)(const search::Plan &, raw_ostream &)) {
  if (!isInColor(out))
    return write(plan, out);
  std::string text;
  llvm::raw_string_ostream plain(text);
  write(plan, plain);
  out << colorPlanText(text, plan);
}

LogicalResult galvatron::printProgram(ModuleOp module, const search::Plan &plan, const MainJobOptions &options) {
  auto write = [&](llvm::raw_ostream &out) {
    module.print(out);
    out << "\n";
  };
  if (failed(writeText(options, write)))
    return failure();
  if (options.explain && !plan.layers.empty()) {
    print(plan, llvm::errs(), printPlanSummary);
    print(plan, llvm::errs(), printPlanReasons);
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

/// "01.json" of the best of ten; names of more have as many digits as the last.
static std::string getListedName(size_t index, size_t count) {
  size_t digits = std::max<size_t>(2, std::to_string(count).size());
  std::string number = std::to_string(index + 1);
  return std::string(digits - number.size(), '0') + number + ".json";
}

/// Files of plans that were listed, with `prefix` before their names.
static std::string addListedPlans(OutputFolder &folder, llvm::StringRef prefix, ArrayRef<search::Plan> plans) {
  for (auto [index, plan] : llvm::enumerate(plans))
    if (std::string error =
            folder.writeFile(prefix.str() + getListedName(index, plans.size()), search::writePlan(plan));
        !error.empty())
      return error;
  return "";
}

/// One line a plan; and where there are fewer than were asked for, why.
static void printListedPlans(const JobPlan &job, const MainJobOptions &options) {
  for (auto [index, plan] : llvm::enumerate(job.listed))
    llvm::outs() << getListedName(index, job.listed.size())
                 << llvm::format("  %.4g ms  ", plan.predictedSeconds() * 1e3) << describePlan(plan) << "\n";
  if (job.areAlike)
    llvm::outs() << "there are too many plans to look at all: of those beyond the best ones, plans of one stage whose "
                    "layers are alike\n";
  if (int64_t(job.listed.size()) < *options.listPlans)
    llvm::outs() << "only " << job.listed.size() << " of " << *options.listPlans << " plans: "
                 << (job.hasListedAll ? "no other one fits, but for such as take the same time and bytes"
                                      : "no other one of those that were looked at fits, and there are too many to "
                                        "look at all")
                 << "\n";
}

LogicalResult galvatron::writeListedPlans(const JobPlan &job, const MainJobOptions &options) {
  llvm::SmallString<256> path(options.output);
  llvm::sys::path::append(path, kPlansFolder);
  OutputFolder folder(path);
  if (std::string error = folder.create(); !error.empty())
    return reportError(error);
  if (std::string error = addListedPlans(folder, "", job.listed); !error.empty())
    return reportError(error);
  if (std::string error = folder.commit(); !error.empty())
    return reportError(error);
  printListedPlans(job, options);
  if (options.explain)
    print(job.plan, llvm::outs(), printPlanReasons);
  llvm::outs() << "wrote " << folder.getPath() << "; lower one with galvatron-opt --lower --plan=FILE\n";
  return success();
}

/// Everything but the folder's appearance under its own name.
static LogicalResult fillFolder(OutputFolder &folder, ModuleOp lowered, ArrayRef<Timetable> timetables,
                                const JobPlan &job, StringRef timetable, const MainJobOptions &options) {
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
  for (auto [attribute, name] : {std::pair(graph::kConfigAttr, "config.json"), {graph::kAdapterAttr, "adapter.json"}})
    if (auto text = lowered->getAttrOfType<StringAttr>(attribute))
      if (std::string error = folder.writeFile(name, text.getValue()); !error.empty())
        return reportError(error);
  if (std::string error = folder.writeFile("timetable.json", timetable); !error.empty())
    return reportError(error);
  if (!job.listed.empty()) {
    if (std::string error = folder.createFolder(kPlansFolder); !error.empty())
      return reportError(error);
    if (std::string error = addListedPlans(folder, std::string(kPlansFolder) + "/", job.listed); !error.empty())
      return reportError(error);
  }
  std::string error = folder.writeFile("plan.json", search::writePlan(job.plan, countHostBytes(lowered, timetables)));
  return error.empty() ? success() : reportError(error);
}

LogicalResult galvatron::writeStageFolder(ModuleOp lowered, ArrayRef<Timetable> timetables, const JobPlan &job,
                                          StringRef timetable, const MainJobOptions &options) {
  OutputFolder folder(getOutputFolder(options));
  if (std::string error = folder.create(); !error.empty())
    return reportError(error);
  if (failed(fillFolder(folder, lowered, timetables, job, timetable, options)))
    return failure();
  if (std::string error = folder.commit(); !error.empty())
    return reportError(error);
  print(job.plan, llvm::outs(), printPlanSummary);
  if (options.explain)
    print(job.plan, llvm::outs(), printPlanReasons);
  if (options.listPlans)
    printListedPlans(job, options);
  llvm::outs() << "wrote " << folder.getPath() << "; train with " << getOutputFolder(options) << "/launch --help\n";
  return success();
}
