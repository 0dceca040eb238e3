//===- LeastSquares.h - The reference's curve fits --------------*- C++ -*-===//
//
// Private to lib/Search. Hetu-Galvatron fits its lines and parabolas with scipy's
// iteration (`curve_fit`), which stops within about 1e-8 (relative) of the
// least-squares solution; this is the solution, in closed form.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_LEASTSQUARES_H
#define GALVATRON_SEARCH_REFERENCE_LEASTSQUARES_H

#include <utility>
#include <vector>

namespace galvatron::search {

/// The polynomial of `degree` 1 or 2 with the least squared distance from the points (x, y); highest power first. Empty
/// when the points do not determine it.
std::vector<double> curveFit(const std::vector<std::pair<double, double>> &points, int degree);

/// Its value at x.
double evaluateCurve(const std::vector<double> &coefficients, double x);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_LEASTSQUARES_H
