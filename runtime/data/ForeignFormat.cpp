//===- ForeignFormat.cpp - a file that is not the tokens it would be read as ------------------===//
#include "runtime/data/ForeignFormat.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

namespace fs = std::filesystem;
using namespace std::string_literals;

namespace galvatron {
namespace {

/// How often something must be seen before a file is judged by it.
constexpr int64_t kEnough = 32;

std::string rawName(const std::string &path) { return fs::path(path).replace_extension(".bin").string(); }

//===----------------------------------------------------------------------===//
// Headers
//===----------------------------------------------------------------------===//

/// Of a NumPy type such as "<i8": int64.
struct NumpyType {
  std::string word;                // as NumPy calls it
  const TokenType *type = nullptr; // null: no integer
  bool isBigEndian = false;
};

NumpyType parseNumpyType(const std::string &code) {
  char order = code.size() > 2 ? code[0] : ' ', kind = code.size() > 2 ? code[1] : ' ';
  int64_t bytes = code.size() == 3 ? code[2] - '0' : 0;
  if ((kind != 'u' && kind != 'i') || (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8))
    return {"type " + code};
  std::string bits = std::to_string(8 * bytes);
  bool isBigEndian = order == '>';
  return {(isBigEndian ? "big-endian " : "") + (kind == 'u' ? "uint"s : "int"s) + bits,
          findTokenType((kind == 'u' ? "u" : "i") + bits), isBigEndian};
}

ForeignFormat describeNumpy(const FileSample &sample) {
  const FileSample::Bytes &bytes = sample.pieces.front();
  std::string header(bytes.begin(), bytes.begin() + std::min<size_t>(bytes.size(), 4096)), code = "unknown";
  if (size_t key = header.find("'descr'"); key != std::string::npos)
    if (size_t begin = header.find('\'', key + 7), end = header.find('\'', begin + 1); end != std::string::npos)
      code = header.substr(begin + 1, end - begin - 1);
  NumpyType type = parseNumpyType(code);
  std::string raw = rawName(sample.path);
  std::string finding = sample.path + " is a NumPy file (.npy) of " + type.word + ", which begins with a header";
  if (!type.type)
    return {finding + ", and not of token ids", "write its token ids alone, numpy.asarray(ids, 'u4').tofile('" + raw +
                                                    "') in Python, and pass --data-dtype u32"};
  std::string integers = type.isBigEndian ? ".astype('<" + code.substr(1) + "')" : "";
  return {finding, "write its tokens alone, numpy.load('" + sample.path + "')" + integers + ".tofile('" + raw +
                       "') in Python, and pass --data " + raw + " --data-dtype " + type.type->name};
}

/// 8 bytes of length, then that many of JSON.
bool isSafetensors(const FileSample &sample) {
  if (sample.fileBytes < 10 || sample.byte(8) != '{')
    return false;
  int64_t length = decodeInteger(sample.pieces.front().data(), 8, false);
  if (length < 2 || length > sample.fileBytes - 8)
    return false;
  size_t last = 8 + length - 1; // a file of a longer header than the sample's first piece is judged by its key
  return last < sample.pieces.front().size() ? sample.byte(last) == '}' || sample.byte(last) == ' '
                                             : sample.beginsWith("{\"", 8);
}

bool isGzip(const FileSample &s) {
  return s.beginsWith("\x1f\x8b\x08") && (s.byte(3) & 0xe0) == 0 && (s.byte(8) & 0xf9) == 0 &&
         (s.byte(9) <= 13 || s.byte(9) == 255);
}

/// An entry's header: at most version 6.3, with a method that zip knows.
bool isZip(const FileSample &s) {
  constexpr std::array kMethods = {0, 8, 9, 12, 14, 93, 95};
  return s.beginsWith("PK\x03\x04") && s.byte(4) <= 63 && s.byte(5) == 0 && s.byte(9) == 0 &&
         std::find(kMethods.begin(), kMethods.end(), s.byte(8)) != kMethods.end();
}

/// A continuation mark, then the length of the schema in whole words.
bool isArrowStream(const FileSample &s) {
  return s.beginsWith("\xff\xff\xff\xff") && s.byte(7) == 0 && s.byte(6) == 0 && s.byte(4) % 8 == 0 &&
         s.byte(4) + s.byte(5) > 0 && s.byte(8) == 16 && s.byte(9) == 0;
}

/// llm.c's and what descends from it: 256 words of header, of which the first three are magic, version and number of
/// tokens; then u16 tokens (magic 20240520) or u32.
std::optional<TokenType> findLlmC(const FileSample &s) {
  if (s.fileBytes < 1024)
    return std::nullopt;
  auto word = [&](int64_t i) { return decodeInteger(s.pieces.front().data() + 4 * i, 4, true); };
  const TokenType *type = findTokenType(word(0) == 20240520 ? "u16" : word(0) == 20240801 ? "u32" : "");
  return type && word(2) * type->bytes + 1024 == s.fileBytes ? std::optional(*type) : std::nullopt;
}

ForeignFormat findHeader(const FileSample &s) {
  const std::string &path = s.path;
  const std::string alone = "write the token ids it holds alone, numpy.asarray(ids, 'u4').tofile('" + rawName(path) +
                            "') in Python, and pass --data-dtype u32";
  if (s.beginsWith("\x93NUMPY"))
    return describeNumpy(s);
  if (s.beginsWith("MMIDIDX\0\0"s))
    return {path + " is the index of a Megatron data set", "pass " + rawName(path) + ", which holds the tokens"};
  if (std::optional<TokenType> type = findLlmC(s))
    return {path + " begins with a header of 1024 bytes, as llm.c writes it",
            "take it off, tail -c +1025 " + path + " > tokens.bin, and pass --data tokens.bin --data-dtype " +
                type->name};
  if (s.beginsWith("LITPKDS"))
    return {path + " is a packed data set of lit-gpt, with a header", alone};
  if (isSafetensors(s))
    return {path + " is a safetensors file", alone + "; weights are named by --weights"};
  if (isGzip(s))
    return {path + " is compressed (gzip)", "unpack it: gzip -dc " + path + " > tokens.bin"};
  if (s.beginsWith("\x28\xb5\x2f\xfd"))
    return {path + " is compressed (zstd)", "unpack it: zstd -dc " + path + " > tokens.bin"};
  if (s.beginsWith("\xfd\x37zXZ\0"s))
    return {path + " is compressed (xz)", "unpack it: xz -dc " + path + " > tokens.bin"};
  if (s.beginsWith("BZh") && s.beginsWith("1AY&SY", 4))
    return {path + " is compressed (bzip2)", "unpack it: bzip2 -dc " + path + " > tokens.bin"};
  if (isZip(s))
    return {path + " is a zip archive, as .npz and torch.save's files are", alone};
  if (s.beginsWith("PAR1") && s.endsWith("PAR1"))
    return {path + " is a Parquet file", alone};
  if (s.beginsWith("\xff\xfe") && s.byte(3) == 0)
    return {path + " is text in UTF-16", "turn it into UTF-8: iconv -f utf-16 -t utf-8 " + path + " > tokens.txt"};
  if (s.beginsWith("ARROW1\0\0"s) || isArrowStream(s))
    return {path + " is an Arrow file", alone};
  if (s.beginsWith("\x89HDF\r\n\x1a\n"))
    return {path + " is an HDF5 file", alone};
  return {};
}

//===----------------------------------------------------------------------===//
// The index of a Megatron data set
//===----------------------------------------------------------------------===//

/// "MMIDIDX", two zeros, version in 8 bytes, type in one.
ForeignFormat findOtherTypeInIndex(const FileSample &sample, const TokenType &type, int64_t vocabulary) {
  constexpr std::array<const char *, 6> kTypes = {"", "u8", "i8", "i16", "i32", "i64"};
  fs::path path = sample.path;
  for (const std::string &index : {fs::path(path).replace_extension(".idx").string(), sample.path + ".idx"}) {
    std::array<char, 18> header;
    std::ifstream file(index, std::ios::binary);
    if (index == sample.path || !file.read(header.data(), header.size()) ||
        std::memcmp(header.data(), "MMIDIDX\0\0", 9) != 0)
      continue;
    size_t code = (unsigned char)header[17];
    const TokenType *named = findTokenType(code == 8 ? "u16" : code < kTypes.size() ? kTypes[code] : "");
    if (!named)
      return {sample.path + ": its index " + index + " says that it holds no integers", "name a file of token ids"};
    // With a sign or without: what differs is outside the vocabulary either way.
    bool same = named->bytes == type.bytes && (named->isSigned == type.isSigned ||
                                               vocabulary <= int64_t(1) << (8 * std::min<int64_t>(type.bytes, 7) - 1));
    if (!same)
      return {sample.path + ": its index " + index + " says that its tokens are of type " + named->name,
              "pass --data-dtype "s + named->name};
  }
  return {};
}

//===----------------------------------------------------------------------===//
// What the bytes are like
//===----------------------------------------------------------------------===//

/// Whether a piece, which may begin and end in the middle of a character, is UTF-8.
bool isUtf8(const FileSample::Bytes &piece) {
  size_t at = 0;
  while (at < std::min<size_t>(3, piece.size()) && (piece[at] & 0xc0) == 0x80)
    ++at;
  while (at < piece.size()) {
    unsigned char lead = piece[at++];
    int more = lead < 0x80 ? 0 : lead >= 0xf8 || lead < 0xc2 ? -1 : lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (more < 0)
      return false;
    for (; more > 0 && at < piece.size(); --more)
      if ((piece[at++] & 0xc0) != 0x80)
        return false;
  }
  return true;
}

bool isText(const FileSample &sample) {
  // Where all can be printed, few characters will do: lists of numbers, sequences of letters.
  constexpr int64_t kDifferent = 16, kDifferentPrintable = 4, kControlIsRare = 256;
  std::array<int64_t, 256> count = {};
  for (const FileSample::Bytes &piece : sample.pieces)
    for (unsigned char byte : piece)
      ++count[byte];
  int64_t all = 0, ascii = 0, control = 0, different = 0;
  for (int byte = 0; byte < 256; ++byte) {
    bool isControl = (byte < ' ' && !(byte >= '\t' && byte <= '\r')) || byte == 127;
    all += count[byte];
    control += isControl ? count[byte] : 0;
    ascii += byte < 128 && !isControl ? count[byte] : 0;
    different += count[byte] > 0;
  }
  if (all >= kEnough && ascii == all && different >= kDifferentPrintable)
    return true;
  return all >= kEnough && different >= kDifferent && control * kControlIsRare <= all &&
         (4 * ascii >= 3 * all || std::all_of(sample.pieces.begin(), sample.pieces.end(), isUtf8));
}

/// Whether the sample is integers of `width` bytes that half of them would hold.
bool isWide(const FileSample &sample, int64_t width, bool isBigEndian) {
  int64_t limit = int64_t(1) << (4 * width), neighbours = 0, before = 0;
  for (const FileSample::Bytes &piece : sample.pieces)
    for (size_t at = 0; at + width <= piece.size(); at += width) {
      int64_t value = decodeInteger(&piece[at], width, /*isSigned=*/true, isBigEndian);
      if (value >= limit || value < -limit / 2)
        return false;
      neighbours += value > 0 && before > 0;
      before = value;
    }
  return neighbours >= kEnough;
}

/// Whether the sample is whole numbers, as floating point of 32 bits.
bool isFloats(const FileSample &sample) {
  int64_t neighbours = 0;
  bool before = false;
  for (const FileSample::Bytes &piece : sample.pieces)
    for (size_t at = 0; at + sizeof(float) <= piece.size(); at += sizeof(float)) {
      float value;
      std::memcpy(&value, &piece[at], sizeof value);
      if (!(value >= 0 && value < (1 << 24)) || value != std::trunc(value))
        return false;
      neighbours += value > 0 && before;
      before = value > 0;
    }
  return neighbours >= kEnough;
}

/// Whether reading the sample as `type` leaves the vocabulary, and reading it this other way does not.
bool fitsBetter(const FileSample &sample, const TokenType &type, int64_t vocabulary, int64_t width, bool isBigEndian) {
  int64_t outside = 0;
  auto isOutside = [&](const unsigned char *bytes, int64_t size, bool reversed) {
    uint64_t value = decodeInteger(bytes, size, type.isSigned && size == type.bytes, reversed);
    return value >= (uint64_t)vocabulary;
  };
  for (const FileSample::Bytes &piece : sample.pieces) {
    for (size_t at = 0; at + type.bytes <= piece.size(); at += type.bytes)
      outside += isOutside(&piece[at], type.bytes, false);
    for (size_t at = 0; at + width <= piece.size(); at += width)
      if (isOutside(&piece[at], width, isBigEndian))
        return false;
  }
  return outside >= kEnough;
}

ForeignFormat findOtherIntegers(const FileSample &sample, const TokenType &type, int64_t vocabulary) {
  auto bits = [](int64_t width) { return std::to_string(8 * width); };
  auto bigEndian = [&](int64_t width) {
    std::string code = std::to_string(width), raw = rawName(sample.path + ".le");
    return ForeignFormat{sample.path + " looks like big-endian integers of " + bits(width) + " bits",
                         "turn them round, numpy.fromfile('" + sample.path + "', '>i" + code + "').astype('<i" + code +
                             "').tofile('" + raw + "') in Python, and pass --data " + raw + " --data-dtype i" +
                             bits(width)};
  };
  if (isFloats(sample))
    return {sample.path + " looks like floating point of 32 bits",
            "write integers, numpy.fromfile('" + sample.path + "', '<f4').astype('<u4').tofile('" +
                rawName(sample.path + ".u4") + "') in Python, and pass --data " + rawName(sample.path + ".u4") +
                " --data-dtype u32"};
  for (int64_t width = 8; width > type.bytes; width /= 2) {
    if (isWide(sample, width, /*isBigEndian=*/false)) {
      std::string name = width == 2 ? "u16" : "i" + bits(width);
      return {sample.path + " looks like integers of " + bits(width) + " bits: the upper half of each is 0",
              "pass --data-dtype " + name};
    }
    if (isWide(sample, width, /*isBigEndian=*/true))
      return bigEndian(width);
  }
  if (type.bytes > 1 && (isWide(sample, type.bytes, /*isBigEndian=*/true) ||
                         fitsBetter(sample, type, vocabulary, type.bytes, /*isBigEndian=*/true)))
    return bigEndian(type.bytes);
  if (type.bytes == 4 && fitsBetter(sample, type, vocabulary, 2, /*isBigEndian=*/false))
    return {sample.path + " looks like integers of 16 bits: so read, all are in the vocabulary",
            "pass --data-dtype u16"};
  return {};
}

} // namespace

ForeignFormat findForeignFormat(const FileSample &sample, const TokenType &type, int64_t vocabulary) {
  if (ForeignFormat found = findHeader(sample))
    return found;
  if (ForeignFormat found = findOtherTypeInIndex(sample, type, vocabulary))
    return found;
  if (type.bytes > 1 && isText(sample)) {
    size_t first = 0;
    while (std::isspace(sample.byte(first)))
      ++first;
    bool isJson = sample.byte(first) == '{' || sample.byte(first) == '[';
    std::string bytes = vocabulary >= 256 ? ", or pass --data-dtype u8 to train on its bytes" : "";
    return {sample.path + " is " + (isJson ? "JSON" : "text") + ", not token ids",
            "turn it into ids with the model's tokenizer" + bytes};
  }
  return findOtherIntegers(sample, type, vocabulary);
}

} // namespace galvatron
