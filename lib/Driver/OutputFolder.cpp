// Renames are atomic within a file system, so everything happens in the target's parent folder.
#include "OutputFolder.h"

#include "galvatron/Support/Files.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"

using namespace galvatron;
namespace fs = llvm::sys::fs;

static std::string inFolder(llvm::StringRef folder, llvm::StringRef name) {
  llvm::SmallString<256> path(folder);
  llvm::sys::path::append(path, name);
  return std::string(path);
}

static bool isEmptyFolder(llvm::StringRef path) {
  std::error_code error;
  return fs::directory_iterator(path, error) == fs::directory_iterator() && !error;
}

static bool isFolderOfProgram(llvm::StringRef path) {
  return fs::exists(inFolder(path, "plan.json")) && fs::exists(inFolder(path, "launch"));
}

/// Whether it holds listed plans, 01.json and so on, and nothing else.
static bool isFolderOfPlans(llvm::StringRef path) {
  std::error_code error;
  fs::directory_iterator file(path, error), end;
  bool hasAny = false;
  for (; !error && file != end; file.increment(error)) {
    llvm::StringRef name = llvm::sys::path::filename(file->path());
    if (!name.consume_back(".json") || name.size() < 2 || !llvm::all_of(name, llvm::isDigit))
      return false;
    hasAny = true;
  }
  return hasAny && !error;
}

/// Whether the compiler writes files of that name into `folder`; a checkpoint or a log there is its user's.
static bool isPartOfProgram(llvm::StringRef folder, llvm::StringRef name) {
  if (isFolderOfPlans(folder) || (name == "plans" && isFolderOfPlans(inFolder(folder, name))))
    return true;
  llvm::StringRef stage = name;
  bool isStage = stage.consume_front("stage") && !stage.empty() && llvm::all_of(stage, llvm::isDigit);
  return isStage || name == "launch" || name == "plan.json" || name == "timetable.json" || name == "config.json" ||
         name == "adapter.json" ||
         name.starts_with("libgalvatron_") || name.ends_with(".safetensors") || name.ends_with(".weights");
}

/// Whether the process works in the folder or below: renaming that would pull it from under the shell.
static bool holdsWorkingFolder(llvm::StringRef path) {
  llvm::SmallString<256> working;
  if (fs::current_path(working) || fs::real_path(working, working))
    return false;
  return (working + "/").str().starts_with((path.rtrim('/') + "/").str());
}

OutputFolder::OutputFolder(llvm::StringRef wanted) {
  llvm::SmallString<256> absolute(wanted), real;
  fs::make_absolute(absolute);
  llvm::sys::path::remove_dots(absolute, /*remove_dot_dot=*/true);
  // Behind a link it is the folder that is replaced, not the link.
  path = std::string(fs::real_path(absolute, real) ? llvm::StringRef(absolute).rtrim('/') : real.str());
}

OutputFolder::~OutputFolder() {
  if (!temporary.empty())
    fs::remove_directories(temporary);
}

std::string OutputFolder::getFilePath(llvm::StringRef name) const { return inFolder(temporary, name); }

std::string OutputFolder::create() {
  if (fs::exists(path) && !fs::is_directory(path))
    return "expects '" + path + "' to be a folder, but it is a file; name another with -o";
  if (holdsWorkingFolder(path))
    return "expects the output to be a folder of its own, but the working folder lies in '" + path +
           "'; name another with -o";
  if (fs::is_directory(path) && !isEmptyFolder(path) && !isFolderOfProgram(path) && !isFolderOfPlans(path))
    return "expects '" + path +
           "' to be free or an earlier output, but it holds other files; name another folder with -o";
  llvm::StringRef parent = llvm::sys::path::parent_path(path);
  if (std::error_code error = fs::create_directories(parent, /*IgnoreExisting=*/true, fs::all_all))
    return "cannot create the folder '" + parent.str() + "': " + error.message() + "; name another with -o";
  std::string hidden = inFolder(
      parent, ("." + llvm::sys::path::filename(path) + "." + std::to_string(llvm::sys::Process::getProcessId())).str());
  if (std::error_code error = fs::create_directory(hidden, /*IgnoreExisting=*/false, fs::all_all))
    return "cannot write to the folder '" + parent.str() + "': " + error.message() + "; name another with -o";
  temporary = hidden;
  return "";
}

std::string OutputFolder::writeFile(llvm::StringRef name, llvm::StringRef text) {
  std::string error;
  return writeOutputFile(getFilePath(name), text, error) ? "" : error;
}

std::string OutputFolder::createFolder(llvm::StringRef name) {
  std::error_code error = fs::create_directory(getFilePath(name));
  return error ? "cannot create the folder '" + getFilePath(name) + "': " + error.message() + "; name another with -o"
               : "";
}

std::string OutputFolder::addFile(llvm::StringRef name, llvm::StringRef source) {
  std::string target = getFilePath(name);
  if (fs::is_directory(source))
    return addFolder(name, source);
  if (!fs::create_hard_link(source, target))
    return "";
  if (std::error_code error = fs::copy_file(source, target))
    return "cannot copy '" + source.str() + "' to '" + target + "': " + error.message();
  return "";
}

std::string OutputFolder::addFolder(llvm::StringRef name, llvm::StringRef source) {
  std::error_code error = fs::create_directory(getFilePath(name));
  for (fs::directory_iterator file(source, error), end; !error && file != end; file.increment(error))
    if (std::string why = addFile(inFolder(name, llvm::sys::path::filename(file->path())), file->path()); !why.empty())
      return why;
  return error ? "cannot copy '" + source.str() + "' to '" + getFilePath(name) + "': " + error.message() : "";
}

std::string OutputFolder::commit() {
  std::string replaced;
  if (fs::exists(path)) {
    replaced = temporary + ".old";
    if (std::error_code error = fs::rename(path, replaced))
      return "cannot replace the folder '" + path + "': " + error.message() + "; name another with -o";
  }
  if (std::error_code error = fs::rename(temporary, path)) {
    if (!replaced.empty())
      fs::rename(replaced, path);
    return "cannot name the folder '" + path + "': " + error.message() + "; name another with -o";
  }
  temporary.clear();
  if (replaced.empty())
    return "";
  std::error_code error;
  for (fs::directory_iterator file(replaced, error), end; !error && file != end; file.increment(error)) {
    llvm::StringRef name = llvm::sys::path::filename(file->path());
    if (!isPartOfProgram(replaced, name))
      if (std::error_code moved = fs::rename(file->path(), inFolder(path, name)))
        return "cannot move '" + file->path() + "' to '" + path + "': " + moved.message() + "; move it by hand";
  }
  fs::remove_directories(replaced);
  return "";
}
