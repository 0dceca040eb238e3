// From a module after phase `lower` to a folder that trains: objects, executables, runtime libraries, the
// launch script. Nothing in the folder names an absolute path, so it can be moved.
#ifndef GALVATRON_TARGET_STAGEBINARIES_H
#define GALVATRON_TARGET_STAGEBINARIES_H

#include "galvatron/Schedule/Timetable.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace galvatron {

struct StageOutputOptions {
  /// Existing folder to write into.
  std::string directory;
  /// Name of the model, for messages.
  std::string modelName;
  /// The processor that objects are for: "native" (this machine's), or a name that LLVM knows.
  std::string processor = "native";
  /// Folder of the runtime's shared libraries; empty: beside this tool (../lib).
  std::string runtimeDirectory;
  /// Device library that the stages link: "cpu" or "cuda".
  std::string device = "cpu";
  /// The GPU that kernels are generated for, as nvcc names it.
  std::string architecture = "sm_90a";
  /// Without a `main`, to be loaded (emitStageLibrary).
  bool isLibrary = false;
};

/// The manifest of docs/runtime.md for one stage, as JSON text. `program`: see hashProgram.
std::string writeManifest(mlir::ModuleOp module, const Timetable &timetable, llvm::StringRef modelName,
                          llvm::StringRef program);

/// The names of all entries, evaluation's too, each once.
std::vector<std::string> entryNames(const Timetable &timetable);

/// A hash of the whole lowered program, plan included, so that stages of two compilations can be told apart.
std::string hashProgram(mlir::ModuleOp module);

/// One native object for a stage: its bodies, generated kernels, the timetable as a constant table, the
/// manifest and `main`. Fails with a message.
mlir::LogicalResult writeStageObject(mlir::ModuleOp module, const Timetable &timetable, llvm::StringRef program,
                                     const StageOutputOptions &options, llvm::StringRef path);

/// Instead of an executable, a library for whoever loads it beside a device library: its one symbol of ours is
/// `gvrt_bodies`, a function that returns the `gvrt_program`. `name`: in the options' folder.
mlir::LogicalResult emitStageLibrary(mlir::ModuleOp module, const Timetable &timetable,
                                     const StageOutputOptions &options, llvm::StringRef name);

/// Everything: `stage0` … , `launch`, the shared libraries. `timetables`: of the module's stages, in their order, as
/// `plan-memory` made them. Fails with a message that names the file.
mlir::LogicalResult emitStageBinaries(mlir::ModuleOp module, llvm::ArrayRef<Timetable> timetables,
                                      const StageOutputOptions &options);

} // namespace galvatron

#endif // GALVATRON_TARGET_STAGEBINARIES_H
