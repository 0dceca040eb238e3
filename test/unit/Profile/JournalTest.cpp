// The journal: what it keeps over a crash, and whose it refuses.
#include "lib/Profile/Journal.h"
#include "lib/Profile/Links.h"
#include "lib/Profile/Show.h"

#include "galvatron/Search/Formats/MachineProfileFile.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

using namespace galvatron::profile;
using galvatron::search::MachineProfile;
using galvatron::search::MeasuredMessage;
namespace fs = std::filesystem;

namespace {

MachineProfile machine() {
  MachineProfile profile;
  profile.fingerprint = {{"device", "epyc"}, {"hosts", "a"}};
  profile.cluster = *galvatron::search::hostCluster(2, 1 << 30);
  profile.devices = {{0, "a", 0}, {1, "a", 1}};
  return profile;
}

std::string entry(std::int64_t bytes) { return writeEntry(MeasuredMessage{"all_reduce", 2, 1, 1, bytes, 1e-5, 0, 5}); }

class JournalTest : public ::testing::Test {
protected:
  void SetUp() override {
    folder = (fs::temp_directory_path() / ("journal" + std::to_string(getpid()))).string();
    fs::remove_all(folder);
  }
  void TearDown() override { fs::remove_all(folder); }

  std::string file(const char *name) const { return folder + "/" + name; }
  void append(const char *name, const std::string &text) { std::ofstream(file(name), std::ios::app) << text; }
  /// What is said when it is opened again.
  std::string errorOf(MachineProfile profile, bool restart = false) {
    auto error = Journal().open(folder, profile, restart);
    return error ? error->message : "";
  }
  void begin(int entries) {
    MachineProfile profile = machine();
    Journal journal;
    ASSERT_FALSE(journal.open(folder, profile, false));
    for (int index = 0; index < entries; ++index)
      ASSERT_FALSE(journal.add(entry(4096 << index)));
  }

  std::string folder;
};

TEST_F(JournalTest, goes_on_after_a_torn_line) {
  begin(2);
  append("profile.journal", entry(65536).substr(0, 30));
  MachineProfile profile = machine();
  {
    Journal journal;
    auto error = journal.open(folder, profile, false);
    ASSERT_FALSE(error) << error->message;
    EXPECT_EQ(profile.messages.size(), 2u);
    ASSERT_FALSE(journal.add(entry(32768)));
  }
  profile = machine();
  Journal journal;
  ASSERT_FALSE(journal.open(folder, profile, false));
  EXPECT_EQ(profile.messages.size(), 3u);
  journal.remove();
  EXPECT_FALSE(fs::exists(file("profile.journal")));
}

TEST_F(JournalTest, another_models_is_refused) {
  MachineProfile profile = machine();
  profile.models = {{"a", "01", 16, {}}};
  ASSERT_FALSE(Journal().open(folder, profile, false));
  EXPECT_EQ(errorOf(machine()), ""); // of hardware alone
  profile = machine();
  profile.models = {{"b", "02", 16, {}}};
  EXPECT_NE(errorOf(profile).find("profile.journal' was begun for another model; go on with that one, name another "
                                  "folder with -o, or drop it with --restart"),
            std::string::npos);
}

/// Bodies that were measured at once are kept at once.
TEST_F(JournalTest, bodies_are_one_line) {
  galvatron::search::MeasuredBody body{"block", "ab", "fp32", R"({"tp":2})", 1, 128, 1, 2};
  std::vector<galvatron::search::MeasuredBody> both = {body, body};
  both[1].hash = "cd";
  begin(0);
  append("profile.journal", writeEntry(both) + "\n");
  MachineProfile profile = machine();
  EXPECT_FALSE(Journal().open(folder, profile, false));
  ASSERT_EQ(profile.bodies.size(), 2u);
  EXPECT_EQ(profile.bodies[1].hash, "cd");
  EXPECT_EQ(profile.bodies[1].backwardSeconds, 2);
}

TEST_F(JournalTest, restart_forgets) {
  begin(2);
  MachineProfile profile = machine();
  EXPECT_FALSE(Journal().open(folder, profile, true));
  EXPECT_TRUE(profile.messages.empty());
}

TEST_F(JournalTest, an_interrupted_restart_goes_on_as_one) {
  MachineProfile finished = machine();
  ASSERT_TRUE(addEntry(entry(4096), finished));
  fs::create_directories(folder);
  append("profile.json", writeMachineProfile(finished));
  EXPECT_EQ(errorOf(machine(), true), "");
  MachineProfile profile = machine();
  EXPECT_FALSE(Journal().open(folder, profile, false));
  EXPECT_TRUE(profile.messages.empty());
}

TEST_F(JournalTest, takes_what_a_finished_profile_has) {
  MachineProfile profile = machine();
  profile.created = "2026-01-31T12:00:00Z";
  ASSERT_TRUE(addEntry(entry(4096), profile));
  fs::create_directories(folder);
  ASSERT_FALSE(replaceFile(file("profile.json"), writeMachineProfile(profile)));
  begin(1); // a crash between writing the one and removing the other leaves both
  MachineProfile again = machine();
  Journal journal;
  auto error = journal.open(folder, again, false);
  ASSERT_FALSE(error) << error->message;
  EXPECT_EQ(again.messages.size(), 1u);
}

TEST_F(JournalTest, refuses_another_machine) {
  begin(1);
  MachineProfile other = machine();
  other.fingerprint["hosts"] = "b";
  EXPECT_NE(errorOf(other).find("is of another machine or version (hosts 'a', here 'b')"), std::string::npos)
      << errorOf(other);
  EXPECT_EQ(errorOf(other, true), "");
  EXPECT_NE(errorOf(machine()).find("of another machine"), std::string::npos); // it is the other's now
}

TEST_F(JournalTest, refuses_another_precision_and_profiles_that_cannot_be_read) {
  fs::create_directories(folder);
  append("profile.json", writeMachineProfile(machine()));
  MachineProfile other = machine();
  other.precision = "bf16";
  EXPECT_NE(errorOf(other).find("(precision 'fp32', here 'bf16')"), std::string::npos) << errorOf(other);
  append("profile.json", "}");
  EXPECT_NE(errorOf(machine()).find("; take it anew with --restart"), std::string::npos) << errorOf(machine());
}

TEST_F(JournalTest, refuses_what_is_no_journal) {
  fs::create_directories(folder);
  append("profile.journal", "{\"format\": \"other\"}\n");
  EXPECT_NE(errorOf(machine()).find("is no journal of this version"), std::string::npos);
  EXPECT_EQ(errorOf(machine(), true), "");
  fs::remove(file("profile.journal"));
  append("profile.journal", "nonsense\n");
  EXPECT_NE(errorOf(machine()).find("does not begin as a journal does"), std::string::npos);
}

TEST_F(JournalTest, refuses_a_damaged_line) {
  begin(1);
  append("profile.journal", "{\"collective\": {\"kind\": \"nothing\"}}\n");
  EXPECT_NE(errorOf(machine()).find("line 3: profile entry 'collective' key 'kind'"), std::string::npos)
      << errorOf(machine());
}

TEST_F(JournalTest, one_at_a_time) {
  MachineProfile profile = machine();
  Journal journal;
  ASSERT_FALSE(journal.open(folder, profile, false));
  EXPECT_NE(errorOf(machine()).find("another galvatron-profile is measuring into"), std::string::npos);
}

TEST_F(JournalTest, is_a_file) {
  fs::create_directories(folder);
  ASSERT_EQ(mkfifo(file("profile.journal").c_str(), 0600), 0);
  EXPECT_EQ(errorOf(machine()), "expects '" + file("profile.journal") +
                                    "' to be a file, but it is something else; name another folder with -o");
}

TEST_F(JournalTest, folders_that_cannot_be_had_are_named) {
  std::ofstream(folder) << "a file";
  EXPECT_NE(errorOf(machine()).find("cannot make the folder '" + folder), std::string::npos) << errorOf(machine());
  EXPECT_NE(replaceFile(folder + "/x", "")->message.find("cannot write '"), std::string::npos);
  fs::remove(folder);
  fs::create_directories(file("profile.journal")); // a folder where the journal belongs
  EXPECT_NE(errorOf(machine()).find("cannot write '"), std::string::npos) << errorOf(machine());
}

TEST(ReplaceFile, a_full_disk_leaves_what_was_there) {
  std::string folder = (fs::temp_directory_path() / ("full" + std::to_string(getpid()))).string();
  fs::create_directories(folder);
  std::ofstream(folder + "/profile.json") << "good";
  // As on a full disk, no byte can be written.
  rlimit old, none;
  getrlimit(RLIMIT_FSIZE, &old);
  none = {0, old.rlim_max};
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &none);
  auto error = replaceFile(folder + "/profile.json", "new");
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(error);
  EXPECT_NE(error->message.find("File too large"), std::string::npos) << error->message;
  std::string text;
  std::getline(std::ifstream(folder + "/profile.json"), text);
  EXPECT_EQ(text, "good");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
  fs::remove_all(folder);
}

MeasuredMessage message(const char *kind, std::int64_t ranks, std::int64_t stride, std::int64_t bytes, double seconds) {
  return {kind, ranks, stride, 1, bytes, seconds, 0, 5};
}

TEST(Links, come_from_their_level) {
  MachineProfile profile = machine();
  profile.cluster.nodes = 2;
  // Within a node 10 us and 1 GB/s, across nodes 100 us and 0.1 GB/s.
  for (std::int64_t bytes : {1000, 1000000}) {
    profile.messages.push_back(message("send", 2, 1, bytes, 1e-5 + double(bytes) / 1e9));
    profile.messages.push_back(message("send", 2, 2, bytes, 1e-4 + double(bytes) / 1e8));
    profile.messages.push_back(message("all_reduce", 2, 1, bytes, double(bytes) / 2e9));
  }
  deriveLinks(profile);
  EXPECT_NEAR(profile.cluster.intra.bytesPerSecond, 2e9, 1e3); // the collective's, not the send's
  EXPECT_NEAR(profile.cluster.intra.latencySeconds, 1.1e-5, 1e-7);
  EXPECT_NEAR(profile.cluster.inter.bytesPerSecond, 1e8, 1e6);
  EXPECT_NEAR(profile.cluster.inter.latencySeconds, 1.1e-4, 1e-6);
  ASSERT_EQ(profile.cluster.intra.sends.size(), 1u);
  EXPECT_TRUE(profile.leftOut.empty());
}

TEST(Links, without_messages_are_named) {
  MachineProfile profile = machine();
  deriveLinks(profile);
  ASSERT_EQ(profile.leftOut.size(), 1u);
  EXPECT_NE(profile.leftOut[0].find("link 'intra'"), std::string::npos);
}

TEST(Show, says_age_figures_and_stragglers) {
  MachineProfile profile = machine();
  profile.created = "1970-01-02T00:00:00Z";
  profile.wasBusy = true;
  profile.devices = {{0, "a", 0, 2000}, {1, "a", 1, 1500}};
  profile.stragglers = {{1, "a", 1, 0.2}};
  profile.messages = {message("all_reduce", 2, 1, 4096, 1e-5)};
  profile.kernels = {{"gemm", "fp32", {.m = 100, .n = 100, .k = 100, .layout = "nt"}, 1e-3, 0.5, 5}};
  profile.leftOut = {"something: too little time"};
  std::string text = describeProfile(profile, 3 * 86400);
  for (const char *part : {"(2.0 days ago)", "1 messages, 1 kernels", "up to 2 GFLOP/s; 0 within 3 %, widest 50.0 %",
                           "others used the machine", "1 left out:\n  something: too little time",
                           "rank 1 (host 'a', device 1, 1500 MHz) takes 20 % longer than the median"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

} // namespace
