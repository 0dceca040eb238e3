// Bodies of a profile as prices: what was measured counts, messages apart; what was not is scaled or left to its
// kernels.
#include "galvatron/Search/Model/MeasuredBodies.h"

#include "galvatron/Search/Model/KernelPrice.h"
#include "galvatron/Search/Model/LengthFit.h"
#include "galvatron/Search/Model/MachineTables.h"

#include <algorithm>
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

/// Two products forward, four backward; of several ranks an all-reduce beside them.
BodyWork workOf(std::int64_t products, std::int64_t ranks) {
  BodyWork work;
  work.kernels = {{products, {.flops = 1e9 / double(ranks), .isProduct = true}}};
  if (ranks > 1)
    work.messages = {{CollectiveKind::AllReduce, 1, 100000, ranks}};
  return work;
}

/// A strategy that no body was measured of, with the kernels of `shared` ranks.
BodyQuery unmeasured(const Strategy &strategy, std::int64_t shared, const Cluster &cluster) {
  BodyQuery query{"layer", "abc", strategy};
  query.samples = 2, query.seq = 100;
  query.otherSeconds = priceKernels(workOf(2, shared), cluster.device).total();
  return query;
}

/// Bodies with calls: 1 rank takes `paces[0]` times what its kernels say, tp 2 `paces[1]`, cp 2 `paces[2]`.
MachineProfile withWork(const std::vector<double> &paces) {
  MachineProfile profile = example();
  profile.bodies.clear();
  Strategy context;
  context.cp = 2, context.cpKind = 2;
  std::vector<Strategy> strategies = {tensor(1), tensor(2), context};
  Cluster cluster = priced(profile);
  for (std::size_t index = 0; index < paces.size(); ++index) {
    std::int64_t ranks = strategies[index].modelRanks();
    MeasuredBody of = body("abc", strategies[index], 2, 100, 0);
    of.forwardWork = workOf(2, ranks), of.backwardWork = workOf(4, ranks);
    double messages = ranks > 1 ? 1e-3 + 100000e-9 : 0;
    of.forwardSeconds = paces[index] * priceKernels(of.forwardWork, cluster.device).total() + messages;
    of.backwardSeconds = paces[index] * priceKernels(of.backwardWork, cluster.device).total() + messages;
    profile.bodies.push_back(of);
  }
  return profile;
}

TEST(MeasuredBodies, what_was_not_measured_goes_at_the_slowest_pace_of_what_it_refines) {
  Cluster cluster = priced(withWork({1.5, 2, 3}));
  const MeasuredBodies &bodies = *cluster.device.tables->bodies();
  Strategy both = tensor(2);
  both.cp = 2, both.cpKind = 2;
  BodyQuery query = unmeasured(both, 4, cluster);
  BodyPrice price = bodies.price(query);
  EXPECT_EQ(price.source, PriceSource::Neighbours);
  EXPECT_FALSE(price.isMeasured());
  EXPECT_NEAR(price.seconds, 3 * query.otherSeconds, 1e-9);
  query.part = BodyPart::Backward;
  EXPECT_NEAR(bodies.price(query).seconds, 3 * query.otherSeconds, 1e-9);
  both.cpKind = 1; // gathered, where only a ring was measured
  EXPECT_NEAR(bodies.price(unmeasured(both, 4, cluster)).seconds, 2 * query.otherSeconds, 1e-9);
  query.hash = "changed";
  EXPECT_EQ(bodies.price(query).source, PriceSource::OtherCode);
  // What a profile without calls says of no pace.
  Cluster old = priced(example());
  EXPECT_EQ(old.device.tables->bodies()->price(unmeasured(tensor(4), 4, old)).source, PriceSource::Kernels);
}

/// Taking a strategy's figures out of a profile never makes it cheaper than strategies that it refines make it.
TEST(MeasuredBodies, nothing_gains_by_not_being_measured) {
  for (const std::vector<double> &paces : std::vector<std::vector<double>>{{1, 1}, {2, 1.2}, {1.1, 4}, {0.5, 0.9}}) {
    Cluster cluster = priced(withWork(paces));
    for (const Strategy &strategy : {tensor(4), tensor(8)}) {
      BodyQuery query = unmeasured(strategy, strategy.tp, cluster);
      double pace = cluster.device.tables->bodies()->price(query).seconds / query.otherSeconds;
      EXPECT_GE(pace, *std::max_element(paces.begin(), paces.end()) - 1e-9);
    }
  }
}

TEST(MeasuredBodies, a_strategy_refines_what_cuts_less_the_same_way) {
  Strategy sharded = tensor(4), sequence = tensor(2);
  sequence.sequenceParallel = true;
  EXPECT_TRUE(refines(sharded, tensor(2)));
  EXPECT_TRUE(refines(sharded, Strategy()));
  EXPECT_FALSE(refines(tensor(2), sharded));
  EXPECT_FALSE(refines(sharded, sequence));
  sharded.sequenceParallel = true;
  EXPECT_TRUE(refines(sharded, sequence));
}

TEST(LengthFit, attention_goes_by_pairs_and_the_rest_by_tokens) {
  std::vector<LengthPoint> points;
  for (double seq : {4096, 8192, 16384})
    points.push_back({2, seq, 2 * seq * (3e-6 + seq * 5e-10)});
  std::optional<LengthFit> fit = fitLengths(points);
  ASSERT_TRUE(fit);
  EXPECT_NEAR(fit->residual, 0, 1e-9);
  EXPECT_NEAR(fit->seconds(1, 131072), 131072 * (3e-6 + 131072 * 5e-10), 1e-6);
  // 10 % too long at one of them: said.
  points[1].seconds *= 1.1;
  EXPECT_GT(fitLengths(points)->residual, 0.03);
  EXPECT_LT(fitLengths(points)->residual, 0.1);
  // Faster than in proportion: no negative work.
  fit = fitLengths({{1, 100, 1}, {1, 200, 1.5}});
  EXPECT_EQ(fit->secondsPerPair, 0);
  EXPECT_GT(fit->secondsPerToken, 0);
  fit = fitLengths({{1, 100, 1}, {1, 200, 8}});
  EXPECT_EQ(fit->secondsPerToken, 0);
  EXPECT_FALSE(fitLengths({{1, 100, 1}, {2, 100, 2}})) << "one length";
  EXPECT_FALSE(fitLengths({{1, 100, 1}, {1, 200, 0}}));
}

/// 100 and 200 tokens are measured, 150 and 400 planned: the longest is extrapolated, and prices what is there.
TEST(LengthFit, planned_bodies_beyond_the_longest_are_extrapolated) {
  MachineProfile profile = example();
  for (std::int64_t seq : {150, 200, 400})
    profile.planned.push_back({"layer", "abc", "fp32", R"({"tp":1,"recompute":false})", 2, seq, 1, 0, 11, 12, 13});
  profile.planned.push_back({"layer", "abc", "fp32", R"({"tp":2})", 2, 400, 1, 0, 1, 1, 1, tensor(2)}); // of one length
  std::size_t before = profile.bodies.size();
  extrapolateLengths(profile);
  ASSERT_EQ(profile.bodies.size(), before + 1);
  const MeasuredBody &longest = profile.bodies.back();
  EXPECT_FALSE(longest.isMeasured);
  EXPECT_EQ(longest.seq, 400);
  EXPECT_EQ(longest.savedBytes, 12);
  EXPECT_EQ(longest.updateSeconds, 1e-3);
  // 10 ms a sample at 100, 30 at 200: 5e-5 a token and 5e-7 a pair.
  EXPECT_NEAR(longest.forwardSeconds, 2 * (400 * 5e-5 + 400 * 400 * 5e-7), 1e-9);
  EXPECT_NEAR(longest.residual, 0, 1e-9);
  BodyPrice price = priced(profile).device.tables->bodies()->price(query(2, 400));
  EXPECT_DOUBLE_EQ(price.seconds, longest.forwardSeconds);
  EXPECT_EQ(price.source, PriceSource::Extrapolated);
  EXPECT_EQ(priced(profile).device.tables->bodies()->price(query(2, 150)).source, PriceSource::Measured);
  EXPECT_EQ(priced(profile).device.tables->bodies()->price(query(2, 300)).source, PriceSource::Extrapolated);
  extrapolateLengths(profile); // takes the place of what was there
  EXPECT_EQ(profile.bodies.size(), before + 1);
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
