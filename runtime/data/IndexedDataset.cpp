//===- IndexedDataset.cpp - sequences of tokens in PREFIX.bin, with PREFIX.idx -----------------===//
#include "runtime/data/IndexedDataset.h"
#include "runtime/api/Documents.h"
#include "runtime/data/FileSample.h"

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace galvatron {
namespace {

constexpr char kMagic[] = "MMIDIDX\0"; // 9 bytes with the end
constexpr int64_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;
constexpr int64_t kChunkTokens = 1 << 16;

/// By the format's numbers; 6 and 7 are floating.
constexpr const char *kTypes[] = {nullptr, "u8", "i8", "i16", "i32", "i64", "f64", "f32", "u16"};

/// One of the two files.
Status openPart(const std::string &prefix, const char *suffix, OpenFile &file) {
  Status status = openFile(prefix + suffix, file);
  return status.ok()
             ? status
             : Status::error(status.message, "; indexed data are two files, ", prefix, ".bin and ", prefix, ".idx");
}

} // namespace

bool IndexedDataset::exists(const std::string &prefix) { return access((prefix + ".idx").c_str(), F_OK) == 0; }

Status IndexedDataset::mapIndex() {
  OpenFile file;
  if (Status status = openPart(prefix, ".idx", file); !status.ok())
    return status;
  indexBytes = file.bytes;
  void *address = indexBytes ? mmap(nullptr, indexBytes, PROT_READ, MAP_SHARED, *file.descriptor, 0) : nullptr;
  if (address == MAP_FAILED)
    return Status::error("cannot map ", prefix, ".idx: ", std::strerror(errno));
  int64_t size = indexBytes;
  index = std::shared_ptr<const char>(static_cast<const char *>(address), [size](const char *at) {
    if (at)
      munmap(const_cast<char *>(at), size);
  });
  return Status::success();
}

Status IndexedDataset::readHeader() {
  std::string name = prefix + ".idx";
  if (indexBytes < kHeaderBytes || std::memcmp(index.get(), kMagic, 9) != 0)
    return Status::error(name, " is no index: it does not begin with MMIDIDX; write it with python -m galvatron.data");
  if (int64_t version = load<int64_t>(9); version != 1)
    return Status::error(name, " has version ", version, " of the format, but only 1 can be read");
  int64_t code = load<uint8_t>(17);
  if (code < 1 || code >= (int64_t)std::size(kTypes))
    return Status::error(name, " names the type ", code, " of tokens, but there are only 1 to ", std::size(kTypes) - 1);
  tokenType = findTokenType(kTypes[code]);
  if (!tokenType)
    return Status::error(name, " names the type ", kTypes[code], ", but tokens are integers; write them as u16 or i32");
  sequences = load<int64_t>(18), documents = load<int64_t>(26);
  if (sequences < 0 || sequences > indexBytes || documents < 0 || documents > indexBytes)
    return Status::error(name, " has ", indexBytes, " bytes, but is said to be of ", sequences, " sequences and ",
                         documents, " document bounds; it was damaged, or written by something else");
  lengths = kHeaderBytes, pointers = lengths + 4 * sequences, documentsAt = pointers + 8 * sequences;
  int64_t expected = documentsAt + 8 * documents;
  if (indexBytes == expected + sequences && sequences > 0)
    return Status::error(name, " is one of a multimodal dataset, whose sequences are not all tokens; only text can be "
                               "trained on");
  if (indexBytes != expected)
    return Status::error(name, " has ", indexBytes, " bytes, but one of ", sequences, " sequences and ", documents,
                         " document bounds has ", expected, "; it was cut, or written by something else");
  if (sequences == 0 || documents == 0)
    return Status::error(name, " has no sequences");
  return Status::success();
}

Status IndexedDataset::openTokens() {
  OpenFile file;
  if (Status status = openPart(prefix, ".bin", file); !status.ok())
    return status;
  tokens = file.descriptor;
  bytes = file.bytes;
  return Status::success();
}

Status IndexedDataset::open(const std::string &prefix, int64_t vocabulary, IndexedDataset &dataset, bool areLabels) {
  dataset = IndexedDataset();
  dataset.prefix = prefix;
  dataset.vocabulary = vocabulary;
  dataset.areLabels = areLabels;
  for (auto part : {&IndexedDataset::mapIndex, &IndexedDataset::readHeader, &IndexedDataset::openTokens})
    if (Status status = (dataset.*part)(); !status.ok())
      return status;
  return Status::success();
}

Status IndexedDataset::checkIndex() const {
  for (int64_t i = 0; i < sequences; ++i) {
    int64_t count = length(i), at = pointer(i);
    if (count < 0)
      return Status::error(prefix, ".idx: sequence ", i, " has ", count, " tokens");
    if (at < 0 || at > bytes || count > (bytes - at) / tokenType->bytes)
      return Status::error(prefix, ".idx: sequence ", i, " has ", count, " ", tokenType->name, " tokens from byte ", at,
                           " on, beyond the ", bytes, " bytes of ", prefix, ".bin; one of them was cut or replaced");
  }
  for (int64_t i = 0; i < documents; ++i) {
    int64_t before = i ? load<int64_t>(documentsAt + 8 * (i - 1)) : 0, here = load<int64_t>(documentsAt + 8 * i);
    if (here < before || here > sequences || (i == 0 && here != 0) || (i + 1 == documents && here != sequences))
      return Status::error(prefix, ".idx: document bound ", i, " is ", here, " after ", before,
                           ", but they rise from 0 to the number of sequences, ", sequences);
  }
  return Status::success();
}

int64_t IndexedDataset::numTokens(int64_t first, int64_t last) const {
  int64_t sum = 0;
  for (int64_t i = first; i < last; ++i)
    sum += length(i);
  return sum;
}

Status IndexedDataset::read(int64_t sequence, int64_t offset, int64_t count, int64_t *out) const {
  int64_t width = tokenType->bytes, begin = pointer(sequence) + offset * width;
  std::vector<unsigned char> buffer(std::min(count, kChunkTokens) * width);
  for (int64_t done = 0; done < count;) {
    int64_t now = std::min(kChunkTokens, count - done);
    Status status = readBytes(*tokens, prefix + ".bin", begin + done * width, now * width, buffer.data());
    if (!status.ok())
      return status;
    for (int64_t i = 0; i < now; ++i) {
      int64_t token = decodeInteger(&buffer[i * width], width, tokenType->isSigned);
      if ((token < 0 || token >= vocabulary) && !(areLabels && token == kIgnoredLabel))
        return Status::error(prefix, ": token ", offset + done + i, " of sequence ", sequence, " is ", token,
                             ", outside the vocabulary of ", vocabulary,
                             " (both count from 0); write the data with the model's tokenizer")
            .forGood();
      if (out)
        out[done + i] = token;
    }
    done += now;
  }
  return Status::success();
}

Status IndexedDataset::checkTokens(int64_t first, int64_t last) const {
  if (!tokenType->canBeOutside(vocabulary))
    return Status::success();
  for (int64_t i = first; i < last; ++i)
    if (Status status = read(i, 0, length(i), nullptr); !status.ok())
      return status;
  return Status::success();
}

} // namespace galvatron
