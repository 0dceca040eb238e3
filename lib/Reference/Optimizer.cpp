#include "galvatron/Reference/Optimizer.h"

#include <algorithm>
#include <cmath>

using namespace galvatron::reference;

double Optimizer::scaleFor(double norm) const { return clipGrad > 0 ? std::min(1.0, clipGrad / (norm + 1e-6)) : 1; }

void Optimizer::update(double &parameter, double &firstMoment, double &secondMoment, double gradient,
                       bool isMatrix) const {
  auto round = [&](double value) { return exact ? value : double(float(value)); };
  double decay = isMatrix ? weightDecay : 0;
  if (sgd) {
    parameter = round(parameter - lr * (gradient + decay * parameter));
    return;
  }
  firstMoment = round(beta1 * firstMoment + (1 - beta1) * gradient);
  secondMoment = round(beta2 * secondMoment + (1 - beta2) * gradient * gradient);
  double first = firstMoment / (1 - std::pow(beta1, numUpdates));
  double second = secondMoment / (1 - std::pow(beta2, numUpdates));
  parameter = round(parameter * (1 - lr * decay) - lr * first / (std::sqrt(second) + eps));
}
