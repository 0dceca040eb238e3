//===- World.cpp - starts MPI, checks who is who, agrees on errors --------------------------------===//
#include "runtime/core/World.h"

#include <algorithm>
#include <filesystem>

namespace galvatron {

World::World(int *argc, char ***argv, Progress &progress) : progress(progress) {
  Waiting waiting(progress, "MPI_Init");
  MPI_Init(argc, argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &ownRank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  ownHost = std::make_unique<Host>(progress);
}

World::~World() {
  Waiting waiting(progress, "MPI_Finalize");
  ownHost.reset();
  MPI_Finalize();
}

Status World::agree(const Status &status) const {
  Waiting waiting(progress, "an agreement of all ranks");
  int mine = status.ok() ? ranks : ownRank, first = ranks;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (first == ranks)
    return Status::success();
  int size = status.message.size();
  MPI_Bcast(&size, 1, MPI_INT, first, MPI_COMM_WORLD);
  Status result{first == ownRank ? status.message : std::string(size, '\0')};
  MPI_Bcast(result.message.data(), size, MPI_CHAR, first, MPI_COMM_WORLD);
  return result;
}

std::vector<std::string> World::gatherText(const std::string &text) const {
  std::vector<int> sizes = gather((int)text.size()), starts(ranks, 0);
  for (int r = 1; r < ranks; ++r)
    starts[r] = starts[r - 1] + sizes[r - 1];
  std::string all(starts.back() + sizes.back(), '\0');
  Waiting waiting(progress, "a collective of all ranks");
  MPI_Allgatherv(text.data(), text.size(), MPI_CHAR, all.data(), sizes.data(), starts.data(), MPI_CHAR, MPI_COMM_WORLD);
  std::vector<std::string> result;
  for (int r = 0; r < ranks; ++r)
    result.push_back(all.substr(starts[r], sizes[r]));
  return result;
}

namespace {

/// What every rank tells the others at start.
struct Place {
  int64_t stage, stages, devices;
  uint64_t program, options;
};

/// The command that starts this program; all stages lie in one folder.
std::string commandLine(int64_t stages, int64_t devices) {
  std::error_code ignored;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  std::ostringstream text;
  text << "mpirun";
  for (int64_t stage = 0; stage < stages; ++stage)
    text << (stage ? " : " : " ") << "-np " << devices << " " << (folder / ("stage" + std::to_string(stage))).string()
         << " [options]";
  return text.str();
}

} // namespace

Status checkPlaces(const World &world, const Manifest &manifest, int argc, char **argv) {
  std::string options;
  for (int i = 1; i < argc; ++i)
    options += std::string(argv[i]) + '\n';
  Place mine{manifest.stage, manifest.stages, manifest.devices, manifest.programHash(),
             random::hashName(options.data(), options.size())};
  std::vector<Place> places = world.gather(mine);
  const Place &first = places[0];
  std::string remedy = "; start it with\n  " + commandLine(first.stages, first.devices);
  if (first.stages * first.devices != world.size())
    return Status::error("this program needs ", first.stages * first.devices, " ranks (", first.stages, " stages of ",
                         first.devices, " devices), but ", world.size(), world.size() == 1 ? " was" : " were",
                         " started", remedy);
  for (int r = 0; r < world.size(); ++r) {
    const Place &place = places[r];
    if (place.program != first.program || place.stages != first.stages || place.devices != first.devices)
      return Status::error("rank ", r, " runs a stage of another program than rank 0", remedy);
    if (place.stage != r / first.devices)
      return Status::error("rank ", r, " must run stage ", r / first.devices, ", but runs stage ", place.stage, remedy);
    if (place.options != first.options)
      return Status::error("rank ", r, " (stage ", place.stage,
                           ") was given other options than rank 0; give every stage the same", remedy);
  }
  return Status::success();
}

static Group makeGroup(const Manifest &manifest, const GroupInfo &info, const gvrt_context &context) {
  Group group;
  if (!info.stages.empty()) {
    for (int64_t stage : info.stages)
      group.ranks.push_back(stage * context.devices + context.device);
  } else {
    // Every coordinate on the group's axes, the last axis fastest.
    int64_t size = 1;
    for (int64_t axis : info.axes)
      size *= manifest.mesh[axis];
    for (int64_t member = 0; member < size; ++member) {
      std::vector<int64_t> coordinates = context.coordinates;
      int64_t rest = member;
      for (auto axis = info.axes.rbegin(); axis != info.axes.rend(); ++axis) {
        coordinates[*axis] = rest % manifest.mesh[*axis];
        rest /= manifest.mesh[*axis];
      }
      int64_t device = 0;
      for (size_t axis = 0; axis < manifest.mesh.size(); ++axis)
        device = device * manifest.mesh[axis] + coordinates[axis];
      group.ranks.push_back(context.stage * context.devices + device);
    }
  }
  auto self = std::find(group.ranks.begin(), group.ranks.end(), context.rank);
  if (self == group.ranks.end())
    return {}; // other ranks' group
  group.position = self - group.ranks.begin();
  return group;
}

void fillPlaces(const Manifest &manifest, int rank, gvrt_context &context) {
  context.rank = rank;
  context.ranks = manifest.stages * manifest.devices;
  context.stage = manifest.stage;
  context.stages = manifest.stages;
  context.devices = manifest.devices;
  context.device = rank % manifest.devices;
  context.coordinates.assign(manifest.mesh.size(), 0);
  int64_t rest = context.device;
  for (size_t axis = manifest.mesh.size(); axis-- > 0; rest /= manifest.mesh[axis])
    context.coordinates[axis] = rest % manifest.mesh[axis];
  for (const GroupInfo &info : manifest.groups)
    context.groups.push_back(makeGroup(manifest, info, context));
}

} // namespace galvatron
