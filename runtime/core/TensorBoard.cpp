//===- TensorBoard.cpp - scalars for TensorBoard, without TensorFlow -----------------------------===//
#include "runtime/core/TensorBoard.h"
#include "runtime/core/Files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

constexpr const char *kPrefix = "events.out.tfevents.";

template <typename T> std::string littleEndian(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// Protobuf's wire format: fields of a number and a type, by which a reader knows how long it is.
enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7)
    bytes += char(value | 128);
  return bytes + char(value);
}

std::string key(int field, WireType type) { return varint(field << 3 | type); }
std::string number(int field, int64_t value) { return key(field, kVarint) + varint(value); }
std::string real(int field, double value) { return key(field, kFixed64) + littleEndian(value); }
std::string real(int field, float value) { return key(field, kFixed32) + littleEndian(value); }
std::string bytes(int field, const std::string &value) { return key(field, kBytes) + varint(value.size()) + value; }

/// Event: wall_time 1, step 2, file_version 3, summary 5, session_log 7.
std::string record(int64_t step, const std::string &what) {
  double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string event = real(1, now) + number(2, step) + what, length = littleEndian(uint64_t(event.size()));
  return length + littleEndian(maskedChecksum(length)) + event + littleEndian(maskedChecksum(event));
}

/// Seconds since 1970, but beyond those in the names of the files that are there.
Status newName(const fs::path &folder, std::string &name) {
  std::vector<fs::path> paths;
  if (Status status = listFolder(folder, paths); !status.ok())
    return status;
  int64_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const fs::path &path : paths) {
    std::string other = path.filename();
    int64_t known = 0;
    if (other.starts_with(kPrefix))
      std::from_chars(other.data() + std::strlen(kPrefix), other.data() + other.size(), known);
    seconds = std::max(seconds, known + 1);
  }
  char host[256] = "", text[32];
  gethostname(host, sizeof host - 1);
  std::snprintf(text, sizeof text, "%010lld", (long long)seconds);
  name = std::string(kPrefix) + text + "." + host + "." + std::to_string(getpid());
  return Status::success();
}

} // namespace

uint32_t maskedChecksum(const std::string &bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit)
        table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    return table;
  }();
  uint32_t crc = ~0u;
  for (unsigned char byte : bytes)
    crc = crc >> 8 ^ kTable[(crc ^ byte) & 255];
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

Status TensorBoard::open(const std::string &newFolder, int64_t next) {
  folder = newFolder;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return Status::error("cannot write to the folder ", folder, ": ", error.message(), "; name another one");
  std::string name;
  if (Status status = newName(folder, name); !status.ok())
    return status;
  if (Status status = file.open("TensorBoard's file", fs::path(folder) / name, 0); !status.ok())
    return status;
  constexpr int64_t kStart = 1; // SessionLog: status 1
  return file.add(record(0, bytes(3, "brain.Event:2")) + record(next, bytes(7, number(1, kStart))));
}

Status TensorBoard::add(int64_t step, const std::vector<std::pair<const char *, double>> &scalars) {
  std::string summary; // Summary: value 1; Value: tag 1, simple_value 2
  for (auto [tag, value] : scalars)
    summary += bytes(1, bytes(1, tag) + real(2, float(value)));
  return file.add(record(step, bytes(5, summary)));
}

Status TensorBoard::goBack(int64_t next) {
  file.close();
  return open(folder, next);
}

} // namespace galvatron
