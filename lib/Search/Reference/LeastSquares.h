//===- LeastSquares.h - The reference's curve fits --------------*- C++ -*-===//
//
// Private to lib/Search. Hetu-Galvatron fits its lines and parabolas with
// scipy's `curve_fit`, which is MINPACK's `lmdif` from the start (1, …, 1), with
// numerical derivatives and a tolerance of 1.49e-8. Where that iteration stops
// is up to 1e-9 (relative) away from the least-squares solution, and the
// reference's scores inherit the difference. To compare scores digit for digit,
// this is the same iteration.
//
// Source: J. Moré, B. Garbow, K. Hillstrom, "User Guide for MINPACK-1", Argonne
// National Laboratory ANL-80-74 (1980): lmdif, fdjac2, qrfac, lmpar, qrsolv.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_LEASTSQUARES_H
#define GALVATRON_SEARCH_REFERENCE_LEASTSQUARES_H

#include <utility>
#include <vector>

namespace galvatron::search {

/// The polynomial of `degree` 1 or 2 through (x, y) as curve_fit returns it;
/// highest power first. Empty when the points do not determine it.
std::vector<double> curveFit(const std::vector<std::pair<double, double>> &points, int degree);

/// The same polynomial's value at x, evaluated in the reference's order.
double evaluateCurve(const std::vector<double> &coefficients, double x);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_LEASTSQUARES_H
