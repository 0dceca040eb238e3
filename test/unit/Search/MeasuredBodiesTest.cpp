// Bodies of a profile as prices: what was measured counts, messages apart; what was not is scaled or left to its
// kernels.
#include "galvatron/Search/Model/MeasuredBodies.h"

#include "galvatron/Search/Model/KernelPrice.h"
#include "galvatron/Search/Model/MachineTables.h"

#include <gtest/gtest.h>

using namespace galvatron::search;

namespace {

Strategy tensor(int tp) {
  Strategy strategy;
  strategy.tp = tp;
  return strategy;
}

MeasuredBody body(const std::string &hash, const Strategy &strategy, std::int64_t samples, std::int64_t seq,
                  double forward) {
  MeasuredBody body{"layer", hash, "fp32", "{}", samples, seq};
  body.plan = strategy;
  body.forwardSeconds = forward, body.backwardSeconds = 2 * forward, body.recomputeSeconds = 0.9 * forward;
  body.updateSeconds = 1e-3, body.stateBytes = 16000000;
  return body;
}

/// One layer, 2 and 4 samples of 100 tokens and of 200, alone; and with tp 2, whose two all-reduces are in its figures.
MachineProfile example() {
  MachineProfile profile;
  profile.fingerprint = {{"target", "cpu"}};
  profile.cluster = *hostCluster(2, 1ll << 34);
  for (std::int64_t bytes : {1000, 1000000})
    profile.messages.push_back({"all_reduce", 2, 1, 1, bytes, 1e-3 + double(bytes) * 1e-9, 0, 5});
  for (std::int64_t samples : {2, 4}) {
    profile.bodies.push_back(body("abc", tensor(1), samples, 100, 0.010 * double(samples)));
    profile.bodies.push_back(body("abc", tensor(1), samples, 200, 0.030 * double(samples)));
    double moved = 2 * (1e-3 + double(samples) * 100 * 1000 * 1e-9);
    profile.bodies.push_back(body("abc", tensor(2), samples, 100, 0.005 * double(samples) + moved));
  }
  return profile;
}

Cluster priced(const MachineProfile &profile) {
  Cluster cluster = profile.cluster;
  EXPECT_FALSE(applyProfile(profile, "profile.json", cluster));
  return cluster;
}

/// Half of it attention by its kernels.
BodyQuery query(double samples, double seq) {
  BodyQuery query{"layer", "abc", tensor(1)};
  query.samples = samples, query.seq = seq;
  query.attentionSeconds = 1e-7 * samples * seq * seq, query.otherSeconds = 1e-5 * samples * seq;
  return query;
}

TEST(MeasuredBodies, what_was_measured_is_the_price) {
  Cluster cluster = priced(example());
  BodyPrice price = cluster.device.tables->bodies()->price(query(2, 100));
  EXPECT_DOUBLE_EQ(price.seconds, 0.020);
  EXPECT_EQ(price.source, PriceSource::Measured);
  BodyQuery backward = query(4, 200);
  backward.part = BodyPart::Backward;
  EXPECT_DOUBLE_EQ(cluster.device.tables->bodies()->price(backward).seconds, 0.240);
}

TEST(MeasuredBodies, samples_between_are_along_the_line_and_beyond_are_extrapolated) {
  Cluster cluster = priced(example());
  BodyPrice between = cluster.device.tables->bodies()->price(query(3, 100)),
            beyond = cluster.device.tables->bodies()->price(query(8, 100));
  EXPECT_DOUBLE_EQ(between.seconds, 0.030);
  EXPECT_EQ(between.source, PriceSource::Measured);
  EXPECT_NEAR(beyond.seconds, 0.080, 1e-12);
  EXPECT_EQ(beyond.source, PriceSource::Extrapolated);
  BodyPrice fewer = cluster.device.tables->bodies()->price(query(1, 100));
  EXPECT_NEAR(fewer.seconds, 0.010, 1e-12);
  EXPECT_EQ(fewer.source, PriceSource::Extrapolated);
}

/// 10 ms of 2 samples and 12 of 4: a call's cost counts, and none is less than half of 2 samples'.
TEST(MeasuredBodies, fewer_samples_than_measured_take_less_but_not_less_than_their_share) {
  MachineProfile profile = example();
  profile.bodies = {body("abc", tensor(1), 2, 100, 0.010), body("abc", tensor(1), 4, 100, 0.012)};
  EXPECT_NEAR(priced(profile).device.tables->bodies()->price(query(1, 100)).seconds, 0.009, 1e-12);
  profile.bodies[1].forwardSeconds = 0.040;
  EXPECT_NEAR(priced(profile).device.tables->bodies()->price(query(1, 100)).seconds, 0.005, 1e-12);
}

TEST(MeasuredBodies, lengths_go_by_what_the_kernels_grow_with) {
  Cluster cluster = priced(example());
  const MeasuredBodies &bodies = *cluster.device.tables->bodies();
  // By kernels: at 100 tokens 2 ms a sample, at 200 6 ms, at 400 20 ms; measured is 5 times that at both lengths.
  BodyPrice between = bodies.price(query(2, 150)), beyond = bodies.price(query(2, 400));
  EXPECT_NEAR(between.seconds, 5 * 2 * (1e-7 * 150 * 150 + 1e-5 * 150), 1e-12);
  EXPECT_EQ(between.source, PriceSource::Measured);
  EXPECT_NEAR(beyond.seconds, 5 * 2 * (1e-7 * 400 * 400 + 1e-5 * 400), 1e-12);
  EXPECT_EQ(beyond.source, PriceSource::Extrapolated);
}

TEST(MeasuredBodies, messages_are_taken_out_of_what_was_measured_with_them) {
  Cluster cluster = priced(example());
  BodyQuery sharded = query(3, 100);
  sharded.strategy = tensor(2);
  sharded.messages = {{CollectiveKind::AllReduce, 3 * 100 * 1000, 2}, {CollectiveKind::AllReduce, 3 * 100 * 1000, 2}};
  BodyPrice price = cluster.device.tables->bodies()->price(sharded);
  EXPECT_NEAR(price.seconds, 0.015, 1e-9);
  EXPECT_EQ(price.source, PriceSource::Measured);
}

TEST(MeasuredBodies, others_are_left_to_their_kernels) {
  Cluster cluster = priced(example());
  const MeasuredBodies &bodies = *cluster.device.tables->bodies();
  BodyQuery other = query(2, 100);
  other.hash = "changed";
  BodyPrice price = bodies.price(other);
  EXPECT_DOUBLE_EQ(price.seconds, other.attentionSeconds + other.otherSeconds);
  EXPECT_EQ(price.source, PriceSource::OtherCode);
  other.layerType = "unknown";
  EXPECT_EQ(bodies.price(other).source, PriceSource::Kernels);
  other = query(2, 100), other.strategy = tensor(4);
  EXPECT_EQ(bodies.price(other).source, PriceSource::Kernels);
  // What recomputes and how states are shared makes no other body.
  other = query(2, 100), other.strategy.zero = 3, other.strategy.recompute = true;
  EXPECT_EQ(bodies.price(other).source, PriceSource::Measured);
}

/// 1 M parameters in a millisecond: each is read and written 8 times in f32.
TEST(MeasuredBodies, updates_go_at_the_measured_rate) {
  Cluster cluster = priced(example());
  EXPECT_NEAR(updateSeconds(32e6, cluster.device), 1e-3, 1e-9);
  EXPECT_NEAR(updateSeconds(64e6, cluster.device), 2e-3, 1e-9);
}

/// Kernels are priced by the tables, and never fall as they grow.
TEST(MeasuredBodies, kernels_of_tables) {
  MachineProfile profile = example();
  profile.kernels = {{"gemm", "fp32", {.m = 100, .n = 100, .k = 100}, 1e-4, 0, 5},
                     {"gemm", "fp32", {.m = 1000, .n = 100, .k = 100}, 5e-4, 0, 5},
                     {"elementwise", "fp32", {.bytes = 1000}, 1e-6, 0, 5},
                     {"elementwise", "fp32", {.bytes = 1000000}, 1e-4, 0, 5}};
  Cluster cluster = priced(profile);
  EXPECT_DOUBLE_EQ(kernelSeconds({.flops = 2e6, .isProduct = true}, cluster.device), 1e-4);
  EXPECT_DOUBLE_EQ(kernelSeconds({.bytes = 1e6}, cluster.device), 1e-4);
  double before = 0;
  for (double flops = 1e3; flops < 1e12; flops *= 3) {
    double seconds = kernelSeconds({.flops = flops, .isProduct = true}, cluster.device);
    EXPECT_GE(seconds, before);
    before = seconds;
  }
}

} // namespace
