// A folder that appears complete or not at all.
//
// Files are written into a hidden folder beside the target, which takes the target's name at the end. A
// folder that stands there already is replaced only if it is one of ours (it has a plan.json and a launch, or
// listed plans alone) or empty, and not the one that is worked in. What else lies in it, such as a checkpoint or a log,
// moves along.
#ifndef GALVATRON_DRIVER_OUTPUTFOLDER_H
#define GALVATRON_DRIVER_OUTPUTFOLDER_H

#include "llvm/ADT/StringRef.h"

#include <string>

namespace galvatron {

class OutputFolder {
public:
  explicit OutputFolder(llvm::StringRef path);
  /// Removes what was written, unless `commit` succeeded.
  ~OutputFolder();

  /// Makes the hidden folder. These return what is wrong, with remedy, or an empty string.
  std::string create();
  std::string writeFile(llvm::StringRef name, llvm::StringRef text);
  /// A folder in it, for files named with its name and a slash.
  std::string createFolder(llvm::StringRef name);
  /// A second name for the file where the file system allows, else a copy: the folder can be moved. Of a folder, its
  /// files.
  std::string addFile(llvm::StringRef name, llvm::StringRef source);
  std::string commit();

  const std::string &getTemporaryPath() const { return temporary; }
  const std::string &getPath() const { return path; }

private:
  std::string getFilePath(llvm::StringRef name) const;
  std::string addFolder(llvm::StringRef name, llvm::StringRef source);
  std::string path, temporary;
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_OUTPUTFOLDER_H
