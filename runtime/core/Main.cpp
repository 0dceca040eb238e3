//===- Main.cpp - the main of every stage binary ------------------------------------------------------===//
//
// Everything that can be wrong is agreed on by all ranks before anything is written or trained; then one rank prints
// one message and all return kRefused. After that a rank that cannot go on ends the world (Faults.h).
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Abi.h"
#include "runtime/core/Cause.h"
#include "runtime/core/Ends.h"
#include "runtime/core/Events.h"
#include "runtime/core/Faults.h"
#include "runtime/core/Training.h"
#include "runtime/core/Version.h"
#include "runtime/core/Watchdog.h"

#include <cstdio>
#include <cstdlib>

using namespace galvatron;

namespace {

/// The first message wins on every rank; rank 0 prints it. `code` is of a run that was not refused.
int finish(const World &world, const Status &status, int code = kRefused) {
  if (world.rank() == 0 && !status.ok()) {
    std::fflush(stdout);
    std::fprintf(stderr, "error: %s\n", status.message.c_str());
    if (code != kRefused)
      tellLauncher(code, status.message);
  }
  return code;
}

bool startedByLauncher() {
  for (const char *name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"})
    if (std::getenv(name))
      return true;
  return false;
}

/// --help and --version; true if there was nothing else to do.
bool answer(const Options &options, const Manifest &manifest) {
  if (options.version)
    std::printf("galvatron-opt %s, %s stage %lld of %lld, ABI %s\n", kVersion, manifest.model.c_str(),
                (long long)manifest.stage, (long long)manifest.stages, abiText(kAbi).c_str());
  else if (options.help)
    std::fputs(options::helpText(Options::commandLine()).c_str(), stdout);
  return options.version || options.help;
}

Status checkProgram(const gvrt_program *program, Manifest &manifest) {
  if (program->abi_version != kAbi)
    return Status::error("this program was compiled for runtime ABI ", abiText(program->abi_version),
                         ", but the runtime has ABI ", abiText(kAbi), "; compile it again");
  return Manifest::parse(program->manifest, manifest);
}

int train(const World &world, Watchdog &watchdog, const gvrt_program &program, Manifest &manifest,
          const Options &options) {
  gvrt_context context;
  fillPlaces(manifest, world.rank(), context);
  manifest.takeShards(context.coordinates);
  Device device;
  Status status = Device::find(device)
                      ? Status::success()
                      : Status::error("this program was linked without a device library; compile it again");
  if (status = world.agree(status); !status.ok())
    return finish(world, status);
  Events events;
  context.events = &events;
  installFaultHandlers(&context);
  Watched watched(watchdog, context);
  int64_t code = kRefused;
  {
    Training training(world, manifest, program, options, context, device);
    status = training.prepare();
    if (status.ok()) {
      status = training.run();
      code = training.exitCode();
    }
    writeEvent(context, "end", training.lastDone(), {{"code", code}, {"reason", status.message}});
  }
  device.hooks->disconnect(&context);
  return finish(world, status, code);
}

} // namespace

int gvrt_main(int argc, char **argv, const gvrt_program *program) {
  if (std::optional<int> status = options::printAnswer(Options::commandLine(), argc, argv))
    return *status;
  Options options;
  Manifest manifest;
  Status parsed = Options::parse(argc, argv, options);
  Status checked = checkProgram(program, manifest);
  if (parsed.ok() && checked.ok() && !startedByLauncher() && answer(options, manifest))
    return 0;
  listenForSignals();
  findLaunch();
  Progress progress;
  Watchdog watchdog(progress, options.timeout);
  World world(&argc, &argv, progress);
  Status status = world.agree(parsed.ok() ? checked : parsed);
  if (!status.ok())
    return finish(world, status);
  if (options.help || options.version)
    return world.rank() == 0 ? (answer(options, manifest), 0) : 0;
  status = checkPlaces(world, manifest, argc, argv);
  if (!status.ok())
    return finish(world, status);
  watchdog.connect(world, (int)manifest.stage);
  try {
    return train(world, watchdog, *program, manifest, options);
  } catch (const std::exception &error) {
    Watchdog::silence();
    std::fprintf(stderr, "error: rank %d (stage %lld): %s\n", world.rank(), (long long)manifest.stage, error.what());
    MPI_Abort(MPI_COMM_WORLD, kFailed);
    return kFailed;
  }
}
