//===- LeastSquares.cpp - The reference's curve fits ----------------------===//
//
// By polynomials that are orthogonal over the points (Forsythe 1957): with t = x - mean x,
//
//   1,   t,   t² - a t - b     where a = Σ t³ / Σ t², b = Σ t² / n
//
// each has its coefficient for itself, Σ p y / Σ p², and nothing is solved.
//
//===----------------------------------------------------------------------===//

#include "LeastSquares.h"

#include <set>

namespace galvatron::search {

double evaluateCurve(const std::vector<double> &c, double x) {
  return c.size() == 2 ? c[0] * x + c[1] : c[0] * x * x + c[1] * x + c[2];
}

std::vector<double> curveFit(const std::vector<std::pair<double, double>> &points, int degree) {
  std::set<double> places;
  for (const auto &point : points)
    places.insert(point.first);
  if (int(places.size()) <= degree)
    return {};
  double n = double(points.size()), meanX = 0, meanY = 0, squares = 0, cubes = 0, slope = 0;
  for (auto [x, y] : points) {
    meanX += x / n;
    meanY += y / n;
  }
  for (auto [x, y] : points) {
    double t = x - meanX;
    squares += t * t;
    cubes += t * t * t;
    slope += t * (y - meanY);
  }
  slope /= squares;
  if (degree == 1)
    return {slope, meanY - slope * meanX};
  double a = cubes / squares, b = squares / n, bend = 0, norm = 0;
  for (auto [x, y] : points) {
    double t = x - meanX, p = t * t - a * t - b;
    bend += p * (y - meanY);
    norm += p * p;
  }
  bend /= norm;
  double linear = slope - bend * a; // of t
  return {bend, linear - 2 * bend * meanX, meanY - bend * b - (linear - bend * meanX) * meanX};
}

} // namespace galvatron::search
