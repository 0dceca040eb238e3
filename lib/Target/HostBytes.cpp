// The same rule as the runtime's: of equal pieces the rank with coordinate 0 writes.
#include "galvatron/Target/HostBytes.h"

#include "dialects/Plan/Plan.h"

using namespace mlir;
using namespace galvatron;

/// Elements of a parameter that the device with these coordinates writes.
static int64_t countWritten(const Timetable &timetable, const StageParameter &parameter, ArrayRef<int64_t> mesh,
                            ArrayRef<int64_t> coordinates) {
  if (!parameter.counted)
    return 0;
  SmallVector<bool> used(mesh.size(), false);
  for (int64_t axis : parameter.home.getMeshAxes())
    if (axis >= 0)
      used[axis] = true;
  const StateBucket *bucket = parameter.bucket >= 0 ? &timetable.buckets[parameter.bucket] : nullptr;
  int64_t number = 0; // of the bucket's piece
  if (bucket)
    for (int64_t axis : bucket->axes) {
      used[axis] = true;
      number = number * mesh[axis] + coordinates[axis];
    }
  for (auto [isUsed, coordinate] : llvm::zip(used, coordinates))
    if (!isUsed && coordinate != 0)
      return 0;
  if (!bucket)
    return parameter.count;
  int64_t piece = bucket->pieceElements(), first = parameter.bucketOffset;
  int64_t begin = std::max(number * piece, first), end = std::min((number + 1) * piece, first + parameter.count);
  return std::max<int64_t>(0, end - begin);
}

std::vector<int64_t> galvatron::countHostBytes(ModuleOp lowered, ArrayRef<Timetable> timetables) {
  auto pipeline = lowered->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  SmallVector<int64_t> mesh = plan::getMesh(pipeline);
  std::vector<int64_t> bytes;
  for (const Timetable &timetable : timetables)
    for (int64_t device = 0; device < int64_t(pipeline.getDevices()); ++device) {
      SmallVector<int64_t> coordinates(mesh.size(), 0);
      int64_t rest = device;
      for (size_t axis = mesh.size(); axis-- > 0; rest /= mesh[axis])
        coordinates[axis] = rest % mesh[axis];
      int64_t sum = 0;
      for (const StageParameter &parameter : timetable.parameters) {
        int64_t ofElement = parameter.parameterBuffer < 0 ? 2 : 4;
        ofElement += 4 * ((parameter.firstMomentBuffer >= 0) + (parameter.secondMomentBuffer >= 0));
        sum += countWritten(timetable, parameter, mesh, coordinates) * ofElement;
      }
      bytes.push_back(sum);
    }
  return bytes;
}
