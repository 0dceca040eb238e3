// Samples of named inputs in a folder: `NAME.npy` for each input, or safetensors shards, in order of their names, each
// with all inputs. Samples lie along the first dimension.
//
// No MLIR: the runtime and the evaluator read the same samples. Access is by range (`pread`), one sample at a time.
#ifndef GALVATRON_SUPPORT_DATAFOLDER_H
#define GALVATRON_SUPPORT_DATAFOLDER_H

#include "galvatron/Support/Safetensors.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::data {

/// One input of a step, as programs read it: int64, or float32.
struct Field {
  std::string name;
  bool isFloat = false;
  std::vector<int64_t> shape;     // of a sample: without the batch
  int64_t below = 0;              // of integers: what they are below, as a table's rows or classes say; 0: not known
  std::optional<int64_t> ignored; // a label that losses ignore

  int64_t numElements() const;
  int64_t numBytes() const { return numElements() * (isFloat ? 4 : 8); }
};

/// A sample where there are no data, the same for a seed and a number: integers that are known to be below a number
/// are drawn below it, others are 1, as a mask that hides nothing; floats are drawn from a normal distribution.
void drawSample(const Field &field, uint64_t seed, int64_t sample, char *out);

class Folder {
public:
  /// Integer fields take integers of any width and bool; float ones f32, f16, bf16, f64, and u8 as 0 to 255. An error
  /// in one sentence names file, input and what was expected.
  static std::optional<Folder> open(const std::string &path, const std::vector<Field> &fields, std::string &error);

  int64_t numSamples() const { return samples; }
  int64_t numBytes() const;
  /// By which the data are known again.
  std::vector<std::string> getFiles() const;
  const std::vector<Field> &getFields() const { return fields; }
  /// One sample of a field, `numBytes()` of it. Integers outside what they index are an error with file, sample and
  /// value.
  bool read(size_t field, int64_t sample, char *out, std::string &error) const;

private:
  /// A tensor in a file.
  struct Array {
    std::string path;
    std::shared_ptr<int> file;
    safetensors::ElementType type;
    std::vector<int64_t> shape;
    int64_t offset = 0; // bytes from the start of the file
  };
  static std::optional<Array> openNumpy(const std::string &path, std::string &error);
  bool add(size_t field, Array array, std::string &error);

  std::string path;
  std::vector<Field> fields;
  std::vector<std::vector<Array>> arrays; // by field, in order
  int64_t samples = 0;
};

} // namespace galvatron::data

#endif // GALVATRON_SUPPORT_DATAFOLDER_H
