//===- LeastSquaresTest.cpp - Fits as near to scipy's as those are exact --===//
//
// Expected numbers: scipy 1.12.0 `curve_fit` (MINPACK in Fortran) on points of the
// shipped and the mock profiles. Its iteration stops up to 1e-8 (relative) away
// from the solution.
//
//===----------------------------------------------------------------------===//

#include "lib/Search/Reference/LeastSquares.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace galvatron::search;

namespace {
void expectNear(const std::vector<double> &got, const std::vector<double> &wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], 1e-7 * std::abs(wanted[i])) << "coefficient " << i;
}

TEST(LeastSquares, points_on_a_parabola) {
  std::vector<std::pair<double, double>> points;
  for (double x : {-3, 1, 2, 7, 11})
    points.emplace_back(x, 3 * x * x - 5 * x + 2);
  expectNear(curveFit(points, 2), {3, -5, 2});
}

TEST(LeastSquares, line_of_the_ends) {
  std::vector<std::pair<double, double>> points = {{4096.0, 31.97360305786134},   {8192.0, 56.27244796752933},
                                                   {12288.0, 86.6235107421875},   {16384.0, 121.2523483276367},
                                                   {20480.0, 141.90354614257797}, {24576.0, 177.68662719726558},
                                                   {28672.0, 197.4156311035157},  {32768.0, 225.79444885253918}};
  expectNear(curveFit(points, 1), {0.0068484420999508355, 3.6347855976702621});
}

TEST(LeastSquares, parabola_of_a_layer) {
  std::vector<std::pair<double, double>> points = {{4096.0, 12.4057201385498},    {8192.0, 28.454231262207003},
                                                   {12288.0, 39.43479309082031},  {16384.0, 52.60663909912111},
                                                   {20480.0, 70.75289154052746},  {24576.0, 82.6971145629883},
                                                   {28672.0, 106.13850097656245}, {32768.0, 123.1998901367187}};
  expectNear(curveFit(points, 2), {3.5705532733383584e-08, 0.0024967446245733557, 3.1657200866931166});
}

TEST(LeastSquares, line_of_message_times) {
  std::vector<std::pair<double, double>> points = {{1.0, 0.05244},  {2.0, 0.07992},
                                                   {4.0, 0.1065},   {8.0, 0.1255},
                                                   {16.0, 0.1514},  {32.0, 0.22369999999999998},
                                                   {64.0, 0.3654},  {128.0, 0.6439},
                                                   {256.0, 1.1567}, {512.0, 2.1003000000000003},
                                                   {1024.0, 4.0389}};
  expectNear(curveFit(points, 1), {0.0038746620595091312, 0.10120243302363198});
}

TEST(LeastSquares, too_few_places_determine_nothing) {
  EXPECT_TRUE(curveFit({{1, 1}, {1, 2}}, 1).empty());
  EXPECT_TRUE(curveFit({{1, 1}, {2, 2}}, 2).empty());
}
} // namespace
