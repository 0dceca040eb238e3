// Registration and checks of the plan dialect.
#include "dialects/Plan/Plan.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialects/Plan/PlanDialect.cpp.inc"
#include "dialects/Plan/PlanEnums.cpp.inc"

static mlir::FailureOr<galvatron::plan::Schedule> parseSchedule(mlir::AsmParser &parser) {
  std::string name;
  llvm::SMLoc loc = parser.getCurrentLocation();
  if (parser.parseString(&name))
    return mlir::failure();
  if (std::optional<galvatron::plan::Schedule> schedule = galvatron::plan::symbolizeSchedule(name))
    return *schedule;
  return parser.emitError(loc) << "expects schedule gpipe or 1f1b, but got '" << name << "'";
}

#define GET_ATTRDEF_CLASSES
#include "dialects/Plan/PlanAttributes.cpp.inc"

using namespace mlir;
using namespace galvatron::plan;

void PlanDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Plan/PlanAttributes.cpp.inc"
      >();
}

llvm::SmallVector<int64_t> galvatron::plan::getGrid(int64_t devices) {
  llvm::SmallVector<int64_t> axes;
  for (int64_t prime = 2; prime * prime <= devices; ++prime)
    for (; devices % prime == 0; devices /= prime)
      axes.push_back(prime);
  if (devices > 1)
    axes.push_back(devices);
  return axes;
}

LogicalResult StrategyAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t dp, int64_t tp,
                                   bool megatronSp, int64_t ulysses, int64_t cp, int64_t ep, int64_t zero,
                                   bool recompute) {
  for (auto [name, degree] : {std::pair("dp", dp), {"tp", tp}, {"ulysses", ulysses}, {"cp", cp}, {"ep", ep}})
    if (degree < 1)
      return emitError() << "expects degree '" << name << "' to be at least 1, but got " << degree;
  if (zero < 0 || zero > 3)
    return emitError() << "expects ZeRO level from 0 to 3, but got " << zero;
  return success();
}

LogicalResult PipelineAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t stages, int64_t devices,
                                   int64_t microBatches, Schedule) {
  for (auto [name, count] : {std::pair("stages", stages), {"devices", devices}, {"micro_batches", microBatches}})
    if (count < 1)
      return emitError() << "expects '" << name << "' to be at least 1, but got " << count;
  return success();
}
