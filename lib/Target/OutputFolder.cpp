// Renames are atomic within a file system, so everything happens in the target's parent folder.
#include "OutputFolder.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

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

OutputFolder::OutputFolder(llvm::StringRef wanted) {
  llvm::SmallString<256> absolute(wanted);
  fs::make_absolute(absolute);
  llvm::sys::path::remove_dots(absolute, /*remove_dot_dot=*/true);
  path = std::string(llvm::StringRef(absolute).rtrim('/'));
}

OutputFolder::~OutputFolder() {
  if (!temporary.empty())
    fs::remove_directories(temporary);
}

std::string OutputFolder::getFilePath(llvm::StringRef name) const { return inFolder(temporary, name); }

std::string OutputFolder::create() {
  if (fs::exists(path) && !fs::is_directory(path))
    return "expects '" + path + "' to be a folder, but it is a file; name another with -o";
  if (fs::is_directory(path) && !isEmptyFolder(path) && !fs::exists(inFolder(path, "plan.json")))
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
  std::error_code error;
  llvm::raw_fd_ostream file(getFilePath(name), error);
  if (!error) {
    file << text;
    file.close();
    error = file.error();
    file.clear_error();
  }
  return error ? "cannot write '" + getFilePath(name) + "': " + error.message() : "";
}

std::string OutputFolder::addFile(llvm::StringRef name, llvm::StringRef source) {
  std::string target = getFilePath(name);
  if (!fs::create_hard_link(source, target))
    return "";
  if (std::error_code error = fs::copy_file(source, target))
    return "cannot copy '" + source.str() + "' to '" + target + "': " + error.message();
  return "";
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
  if (!replaced.empty())
    fs::remove_directories(replaced);
  return "";
}
