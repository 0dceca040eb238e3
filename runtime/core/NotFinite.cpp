//===- NotFinite.cpp - where a loss or a gradient that is not finite comes from -----------------===//
#include "runtime/core/NotFinite.h"
#include "galvatron/Support/Json.h"
#include "runtime/checkpoint/Slices.h"
#include "runtime/kernels/HalfTypes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

using nlohmann::json;

namespace galvatron {
namespace {

/// What a tensor on the device holds.
struct Scan {
  int64_t firstBad = -1;           // element; of NaN and +inf, else of -inf
  float bad = 0, largest = 0;      // the first bad value; largest finite magnitude
  bool isOnlyMinusInfinity = true; // of what is bad
};

/// -inf may be meant: a mask that one layer hands to others holds it, which NaN and +inf never do.
void look(Scan &scan, int64_t element, float value) {
  if (std::isfinite(value)) {
    scan.largest = std::max(scan.largest, std::fabs(value));
    return;
  }
  bool isMinusInfinity = value == -std::numeric_limits<float>::infinity();
  if (scan.firstBad >= 0 && (isMinusInfinity || !scan.isOnlyMinusInfinity))
    return;
  scan.firstBad = element;
  scan.bad = value;
  scan.isOnlyMinusInfinity = isMinusInfinity;
}

float floatOf(int64_t type, const char *bytes) {
  float value = 0;
  auto read = [&]<typename T>(T element) {
    std::memcpy(&element, bytes, sizeof element);
    value = (float)element;
  };
  type == GVRT_F32 ? read(value) : withHalf(type, read);
  return value;
}

/// Whether all are; then `largest` is that of them, too. Without branches, as whole models are looked at: bits of
/// magnitudes are in the order of these.
bool isFiniteThroughout(const float *values, int64_t count, float &largest) {
  uint32_t bits = std::bit_cast<uint32_t>(largest);
  for (int64_t i = 0; i < count; ++i)
    bits = std::max(bits, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  float magnitude = std::bit_cast<float>(bits);
  if (!std::isfinite(magnitude))
    return false;
  largest = magnitude;
  return true;
}

Scan scanTensor(const ModelState &state, const char *tensor, int64_t type, int64_t count) {
  constexpr int64_t kChunk = 1 << 18; // elements: 1 MiB of f32
  Scan scan;
  int64_t width = bytesOfElement(type);
  std::vector<char> host(std::min(count, kChunk) * width);
  for (int64_t done = 0; done < count; done += kChunk) {
    int64_t now = std::min(kChunk, count - done);
    state.device.hooks->copyToHost(&state.context, host.data(), tensor + done * width, now * width);
    if (width == 4 && isFiniteThroughout(reinterpret_cast<const float *>(host.data()), now, scan.largest))
      continue;
    for (int64_t i = 0; i < now; ++i) {
      look(scan, done + i, floatOf(type, host.data() + i * width));
    }
  }
  return scan;
}

Scan scanParameter(const ModelState &state, const ParameterInfo &parameter, const TensorKind &kind) {
  TensorPlace place = placeOf(state.manifest, parameter, kind);
  return place.offset < 0 ? Scan() : scanTensor(state, state.arena + place.offset, place.type, parameter.count);
}

/// The element's number in the whole tensor, -1 in padding.
int64_t globalElement(const ModelState &state, const ParameterInfo &parameter, int64_t local) {
  int64_t global = -1;
  (void)forSlices(state.context, parameter, [&](const Slice &slice) {
    if (local >= slice.local && local < slice.local + slice.count)
      global = slice.global + local - slice.local;
    return Status::success();
  });
  return global;
}

/// [3, 5]
std::string indexText(const std::vector<int64_t> &shape, int64_t element) {
  std::string text = "]";
  for (size_t d = shape.size(); d-- > 0; element /= shape[d])
    text = (d ? ", " : "") + std::to_string(element % shape[d]) + text;
  return "[" + text;
}

/// What one rank found, and what decides which of all findings is told: the least order.
struct Finding {
  std::vector<int64_t> order;
  NotFiniteOrigin origin;
};

/// Collective.
NotFiniteOrigin leastOf(const World &world, const std::vector<Finding> &own) {
  json list = json::array();
  for (const Finding &finding : own)
    list.push_back({finding.order, (int)finding.origin.kind, finding.origin.text, finding.origin.areMoments});
  std::vector<int64_t> least;
  NotFiniteOrigin origin;
  for (const std::string &text : world.gatherText(list.dump()))
    for (const json &entry : parseOwnJson(text))
      if (auto order = entry[0].get<std::vector<int64_t>>(); least.empty() || order < least) {
        least = order;
        origin = {entry[1].get<NotFiniteOrigin::Kind>(), entry[2], entry[3]};
      }
  return origin;
}

std::string stageText(const ModelState &state) { return " (stage " + std::to_string(state.context.stage) + ")"; }

/// The first parameter, or gradient of one, that is not finite; gradients from the model's end on, as they are
/// computed.
std::vector<Finding> scanParameters(const ModelState &state, NotFiniteOrigin::Kind kind) {
  bool isGradient = kind == NotFiniteOrigin::Gradient;
  int64_t direction = isGradient ? -1 : 1;
  std::vector<Finding> found;
  for (size_t i = 0; i < state.manifest.parameters.size(); ++i) {
    const ParameterInfo &parameter = state.manifest.parameters[i];
    Scan scan = scanParameter(state, parameter, isGradient ? kGradient : kWeight);
    if (scan.firstBad < 0)
      continue;
    int64_t element = globalElement(state, parameter, scan.firstBad);
    std::ostringstream text;
    text << (isGradient ? "the gradient of " : "parameter ") << parameter.name() << stageText(state) << " is "
         << numberText(scan.bad) << (element < 0 ? " in its padding" : " at " + indexText(parameter.shape, element));
    bool areMoments = !isGradient && (scanParameter(state, parameter, kFirstMoment).firstBad >= 0 ||
                                      scanParameter(state, parameter, kSecondMoment).firstBad >= 0);
    found.push_back(
        {{direction * state.context.stage, direction * (int64_t)i, element}, {kind, text.str(), areMoments}});
    if (!isGradient)
      break;
  }
  return found;
}

/// Looks at what entries compute, and keeps the first of forward and backward that is not finite; a tensor of -inf only
/// where there is nothing else.
class EntryScan {
public:
  explicit EntryScan(const ModelState &state) : state(state) {}

  void visit(const EntryCall &entry) {
    if (entry.layer >= 0)
      layer = entry.layer; // what changes hands between layers has none of its own
    ++number;
    if (!entry.results)
      return;
    for (const ResultInfo &result : *entry.results) {
      auto *tensor = static_cast<const char *>(entry.buffers[result.buffer]);
      Scan scan = tensor ? scanTensor(state, tensor, result.type, result.count) : Scan();
      if (scan.firstBad >= 0)
        add(entry, scan);
    }
  }

  std::vector<Finding> findings;

private:
  void add(const EntryCall &entry, const Scan &scan) {
    bool isBackward = entry.name->starts_with("backward");
    int64_t direction = isBackward ? -1 : 1;
    std::ostringstream text;
    text << *entry.name << stageText(state) << " gives " << numberText(scan.bad);
    Finding finding{{scan.isOnlyMinusInfinity, isBackward, entry.microBatch, direction * layer, number},
                    {isBackward ? NotFiniteOrigin::Backward : NotFiniteOrigin::Forward, text.str(), false}};
    // At most one of each sort: a step has many entries, and most are not finite after the first.
    for (Finding &known : findings)
      if (known.order[0] == finding.order[0] && known.order[1] == finding.order[1]) {
        if (finding.order < known.order)
          known = finding;
        return;
      }
    findings.push_back(finding);
  }

  const ModelState &state;
  int64_t layer = 0, number = 0;
};

} // namespace

std::string numberText(double value) {
  std::ostringstream text;
  text << (std::isnan(value) ? std::fabs(value) : value); // a NaN's sign says nothing
  return text.str();
}

NotFiniteOrigin findNotFinite(const World &world, const ModelState &state,
                              const std::function<void(const EntryVisitor &)> &repeat) {
  NotFiniteOrigin origin = leastOf(world, scanParameters(state, NotFiniteOrigin::Parameter));
  if (origin.kind != NotFiniteOrigin::Nowhere)
    return origin;
  EntryScan scan(state);
  repeat([&](const EntryCall &entry) { scan.visit(entry); });
  origin = leastOf(world, scan.findings);
  return origin.kind != NotFiniteOrigin::Nowhere ? origin
                                                 : leastOf(world, scanParameters(state, NotFiniteOrigin::Gradient));
}

std::string describeNotFiniteParameters(const World &world, const ModelState &state) {
  std::string own;
  for (const ParameterInfo &parameter : state.manifest.parameters)
    if (scanParameter(state, parameter, kWeight).firstBad >= 0)
      own += parameter.name() + "\n";
  constexpr size_t kNamed = 8;
  std::vector<std::string> names; // ranks may have parts of one
  for (const std::string &rank : world.gatherText(own)) {
    std::istringstream lines(rank);
    for (std::string name; std::getline(lines, name);)
      if (std::find(names.begin(), names.end(), name) == names.end())
        names.push_back(name);
  }
  if (names.empty())
    return "";
  std::string text = names.size() == 1 ? "the parameter " : "the parameters ";
  for (size_t i = 0; i < std::min(kNamed, names.size()); ++i)
    text += (i ? ", " : "") + names[i];
  if (names.size() > kNamed)
    text += " and " + std::to_string(names.size() - kNamed) + " more";
  return text + (names.size() == 1 ? " is" : " are") + " not finite";
}

std::string describeLargestParameter(const World &world, const ModelState &state) {
  float largest = -1;
  std::string name;
  for (const ParameterInfo &parameter : state.manifest.parameters)
    if (Scan scan = scanParameter(state, parameter, kWeight); scan.largest > largest) {
      largest = scan.largest;
      name = parameter.name();
    }
  std::vector<float> all = world.gather(largest);
  std::vector<std::string> names = world.gatherText(name);
  size_t rank = std::max_element(all.begin(), all.end()) - all.begin();
  std::ostringstream text;
  text << "the largest, " << all[rank] << ", is in " << names[rank];
  return text.str();
}

} // namespace galvatron
