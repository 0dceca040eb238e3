// Speeds of devices, time that is left, and checksums of event files.
#include "runtime/core/Speed.h"
#include "TemporaryFolder.h"
#include "runtime/core/Files.h"
#include "runtime/core/TensorBoard.h"

#include <gtest/gtest.h>

using namespace galvatron;

namespace {

class SpeedTest : public TemporaryFolder {
protected:
  SpeedTest() : TemporaryFolder("speed") {}

  Speed read(const std::string &text) {
    EXPECT_TRUE(writeText(folder / "plan.json", text).ok());
    return Speed(folder / "plan.json", 4);
  }
};

TEST_F(SpeedTest, OfOneDevice) {
  Speed speed = read(R"({"model_flops_per_step": 8000000000000, "peak_flops_per_second": 2e12})");
  EXPECT_DOUBLE_EQ(*speed.teraflops(4), 0.5);
  EXPECT_DOUBLE_EQ(*speed.utilization(4), 0.25);
  EXPECT_FALSE(speed.teraflops(0));
}

TEST_F(SpeedTest, OnlyWhatIsKnown) {
  EXPECT_FALSE(read(R"({"model_flops_per_step": 8})").utilization(4));
  for (const char *text : {R"({"peak_flops_per_second": 8})", "[1]", "{", R"({"model_flops_per_step": "8"})"})
    EXPECT_FALSE(read(text).teraflops(4)) << text;
  EXPECT_FALSE(Speed(folder / "none", 4).teraflops(4));
}

TEST(Remaining, FollowsTheLastSteps) {
  Remaining remaining;
  EXPECT_EQ(remaining.add(1, 10, 100), 900);
  remaining.add(2, 10, 2);
  EXPECT_EQ(remaining.add(3, 10, 2), 14);
  EXPECT_DOUBLE_EQ(remaining.add(4, 10, 3), 6 * 2.1);
}

TEST(Durations, AreShort) {
  EXPECT_EQ(durationText(0.4), "0:00");
  EXPECT_EQ(durationText(65), "1:05");
  EXPECT_EQ(durationText(3 * 3600 + 20 * 60 + 7), "3:20:07");
  EXPECT_EQ(durationText(2 * 86400 + 7), "2d 00:00:07");
}

TEST(TensorBoardFiles, ChecksumsAreMaskedCrc32c) {
  // CRC-32C of "123456789" is 0xe3069283 (RFC 3720, B.4 has the polynomial).
  uint32_t crc = 0xe3069283;
  EXPECT_EQ(maskedChecksum("123456789"), (crc >> 15 | crc << 17) + 0xa282ead8);
}

} // namespace
