// The importer writes an op's module path as its location, around the line of Python.
#include "galvatron/Pipelines/Places.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/Support/Path.h"

using namespace mlir;

std::string galvatron::describePlace(Location location) {
  auto module = location->findInstanceOf<NameLoc>();
  if (!module || (module.getName().empty() && !module.getChildLoc()->findInstanceOf<FileLineColLoc>()))
    return "";
  std::string place = module.getName().empty() ? "the top module" : module.getName().str();
  if (auto line = module.getChildLoc()->findInstanceOf<FileLineColLoc>())
    place += " (" + llvm::sys::path::filename(line.getFilename().getValue()).str() + ":" +
             std::to_string(line.getLine()) + ")";
  return place + ": ";
}
