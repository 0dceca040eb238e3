//===- LeastSquares.cpp - The reference's curve fits ----------------------===//
//
// Names follow MINPACK where an algorithm is easier to check against its source
// that way: r, qtf, diag, par, delta, fnorm.
//
//===----------------------------------------------------------------------===//

#include "LeastSquares.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace galvatron::search {

namespace {
using Vector = std::vector<double>;
/// dpmpar(1): the digits that MINPACK's Fortran gives, not 2^-52. Its square
/// root is no power of two, which is what moves the 10th digit of a fit.
constexpr double kEpsilon = 2.22044604926e-16;
constexpr double kTolerance = 1.49012e-8; // scipy's default ftol and xtol
constexpr double kStepFactor = 100;       // its default factor

double norm(const double *begin, const double *end) {
  double sum = 0;
  for (; begin != end; ++begin)
    sum += *begin * *begin;
  return std::sqrt(sum);
}
double norm(const Vector &v) { return norm(v.data(), v.data() + v.size()); }

/// Column-major m × n.
struct Matrix {
  int m = 0, n = 0;
  Vector data;
  Matrix(int m, int n) : m(m), n(n), data(std::size_t(m) * n) {}
  double &operator()(int i, int j) { return data[std::size_t(j) * m + i]; }
  double *column(int j) { return data.data() + std::size_t(j) * m; }
};

class Fit {
public:
  Fit(const std::vector<std::pair<double, double>> &points, int degree)
      : points(points), m(int(points.size())), n(degree + 1), jacobian(m, n), x(n, 1.0), pivot(n), diag(n), norms(n) {}

  Vector run();

private:
  Vector residuals(const Vector &at) const {
    Vector f;
    for (auto [px, py] : points)
      f.push_back(evaluateCurve(at, px) - py);
    return f;
  }
  void differences(const Vector &f);
  void factor(Vector &rdiag);
  Vector applyTransposed(Vector f);
  /// Solves (J, sqrt(par) D) step = (-f, 0); fills `sdiag`.
  Vector solve(double par, const Vector &qtf, Vector &sdiag);
  double damping(double delta, double par, const Vector &qtf, Vector &step);

  const std::vector<std::pair<double, double>> &points;
  int m, n;
  Matrix jacobian; ///< after `factor`: R above, Householder vectors below
  Vector x;
  std::vector<int> pivot;
  Vector diag, norms;
};

/// fdjac2: forward differences.
void Fit::differences(const Vector &f) {
  double eps = std::sqrt(kEpsilon);
  for (int j = 0; j < n; ++j) {
    double kept = x[j], h = eps * std::fabs(kept);
    if (h == 0)
      h = eps;
    x[j] = kept + h;
    Vector moved = residuals(x);
    x[j] = kept;
    for (int i = 0; i < m; ++i)
      jacobian(i, j) = (moved[i] - f[i]) / h;
  }
}

/// qrfac with column pivoting.
void Fit::factor(Vector &rdiag) {
  Vector work(n);
  rdiag.assign(n, 0);
  for (int j = 0; j < n; ++j) {
    norms[j] = rdiag[j] = work[j] = norm(jacobian.column(j), jacobian.column(j) + m);
    pivot[j] = j;
  }
  for (int j = 0; j < std::min(m, n); ++j) {
    int largest = int(std::max_element(rdiag.begin() + j, rdiag.end()) - rdiag.begin());
    if (largest != j) {
      std::swap_ranges(jacobian.column(j), jacobian.column(j) + m, jacobian.column(largest));
      rdiag[largest] = rdiag[j];
      work[largest] = work[j];
      std::swap(pivot[j], pivot[largest]);
    }
    double length = norm(jacobian.column(j) + j, jacobian.column(j) + m);
    if (length != 0) {
      if (jacobian(j, j) < 0)
        length = -length;
      for (int i = j; i < m; ++i)
        jacobian(i, j) /= length;
      jacobian(j, j) += 1;
      for (int k = j + 1; k < n; ++k) {
        double sum = 0;
        for (int i = j; i < m; ++i)
          sum += jacobian(i, j) * jacobian(i, k);
        double share = sum / jacobian(j, j);
        for (int i = j; i < m; ++i)
          jacobian(i, k) -= share * jacobian(i, j);
        if (rdiag[k] == 0)
          continue;
        double ratio = jacobian(j, k) / rdiag[k];
        rdiag[k] *= std::sqrt(std::max(0.0, 1 - ratio * ratio));
        double left = rdiag[k] / work[k];
        if (0.05 * left * left <= kEpsilon)
          rdiag[k] = work[k] = norm(jacobian.column(k) + j + 1, jacobian.column(k) + m);
      }
    }
    rdiag[j] = -length;
  }
}

Vector Fit::applyTransposed(Vector f) {
  for (int j = 0; j < n; ++j) {
    if (jacobian(j, j) == 0)
      continue;
    double sum = 0;
    for (int i = j; i < m; ++i)
      sum += jacobian(i, j) * f[i];
    double share = -sum / jacobian(j, j);
    for (int i = j; i < m; ++i)
      f[i] += jacobian(i, j) * share;
  }
  f.resize(n);
  return f;
}

/// qrsolv: eliminates sqrt(par) D with Givens rotations below R.
Vector Fit::solve(double par, const Vector &qtf, Vector &sdiag) {
  double root = std::sqrt(par);
  Vector step(n), work = qtf;
  for (int j = 0; j < n; ++j) {
    for (int i = j; i < n; ++i)
      jacobian(i, j) = jacobian(j, i);
    step[j] = jacobian(j, j);
  }
  sdiag.assign(n, 0);
  for (int j = 0; j < n; ++j) {
    double d = root * diag[pivot[j]];
    if (d != 0) {
      std::fill(sdiag.begin() + j, sdiag.end(), 0);
      sdiag[j] = d;
      double extra = 0;
      for (int k = j; k < n; ++k) {
        if (sdiag[k] == 0)
          continue;
        double sine, cosine;
        if (std::fabs(jacobian(k, k)) < std::fabs(sdiag[k])) {
          double cotangent = jacobian(k, k) / sdiag[k];
          sine = 0.5 / std::sqrt(0.25 + 0.25 * cotangent * cotangent);
          cosine = sine * cotangent;
        } else {
          double tangent = sdiag[k] / jacobian(k, k);
          cosine = 0.5 / std::sqrt(0.25 + 0.25 * tangent * tangent);
          sine = cosine * tangent;
        }
        jacobian(k, k) = cosine * jacobian(k, k) + sine * sdiag[k];
        double turned = cosine * work[k] + sine * extra;
        extra = -sine * work[k] + cosine * extra;
        work[k] = turned;
        for (int i = k + 1; i < n; ++i) {
          double below = cosine * jacobian(i, k) + sine * sdiag[i];
          sdiag[i] = -sine * jacobian(i, k) + cosine * sdiag[i];
          jacobian(i, k) = below;
        }
      }
    }
    sdiag[j] = jacobian(j, j);
    jacobian(j, j) = step[j];
  }
  int rank = n;
  for (int j = 0; j < n; ++j) {
    if (sdiag[j] == 0 && rank == n)
      rank = j;
    if (rank < n)
      work[j] = 0;
  }
  for (int j = rank - 1; j >= 0; --j) {
    double sum = 0;
    for (int i = j + 1; i < rank; ++i)
      sum += jacobian(i, j) * work[i];
    work[j] = (work[j] - sum) / sdiag[j];
  }
  for (int j = 0; j < n; ++j)
    step[pivot[j]] = work[j];
  return step;
}

/// lmpar: the Levenberg-Marquardt parameter for a step of length delta.
double Fit::damping(double delta, double par, const Vector &qtf, Vector &step) {
  const double tiny = std::numeric_limits<double>::min();
  int rank = n;
  Vector work = qtf, scaled(n), sdiag;
  for (int j = 0; j < n; ++j) {
    if (jacobian(j, j) == 0 && rank == n)
      rank = j;
    if (rank < n)
      work[j] = 0;
  }
  for (int j = rank - 1; j >= 0; --j) {
    work[j] /= jacobian(j, j);
    for (int i = 0; i < j; ++i)
      work[i] -= jacobian(i, j) * work[j];
  }
  for (int j = 0; j < n; ++j)
    step[pivot[j]] = work[j];
  auto measure = [&] {
    for (int j = 0; j < n; ++j)
      scaled[j] = diag[j] * step[j];
    return norm(scaled);
  };
  double length = measure(), excess = length - delta;
  if (excess <= 0.1 * delta)
    return 0;
  double low = 0;
  if (rank == n) {
    for (int j = 0; j < n; ++j)
      work[j] = diag[pivot[j]] * (scaled[pivot[j]] / length);
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int i = 0; i < j; ++i)
        sum += jacobian(i, j) * work[i];
      work[j] = (work[j] - sum) / jacobian(j, j);
    }
    double w = norm(work);
    low = excess / delta / w / w;
  }
  for (int j = 0; j < n; ++j) {
    double sum = 0;
    for (int i = 0; i <= j; ++i)
      sum += jacobian(i, j) * qtf[i];
    work[j] = sum / diag[pivot[j]];
  }
  double gradient = norm(work), high = gradient / delta;
  if (high == 0)
    high = tiny / std::min(delta, 0.1);
  par = std::min(std::max(par, low), high);
  if (par == 0)
    par = gradient / length;
  for (int iteration = 1;; ++iteration) {
    if (par == 0)
      par = std::max(tiny, 0.001 * high);
    step = solve(par, qtf, sdiag);
    length = measure();
    double before = excess;
    excess = length - delta;
    if (std::fabs(excess) <= 0.1 * delta || (low == 0 && excess <= before && before < 0) || iteration == 10)
      return par;
    for (int j = 0; j < n; ++j)
      work[j] = diag[pivot[j]] * (scaled[pivot[j]] / length);
    for (int j = 0; j < n; ++j) {
      work[j] /= sdiag[j];
      for (int i = j + 1; i < n; ++i)
        work[i] -= jacobian(i, j) * work[j];
    }
    double w = norm(work), correction = excess / delta / w / w;
    if (excess > 0)
      low = std::max(low, par);
    if (excess < 0)
      high = std::min(high, par);
    par = std::max(low, par + correction);
  }
}

/// lmdif.
Vector Fit::run() {
  Vector f = residuals(x);
  double fnorm = norm(f), par = 0, delta = 0, xnorm = 0;
  Vector rdiag, step(n);
  int calls = 1;
  for (bool first = true;; first = false) {
    differences(f);
    calls += n;
    factor(rdiag);
    if (first) {
      for (int j = 0; j < n; ++j)
        diag[j] = norms[j] == 0 ? 1 : norms[j];
      Vector scaled(n);
      for (int j = 0; j < n; ++j)
        scaled[j] = diag[j] * x[j];
      xnorm = norm(scaled);
      delta = xnorm == 0 ? kStepFactor : kStepFactor * xnorm;
    }
    Vector qtf = applyTransposed(f);
    for (int j = 0; j < n; ++j)
      jacobian(j, j) = rdiag[j];
    double slope = 0;
    for (int j = 0; j < n && fnorm != 0; ++j)
      if (norms[pivot[j]] != 0) {
        double sum = 0;
        for (int i = 0; i <= j; ++i)
          sum += jacobian(i, j) * (qtf[i] / fnorm);
        slope = std::max(slope, std::fabs(sum / norms[pivot[j]]));
      }
    if (slope == 0)
      return x;
    for (int j = 0; j < n; ++j)
      diag[j] = std::max(diag[j], norms[j]);
    for (double ratio = 0; ratio < 1e-4;) {
      par = damping(delta, par, qtf, step);
      Vector next(n), scaled(n), linear(n, 0);
      for (int j = 0; j < n; ++j) {
        step[j] = -step[j];
        next[j] = x[j] + step[j];
        scaled[j] = diag[j] * step[j];
      }
      double pnorm = norm(scaled);
      if (first)
        delta = std::min(delta, pnorm);
      Vector moved = residuals(next);
      ++calls;
      double nextNorm = norm(moved);
      double actual = 0.1 * nextNorm < fnorm ? 1 - nextNorm / fnorm * (nextNorm / fnorm) : -1;
      for (int j = 0; j < n; ++j)
        for (int i = 0; i <= j; ++i)
          linear[i] += jacobian(i, j) * step[pivot[j]];
      double a = norm(linear) / fnorm, b = std::sqrt(par) * pnorm / fnorm;
      double predicted = a * a + b * b / 0.5, direction = -(a * a + b * b);
      ratio = predicted != 0 ? actual / predicted : 0;
      if (ratio <= 0.25) {
        double shrink = actual >= 0 ? 0.5 : 0.5 * direction / (direction + 0.5 * actual);
        if (0.1 * nextNorm >= fnorm || shrink < 0.1)
          shrink = 0.1;
        delta = shrink * std::min(delta, pnorm / 0.1);
        par /= shrink;
      } else if (par == 0 || ratio >= 0.75) {
        delta = pnorm / 0.5;
        par *= 0.5;
      }
      if (ratio >= 1e-4) {
        x = next;
        f = moved;
        for (int j = 0; j < n; ++j)
          scaled[j] = diag[j] * x[j];
        xnorm = norm(scaled);
        fnorm = nextNorm;
        first = false;
      }
      bool still = std::fabs(actual) <= kTolerance && predicted <= kTolerance && 0.5 * ratio <= 1;
      bool flat = std::fabs(actual) <= kEpsilon && predicted <= kEpsilon && 0.5 * ratio <= 1;
      if (still || flat || delta <= kTolerance * xnorm || delta <= kEpsilon * xnorm || calls >= 200 * (n + 1))
        return x;
    }
  }
}
} // namespace

double evaluateCurve(const std::vector<double> &c, double x) {
  return c.size() == 2 ? c[0] * x + c[1] : c[0] * x * x + c[1] * x + c[2];
}

std::vector<double> curveFit(const std::vector<std::pair<double, double>> &points, int degree) {
  std::set<double> places;
  for (const auto &point : points)
    places.insert(point.first);
  if (int(places.size()) <= degree)
    return {};
  return Fit(points, degree).run();
}

} // namespace galvatron::search
