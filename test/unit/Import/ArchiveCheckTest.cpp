// Archives from anyone, part by part: bytes that torch.jit.save never writes are refused, saying what and where.
#include "lib/Import/Archive/CodeCheck.h"
#include "lib/Import/Archive/PickleCheck.h"
#include "lib/Import/Archive/ZipDirectory.h"
#include "lib/Import/Expression/Value.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

using namespace galvatron::importer;

namespace {

/// What is refused, or nothing.
std::string refusalOf(const std::function<void()> &check) {
  try {
    check();
  } catch (const ImportError &error) {
    return error.what();
  }
  return "";
}

#define EXPECT_REFUSED(check, message) EXPECT_PRED2(holds, refusalOf([&] { check; }), std::string(message))

bool holds(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

std::string repeated(const std::string &text, size_t count) {
  std::string result;
  while (count-- > 0)
    result += text;
  return result;
}

/// A pickle's text, integer and tuple, as pickle.dumps(…, 2) writes them.
std::string text(const std::string &value) {
  return std::string("X") + char(value.size() & 255) + char(value.size() >> 8) + std::string(2, 0) + value;
}
std::string integer(int32_t value) {
  std::string result = "J....";
  std::memcpy(result.data() + 1, &value, 4);
  return result;
}
std::string tuple(const std::string &parts) { return "(" + parts + "t"; }
std::string list(const std::string &parts) { return "](" + parts + "e"; }
std::string whole(const std::string &value) { return "\x80\x02" + value + "."; }

const std::string kFloats = "ctorch\nFloatStorage\n", kObject = "c__torch__\nA\n)\x81";

std::string storage(const std::string &key, const std::string &type = kFloats) {
  return tuple(text("storage") + type + text(key) + text("cpu") + integer(8)) + "Q";
}
std::string tensor(const std::string &storage, const std::string &sizes, const std::string &strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n" +
         tuple(storage + integer(0) + tuple(sizes) + tuple(strides) + "\x89" + "ccollections\nOrderedDict\n)R") + "R";
}
void check(const std::string &value) {
  checkPickle(whole(value),
              [](llvm::StringRef key) { return key == "0" ? std::optional<uint64_t>(32) : std::nullopt; });
}

TEST(ArchiveCheck, SoundPickles) {
  EXPECT_EQ(refusalOf([] { check(tensor(storage("0"), integer(2) + integer(4), integer(4) + integer(1))); }), "");
  EXPECT_EQ(refusalOf([] { check(kObject + "}" + text("a") + integer(1) + "sb"); }), "");
  EXPECT_EQ(
      refusalOf([] { check("ctorch.jit._pickle\nbuild_intlist\n" + tuple(list(integer(1) + integer(2))) + "R"); }), "");
}

TEST(ArchiveCheck, Pickles) {
  EXPECT_REFUSED(checkPickle("\x80\x04N.", nullptr), "expects protocol 2");
  EXPECT_REFUSED(check("\x8c\x01"), "has opcode 140, which torch.jit.save does not write");
  EXPECT_REFUSED(check(list(kObject)), "an object is used before it has its attributes");
  EXPECT_REFUSED(check(repeated("(", 600) + "N" + repeated("t", 600)), "has values nested deeper than 500");
  EXPECT_REFUSED(check("]}b"), "sets attributes of what is no new object");
  EXPECT_REFUSED(check(kObject + "}" + "N" + "Nsb"), "an object has an attribute whose name is no text");
  EXPECT_REFUSED(check("ctorch.jit._pickle\nrestore_type_tag\n" + tuple("N" + text("int")) + "R"),
                 "expects a list or a dict with a type");
  EXPECT_REFUSED(check("ctorch.jit._pickle\nbuild_intlist\n" + tuple(list("N")) + "R"),
                 "expects a list of what intlist says");
}

TEST(ArchiveCheck, Storages) {
  EXPECT_REFUSED(check(tuple(text("storage")) + "Q"), "expects a storage of ('storage', class, key, device, elements)");
  EXPECT_REFUSED(check(storage("0", "c__torch__\nStorage\n")),
                 "storage 0 is of class __torch__ Storage, which is unsupported");
  EXPECT_REFUSED(check(storage("../0")), "expects a storage's key to be a number, as data/0 is called");
  EXPECT_REFUSED(check(storage("1")), "storage 1 has no entry in the archive");
  EXPECT_REFUSED(check(list(storage("0") + storage("0"))), "storage 0 is read twice");
}

TEST(ArchiveCheck, Tensors) {
  EXPECT_REFUSED(check("ctorch._utils\n_rebuild_tensor_v2\n" + tuple(storage("0")) + "R"),
                 "expects a tensor of (storage, offset, sizes, strides, requires_grad, hooks)");
  std::string sizes = integer(1 << 20) + integer(1 << 8);
  EXPECT_REFUSED(check(tensor(storage("0"), sizes + integer(2), integer(0) + integer(0) + integer(1))),
                 "a tensor shows the 8 elements of storage 0 as 536870912, but at most 134217728 are read");
  // A weight that is not there.
  EXPECT_EQ(refusalOf([&] { check(tensor(storage("0"), sizes + sizes, repeated(integer(0), 4))); }), "");
}

/// ("FORMAT_WITH_STRING_TABLE", texts, entries)
void checkDebug(const std::string &texts, const std::string &entries) {
  checkDebugPickle(whole(tuple(text("FORMAT_WITH_STRING_TABLE") + tuple(texts) + tuple(entries))));
}
std::string entryOf(const std::string &source, int begin = 0, int end = 1) {
  return tuple(integer(0) + tuple(source + integer(begin) + integer(end)) + integer(0));
}

TEST(ArchiveCheck, DebugTables) {
  std::string source = tuple(list(integer(0)) + integer(0) + integer(1));
  EXPECT_EQ(refusalOf([&] { checkDebug(text("abc"), entryOf(source)); }), "");
  EXPECT_REFUSED(checkDebugPickle(whole(tuple(text("OTHER")))), "expects a table of sources, but it has another form");
  EXPECT_REFUSED(checkDebug("N", entryOf(source)), "expects a table of sources, but a text is none");
  EXPECT_REFUSED(checkDebug(text("abc"), "N"), "expects a table of sources, but an entry has another form");
  EXPECT_REFUSED(checkDebug(text("abc"), entryOf("N")), "expects a table of sources, but a source has another form");
  EXPECT_REFUSED(checkDebug(text("abc"), entryOf(tuple(list(integer(7)) + integer(0) + integer(1)))),
                 "a source has a text that is not there");
  EXPECT_REFUSED(checkDebug(text("abc"), entryOf(source, 2, 9)), "a range is outside its source");
}

TEST(ArchiveCheck, Code) {
  EXPECT_REFUSED(checkCode("def f() -> str:\n  return \"a\n"), "line 2 has a text without an end");
  EXPECT_REFUSED(checkCode("def f() -> int:\n  return " + std::string(5000, 'a') + "\n"), "has a name of 5000 bytes");
  EXPECT_REFUSED(checkCode("def f() -> int:\n  return " + repeated("(", 500) + "1" + repeated(")", 500) + "\n"),
                 "has an expression nested deeper than 400");
  EXPECT_REFUSED(checkCode("def f() -> int:\n  def g() -> int:\n    return 1\n"), "has 'def' inside a function");
}

/// A zip file of stored entries, with one number of its directory changed.
class ZipFile : public testing::Test {
protected:
  void SetUp() override { path = testing::TempDir() + "archive-check.zip"; }
  void TearDown() override { std::filesystem::remove(path); }

  static void put(std::string &bytes, size_t at, uint64_t value, size_t count) {
    std::memcpy(bytes.data() + at, &value, count);
  }

  /// `at` of the first entry's record in the directory.
  std::vector<ZipEntry> read(size_t at, uint32_t value, const std::string &name = "m/code/a.py") {
    std::string local(30, 0), central(46, 0), end(22, 0);
    put(local, 0, 0x04034b50, 4), put(local, 18, 4, 4), put(local, 22, 4, 4), put(local, 26, name.size(), 2);
    put(central, 0, 0x02014b50, 4), put(central, 20, 4, 4), put(central, 24, 4, 4), put(central, 28, name.size(), 2);
    if (at > 0)
      put(central, at, value, 4);
    std::string file = local + name + "pass";
    put(end, 0, 0x06054b50, 4), put(end, 10, 1, 2), put(end, 12, central.size() + name.size(), 4),
        put(end, 16, file.size(), 4);
    std::ofstream(path, std::ios::binary) << file << central << name << end;
    return readZipDirectory(path);
  }

  std::string path;
};

TEST_F(ZipFile, Directories) {
  ASSERT_EQ(read(0, 0).size(), 1u);
  EXPECT_EQ(read(0, 0)[0].name, "code/a.py");
  EXPECT_REFUSED(readZipDirectory(path + "-none"), "cannot be read as an archive");
  EXPECT_REFUSED(read(24, 9), "entry code/a.py: has 4 bytes, but says 9");
  EXPECT_REFUSED(read(20, 5), "entry code/a.py: has 5 bytes, but says 4");
  std::ofstream(path) << "short";
  EXPECT_REFUSED(readZipDirectory(path),
                 "cannot be read as TorchScript (it has 5 bytes): it is truncated or of another format");
}

TEST_F(ZipFile, EntriesThatRunOn) {
  // Four bytes and no more lie before the directory.
  auto both = [&](uint32_t bytes, uint16_t method) {
    read(0, 0);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    size_t directory = 30 + 11 + 4;
    auto write = [&](size_t at, const void *from, size_t count) {
      file.seekp(at).write(static_cast<const char *>(from), count);
    };
    write(directory + 24, &bytes, 4), write(directory + 10, &method, 2), write(8, &method, 2);
    if (method == 0)
      write(directory + 20, &bytes, 4);
  };
  both(20, 0);
  EXPECT_REFUSED(readZipDirectory(path), "entry code/a.py: its bytes run into the archive's directory");
  both(100 << 20, 8);
  EXPECT_REFUSED(readZipDirectory(path), "entry code/a.py: unpacks to 104857600 bytes, but at most 67108864 are read");
}

} // namespace
