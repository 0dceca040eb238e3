//===- Checkpoint.h - what --save writes and --load reads ------------------------------------===//
//
//   DIR/model.safetensors       all of state_dict(): the exported module's names, shapes and layouts
//   DIR/optimizer.safetensors   <name>.exp_avg and <name>.exp_avg_sq of every trained parameter (adamw only)
//                               or model-00001-of-00003.safetensors ... with model.safetensors.index.json, and the
//                               optimizer's likewise, where one file would be larger than --shard-size
//   DIR/training.json           step, updates, optimizer, seed, the data and the place in it, settings of the update
//   DIR/config.json             of models that transformers knows: the export's
//   DIR/checksums.xxh128        and tensors.json: Checksums.h
//
// No file says how the model was divided. A new checkpoint is written beside the old one and takes its place at once,
// so there is always a whole one; files of others in the folder stay. With --save-every DIR holds several: SaveFolder.h
//
//===------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_CHECKPOINT_H
#define GALVATRON_RUNTIME_CHECKPOINT_CHECKPOINT_H

#include "runtime/checkpoint/Carried.h"
#include "runtime/checkpoint/SaveFolder.h"
#include "runtime/checkpoint/Saver.h"
#include "runtime/checkpoint/Tensors.h"
#include "runtime/checkpoint/TrainingState.h"
#include "runtime/core/Options.h"

namespace galvatron {

/// Where a checkpoint has its weights.
std::string weightsOfCheckpoint(const std::string &folder);

/// Collective: the checkpoint that --load names, itself or the newest in a folder of them, itself among them, whose
/// checksums hold. Those that are passed over are warnings, and one that has no checksums, which is taken where it is
/// named itself. Where nothing is there and that may be, `loaded` has no folder.
Status findCheckpoint(const World &world, const std::string &name, bool mayLack, LoadedFrom &loaded,
                      std::vector<std::string> &warnings);

/// Collective: likewise where a run that `launch` starts again left its checkpoints, the folder of --save. That none is
/// whole, or there, is no error: the run then starts as it first did.
void findOwnCheckpoint(const World &world, const std::string &save, LoadedFrom &loaded,
                       std::vector<std::string> &warnings);

/// Reads training.json.
Status loadTraining(const std::string &folder, TrainingState &training);
/// Reads this rank's pieces.
Status loadTensors(const ModelState &state, const std::string &folder, const Options &options,
                   const TrainingState &training);
/// Both.
Status loadCheckpoint(const ModelState &state, const std::string &folder, const Options &options,
                      TrainingState &training);

/// Collective, into a folder that exists: one file of gradients, folder/step_000001.safetensors.
Status dumpGradients(const World &world, const Catalog &catalog, const ModelState &state, const std::string &folder,
                     int64_t step);

} // namespace galvatron

#endif
