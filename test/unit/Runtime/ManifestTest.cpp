// What a manifest says of devices: workspace, copies of parameters, and what is wrong with it.
#include "runtime/core/Manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

std::string manifestText(const std::string &device, const std::string &parameter) {
  return R"({"format": 1, "stage": 0, "stages": 1, "devices": 1, "mesh": [], "global_batch": 1, "micro_batches": 1,
    "sequence": 4, "vocabulary": 4, "arena_bytes": 4096, "inputs": [], "groups": [], "names": [], "units": [], )" +
         device +
         R"("parameters": [{"names": ["p"], "shape": [8], "placement": [[[8, -1]]], "parameter": 0, "gradient": 64,
    "first_moment": 128, "second_moment": 192, "count": 8)" +
         parameter + "}]}";
}

TEST(Manifest, ThatSaysNothingOfDevicesIsTheProcessors) {
  Manifest manifest;
  Status status = Manifest::parse(manifestText("", "").c_str(), manifest);
  ASSERT_TRUE(status.ok()) << status.message;
  EXPECT_EQ(manifest.device, "cpu");
  EXPECT_EQ(manifest.workspace.bytes, 0);
  EXPECT_EQ(manifest.parameters[0].copy, -1);
}

TEST(Manifest, NamesDeviceWorkspaceAndCopies) {
  Manifest manifest;
  std::string device = R"("device": "cuda", "workspace": {"offset": 1024, "bytes": 3072}, )";
  Status status = Manifest::parse(manifestText(device, R"(, "copy": 256)").c_str(), manifest);
  ASSERT_TRUE(status.ok()) << status.message;
  EXPECT_EQ(manifest.device, "cuda");
  EXPECT_EQ(manifest.workspace.offset, 1024);
  EXPECT_EQ(manifest.workspace.bytes, 3072);
  EXPECT_EQ(manifest.parameters[0].copy, 256);
}

TEST(Manifest, RefusesInputsThatNoDataIsFor) {
  Manifest known, unknown;
  std::string text = manifestText("", ""), input = R"("inputs": [{"name": "documents", "offset": 0,
    "bytes_per_micro_batch": 32, "shape": [1, 4], "placement": [[[1, -1]], [[4, -1]]]}])";
  text.replace(text.find("\"inputs\": []"), 12, input);
  ASSERT_TRUE(Manifest::parse(text.c_str(), known).ok());
  text.replace(text.find("documents"), 9, "attention_mask");
  EXPECT_THAT(Manifest::parse(text.c_str(), unknown).message,
              HasSubstr("expects input_ids, labels, positions or documents as an input, but got attention_mask"));
}

TEST(Manifest, NamesTheFieldsOfOtherData) {
  Manifest known, unknown, flat;
  std::string text = manifestText("", ""), input = R"("fields": [{"name": "pixels", "type": "f32", "shape": [4]},
    {"name": "labels", "type": "i64", "shape": [], "below": 3, "ignored": -100}],
    "inputs": [{"name": "pixels", "offset": 0, "bytes_per_micro_batch": 16, "shape": [1, 4],
    "placement": [[[1, -1]], [[4, -1]]]}])";
  text.replace(text.find("\"inputs\": []"), 12, input);
  Status status = Manifest::parse(text.c_str(), known);
  ASSERT_TRUE(status.ok()) << status.message;
  EXPECT_FALSE(known.readsTokens() || known.hasTokens());
  EXPECT_TRUE(known.fields[0].isFloat);
  EXPECT_EQ(known.fields[1].below, 3);
  EXPECT_EQ(known.fields[1].ignored, -100);
  EXPECT_EQ(known.findField("labels"), 1u);
  std::string other = text;
  other.replace(other.rfind("pixels"), 6, "sounds");
  EXPECT_THAT(Manifest::parse(other.c_str(), unknown).message,
              HasSubstr("expects one of the program's fields as an input, but got sounds"));
  other = text;
  other.replace(other.rfind("pixels"), 6, "labels");
  EXPECT_THAT(Manifest::parse(other.c_str(), flat).message, HasSubstr("expects labels of 1 dimensions, but got 2"));
}

TEST(Manifest, RefusesInputsOfAnotherBatch) {
  Manifest manifest;
  std::string text = manifestText("", ""), input = R"("inputs": [{"name": "labels", "offset": 0,
    "bytes_per_micro_batch": 32, "shape": [2, 4], "placement": [[[2, -1]], [[4, -1]]]}])";
  text.replace(text.find("\"inputs\": []"), 12, input);
  EXPECT_THAT(Manifest::parse(text.c_str(), manifest).message,
              HasSubstr("expects input labels of global_batch 1 rows, but got 2"));
}

TEST(Manifest, RefusesFilesOutsideOfItsFolder) {
  for (const char *key : {"weights", "buffers"})
    for (const char *name : {"../../x", "/etc/passwd", "evil/launch", "..", "a\\nb"}) {
      Manifest manifest;
      std::string text = manifestText("\"" + std::string(key) + "\": \"" + name + "\", ", "");
      EXPECT_THAT(Manifest::parse(text.c_str(), manifest).message,
                  HasSubstr("expects " + std::string(key) + " to be the name of a file in the program's folder, but"));
    }
}

TEST(Manifest, RefusesBracketsWithoutEnd) {
  Manifest manifest;
  EXPECT_THAT(Manifest::parse((R"({"x":)" + std::string(100000, '[')).c_str(), manifest).message,
              HasSubstr("nests lists and objects more than 100 deep"));
}

TEST(Manifest, NamesPadding) {
  Manifest none, manifest, tooFew, tooMany;
  std::string text = manifestText("", R"(, "padding": [[[2, 0], [4, 0]]])");
  ASSERT_TRUE(Manifest::parse(text.c_str(), none).ok());
  // Six own elements in eight.
  text.replace(text.find("\"shape\": [8]"), 12, "\"shape\": [6]");
  EXPECT_THAT(Manifest::parse(text.c_str(), tooFew).message,
              HasSubstr("expects 6 elements of dimension 0 of p beside its padding, but got 8"));
  text.replace(text.find("[4, 0]"), 6, "[3, 1]");
  Status status = Manifest::parse(text.c_str(), manifest);
  ASSERT_TRUE(status.ok()) << status.message;
  std::vector<int64_t> own;
  for (int64_t index = 0; index < manifest.parameters[0].paddedExtent(0); ++index)
    own.push_back(manifest.parameters[0].withoutPadding(0, index));
  EXPECT_EQ(own, (std::vector<int64_t>{0, 1, 2, -1, 3, 4, 5, -1}));
  text.replace(text.find("[3, 1]"), 6, "[3, 2]");
  EXPECT_THAT(Manifest::parse(text.c_str(), tooMany).message,
              HasSubstr("expects the placement of p to cover 10 elements of dimension 0, but got 8"));
}

TEST(Manifest, NamesWhatIsFrozenAndWhatIsCarried) {
  Manifest manifest, unknown;
  std::string carried = R"("buffers": "m.buffers.safetensors", "carried": [
    {"names": ["n", "m"], "dtype": "BOOL", "shape": [2, 3], "buffer": true, "read": true},
    {"names": ["u"], "dtype": "F32", "shape": [], "init": {"constant": 2.0}}], )";
  std::string text = manifestText(carried, "");
  std::string gradient = R"("gradient": 64,)";
  text.erase(text.find(gradient), gradient.size());
  Status status = Manifest::parse(text.c_str(), manifest);
  ASSERT_TRUE(status.ok()) << status.message;
  EXPECT_FALSE(manifest.parameters[0].isTrained());
  ASSERT_EQ(manifest.carried.size(), 2u);
  EXPECT_EQ(manifest.carried[0].type, safetensors::ElementType::Bool);
  EXPECT_EQ(manifest.carried[0].numElements(), 6);
  EXPECT_TRUE(manifest.carried[0].isBuffer && manifest.carried[0].isRead);
  EXPECT_EQ(manifest.carried[1].numElements(), 1);
  EXPECT_EQ(manifest.carried[1].initA, 2);
  carried.replace(carried.find("BOOL"), 4, "F7");
  EXPECT_THAT(Manifest::parse(manifestText(carried, "").c_str(), unknown).message,
              HasSubstr("tensor n is of the unknown type F7"));
}

TEST(Manifest, OnlyWhatIsFrozenHasNoMaster) {
  auto parse = [](const std::string &more, bool isTrained) {
    std::string text = manifestText("", more);
    text.erase(text.find(R"("parameter": 0,)"), 15);
    if (!isTrained)
      text.erase(text.find(R"("gradient": 64,)"), 15);
    Manifest manifest;
    Status status = Manifest::parse(text.c_str(), manifest);
    EXPECT_EQ(status.ok(), status.ok() && manifest.parameters[0].isCopyAlone());
    return status.message;
  };
  EXPECT_EQ(parse(R"(, "copy": 256)", false), "");
  for (std::string message : {parse(R"(, "copy": 256)", true), parse("", false)})
    EXPECT_THAT(message, HasSubstr("expects p to be in memory in single precision, or frozen and in 16 bits alone"));
}

TEST(Manifest, NamesAStageAndAxesThatThereAre) {
  auto message = [](const std::string &text) {
    Manifest manifest;
    return Manifest::parse(text.c_str(), manifest).message;
  };
  std::string stage = manifestText("", "");
  stage.replace(stage.find("\"stage\": 0"), 10, "\"stage\": 1");
  EXPECT_EQ(message(stage), "this program's manifest is not sound: expects a stage below 1, but got 1");
  auto shard = [](const std::string &axes, int first) {
    return manifestText("", R"(, "shard": {"axes": )" + axes + R"(, "piece": 8, "first": )" + std::to_string(first) +
                                R"(, "whole": []})");
  };
  EXPECT_EQ(message(shard("[]", 0)), "");
  EXPECT_THAT(message(shard("[1]", 0)),
              HasSubstr("expects the states of p to be shared along axes of the mesh, of which "
                        "there are 0, but got axis 1"));
  EXPECT_THAT(message(shard("[]", 1)),
              HasSubstr("expects p inside the 8 elements that ranks share, but got 8 from 1 on"));
}

/// Of a manifest that differs at one place.
std::string complaint(const std::string &known, const std::string &changed, const std::string &parameter = "") {
  std::string text = manifestText("", parameter);
  text.replace(text.find(known), known.size(), changed);
  Manifest manifest;
  return Manifest::parse(text.c_str(), manifest).message;
}

TEST(Manifest, HasNumbersThatDoNotOverflow) {
  EXPECT_THAT(complaint(R"("arena_bytes": 4096)", R"("arena_bytes": -1)"),
              HasSubstr("expects arena_bytes to be from 0 to 281474976710656, but got -1"));
  EXPECT_THAT(complaint(R"("shape": [8])", R"("shape": [16777216, 16777217])"),
              HasSubstr("expects p to have at most 281474976710656 elements"));
  EXPECT_THAT(complaint(R"("devices": 1, "mesh": [])", R"("devices": 2, "mesh": [2])",
                        R"(, "shard": {"axes": [0], "piece": 281474976710656, "first": 0, "whole": []})"),
              HasSubstr("expects ranks to share at most 281474976710656 elements with p"));
}

TEST(Manifest, HasPlacementsThatCanBeRead) {
  std::string known = R"("placement": [[[8, -1]]])";
  for (const char *changed : {R"("placement": [])", R"("placement": [[[8, -1]], [[1, -1]]])"})
    EXPECT_THAT(complaint(known, changed), HasSubstr("expects a placement of 1 dimensions for p"));
  EXPECT_THAT(complaint(known, R"("placement": [[[8, 0]]])"),
              HasSubstr("expects the placement of p to be along axes of the mesh, of which there are 0, but got 0"));
}

TEST(Manifest, HasCarriedTensorsWithNames) {
  EXPECT_THAT(complaint(R"("inputs": [])", R"("inputs": [], "carried": [{"names": [], "dtype": "F32", "shape": []}])"),
              HasSubstr("expects a carried tensor to have a name"));
}

TEST(Manifest, KeepsPiecesInsideTheArena) {
  Manifest workspace, manifest;
  std::string device = R"("workspace": {"offset": 1024, "bytes": 3073}, )";
  EXPECT_THAT(Manifest::parse(manifestText(device, "").c_str(), workspace).message,
              HasSubstr("expects the workspace inside the arena of 4096 bytes, but got 3073 bytes at 1024"));
  EXPECT_THAT(Manifest::parse(manifestText("", R"(, "copy": 4084)").c_str(), manifest).message,
              HasSubstr("expects the copy of p inside the arena of 4096 bytes, but got offset 4084"));
  Manifest totals;
  std::string total = R"("totals": [{"name": "total0", "offset": 4093}], )";
  EXPECT_THAT(Manifest::parse(manifestText(total, "").c_str(), totals).message,
              HasSubstr("expects total0 inside the arena of 4096 bytes, but got offset 4093"));
}

} // namespace
