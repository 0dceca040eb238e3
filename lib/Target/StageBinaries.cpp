// Objects → a folder that trains: linking through the system's compiler driver, the runtime's libraries
// beside the executables (found through $ORIGIN), the launch script from its template.
#include "galvatron/Target/StageBinaries.h"

#include "dialects/Plan/Plan.h"
#include "galvatron/Support/Files.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

using namespace mlir;
using namespace galvatron;

static std::string inFolder(StringRef folder, StringRef name) {
  llvm::SmallString<256> path(folder);
  llvm::sys::path::append(path, name);
  return std::string(path);
}

/// The libraries lie in ../lib of this tool, in the build tree and where it is installed.
static std::string defaultRuntimeDirectory() {
  static int anchor;
  llvm::SmallString<256> path(llvm::sys::fs::getMainExecutable("galvatron-opt", &anchor));
  llvm::sys::path::remove_filename(path);
  llvm::sys::path::remove_filename(path);
  llvm::sys::path::append(path, "lib");
  return std::string(path);
}

static LogicalResult copyFile(ModuleOp module, StringRef from, StringRef to) {
  if (std::error_code error = llvm::sys::fs::copy_file(from, to))
    return emitError(module.getLoc()) << "could not copy " << from << " to " << to << ": " << error.message();
  return success();
}

static LogicalResult link(ModuleOp module, const StageOutputOptions &options, StringRef runtime, StringRef object,
                          StringRef executable) {
  auto driver = llvm::sys::findProgramByName("cc");
  if (!driver)
    return emitError(module.getLoc()) << "expects a C compiler named cc to link the stages; install gcc or clang";
  std::string search = ("-L" + runtime).str(), device = "-lgalvatron_" + options.device;
  SmallVector<StringRef> arguments = {*driver, "-o", executable, object, search, "-Wl,--no-as-needed", device,
                                      "-lgalvatron_rt", "-lm",
                                      // What a GPU's library needs lies where the GPU is.
                                      "-Wl,--allow-shlib-undefined", "-Wl,-rpath,$ORIGIN", "-Wl,-z,noexecstack"};
  if (options.isLibrary) // whoever loads it has the runtime
    arguments = {*driver, "-shared", "-o", executable, object, "-lm", "-Wl,-z,noexecstack"};
  llvm::SmallString<128> log;
  if (std::error_code error = llvm::sys::fs::createTemporaryFile("galvatron-link", "log", log))
    return emitError(module.getLoc()) << "could not create a temporary file: " << error.message();
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(log), StringRef(log)};
  std::string message;
  int code = llvm::sys::ExecuteAndWait(*driver, arguments, std::nullopt, redirects, 0, 0, &message);
  auto output = llvm::MemoryBuffer::getFile(log);
  std::string text = output ? (*output)->getBuffer().str() : std::string();
  llvm::sys::fs::remove(log);
  if (code != 0)
    return emitError(module.getLoc()) << "linking " << executable << " failed: " << message << text;
  return success();
}

static LogicalResult writeLaunchScript(ModuleOp module, const StageOutputOptions &options, StringRef runtime) {
  std::string source = inFolder(runtime, "launch.in"), target = inFolder(options.directory, "launch");
  auto file = llvm::MemoryBuffer::getFile(source);
  if (!file)
    return emitError(module.getLoc()) << "could not read " << source << ": " << file.getError().message();
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  std::string text = (*file)->getBuffer().str();
  auto replace = [&](StringRef word, int64_t value) {
    for (size_t at; (at = text.find(word)) != std::string::npos;)
      text.replace(at, word.size(), std::to_string(value));
  };
  replace("@STAGES@", pipeline.getStages());
  replace("@DEVICES@", pipeline.getDevices());
  std::string unwritten;
  if (!writeOutputFile(target, text, unwritten))
    return emitError(module.getLoc()) << unwritten;
  std::error_code error = llvm::sys::fs::setPermissions(target, llvm::sys::fs::all_read | llvm::sys::fs::owner_write |
                                                      llvm::sys::fs::all_exe);
  if (error)
    return emitError(module.getLoc()) << "could not copy " << source << " to " << target << ": " << error.message();
  return success();
}

/// Object and what is linked of it; the object goes.
static LogicalResult emitStage(ModuleOp module, const Timetable &timetable, const StageOutputOptions &options,
                               StringRef runtime, StringRef program, const std::string &output) {
  std::string object = output + ".o";
  LogicalResult linked = failure();
  if (succeeded(writeStageObject(module, timetable, program, options, object)))
    linked = link(module, options, runtime, object, output);
  llvm::sys::fs::remove(object);
  return linked;
}

LogicalResult galvatron::emitStageLibrary(ModuleOp module, const Timetable &timetable,
                                          const StageOutputOptions &options, StringRef name) {
  StageOutputOptions library = options;
  library.isLibrary = true;
  return emitStage(module, timetable, library, "", hashProgram(module), inFolder(options.directory, name));
}

LogicalResult galvatron::emitStageBinaries(ModuleOp module, ArrayRef<Timetable> timetables,
                                           const StageOutputOptions &options) {
  std::string runtime = options.runtimeDirectory.empty() ? defaultRuntimeDirectory() : options.runtimeDirectory;
  std::string program = hashProgram(module);
  auto batch = module->getAttrOfType<IntegerAttr>(graph::kBatchAttr);
  for (const Timetable &timetable : timetables)
    for (const StageInput &input : timetable.inputs)
      if (int64_t samples = input.placement.getGlobalShape().front(); batch && samples != batch.getInt())
        return module.emitError("expects input ")
               << input.name << " to have " << graph::kBatchAttr << " " << batch.getInt() << " samples, but got " << samples;
  for (auto [stage, timetable] : llvm::zip_equal(module.getOps<dist::StageOp>(), timetables)) {
    if (failed(
            emitStage(module, timetable, options, runtime, program, inFolder(options.directory, stage.getSymName()))))
      return failure();
  }
  for (const std::string &library : {std::string("libgalvatron_rt.so"), "libgalvatron_" + options.device + ".so"})
    if (failed(copyFile(module, inFolder(runtime, library), inFolder(options.directory, library))))
      return failure();
  return writeLaunchScript(module, options, runtime);
}
