//===- Comparison.h - one function on both devices, on the same inputs ------------------------------===//
//
// Inputs are rounded to the element type first; the CPU then computes in f32. So what is compared is the GPU's
// arithmetic and one rounding of the result: in f32 1e-5 of the largest element leaves room for sums in another order,
// in 16 bits 1e-2 for bf16's rounding of 2^-9, of results and of what lies between (attention's probabilities).
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_TEST_RUNTIME_CUDA_COMPARISON_H
#define GALVATRON_TEST_RUNTIME_CUDA_COMPARISON_H

#include "test/Runtime/cuda/Harness.h"

namespace galvatron::test {

/// A call of a function. `words(t, b)`: its attributes, where t(type) is the code the device is told (the CPU's kernels
/// take f32 alone) and b(type) the bytes of an element there.
struct Call {
  using TypeOf = std::function<int64_t(int)>;
  std::string function, label;
  std::vector<Buffer> buffers;
  std::function<Words(const TypeOf &t, const TypeOf &b)> words;
  bool repeats = true;      // bitwise the same every time
  bool looseFloats = false; // f32 results come from arithmetic in 16 bits (cuDNN's lse)
};

class Comparison {
public:
  Comparison(DeviceLibrary &cpu, Gpu &gpu) : cpu(cpu), gpu(gpu) {}

  int failures = 0, calls = 0;

  Buffer in(std::vector<float> values, int type = GVRT_F32) {
    if (isHalf(type))
      for (float &v : values)
        v = fromHalf(type, toHalf(type, v));
    Buffer buffer;
    buffer.type = type;
    buffer.floats = std::move(values);
    return buffer;
  }
  Buffer in(std::vector<int64_t> values, int type = GVRT_I64) {
    Buffer buffer;
    buffer.type = type;
    buffer.integers = std::move(values);
    return buffer;
  }
  template <typename T> Buffer out(std::vector<T> values, int type) {
    Buffer buffer = in(std::move(values), type);
    buffer.output = true;
    return buffer;
  }
  Buffer out(int64_t count, int type = GVRT_F32) { return out(std::vector<float>(count, 0.25f), type); }
  Buffer none() { return {}; }
  Buffer scratch(int64_t bytes) {
    Buffer buffer;
    buffer.scratchBytes = bytes;
    return buffer;
  }

  void run(const Call &call) {
    ++calls;
    std::string verdict;
    try {
      std::vector<Buffer> expected = onCpu(call), first = onGpu(call), second = onGpu(call);
      double worst = 0;
      std::string where;
      bool good = true, same = true;
      for (size_t i = 0; i < expected.size(); ++i)
        if (expected[i].output) {
          good = compare(first[i], expected[i], call.looseFloats, worst, where) && good;
          same = same && first[i].pack() == second[i].pack();
        }
      char text[128];
      std::snprintf(text, sizeof text, "%-4s error %.1e%s", good && (same || !call.repeats) ? "ok" : "FAIL", worst,
                    same ? "" : ", differs when repeated");
      verdict = text + (good ? "" : where + "; step in its memory: " + std::to_string(gpu.step()));
    } catch (const std::exception &error) {
      verdict = std::string("FAIL ") + error.what();
    }
    if (verdict.starts_with("FAIL"))
      ++failures;
    std::printf("%-24s %-58s %s\n", call.function.c_str(), call.label.c_str(), verdict.c_str());
    std::fflush(stdout);
  }

  /// The buffers as they are after the call.
  std::vector<Buffer> onCpu(const Call &call) {
    std::vector<Buffer> buffers = call.buffers;
    std::vector<void *> addresses;
    std::vector<std::vector<char>> bytes(buffers.size());
    for (size_t i = 0; i < buffers.size(); ++i) {
      Buffer &b = buffers[i];
      if (b.type == kByte)
        bytes[i] = b.pack();
      addresses.push_back(b.isNull()         ? nullptr
                          : b.type == kByte  ? (void *)bytes[i].data()
                          : b.floats.empty() ? (void *)b.integers.data()
                                             : (void *)b.floats.data());
    }
    auto isFloat = [](int type) { return isHalf(type) ? int(GVRT_F32) : type; };
    Words words = call.words([&](int type) { return isFloat(type); }, [&](int type) { return bytesOf(isFloat(type)); });
    cpu.function(call.function)(&cpu.context, addresses.data(), words.data());
    for (size_t i = 0; i < buffers.size(); ++i)
      for (size_t e = 0; e < bytes[i].size(); ++e)
        buffers[i].integers[e] = bytes[i][e];
    return buffers;
  }

private:
  std::vector<Buffer> onGpu(const Call &call) {
    std::vector<Buffer> buffers = call.buffers;
    std::vector<void *> addresses;
    gpu.reset();
    for (const Buffer &b : buffers) {
      if (b.isNull()) {
        addresses.push_back(b.scratchBytes ? gpu.take(b.scratchBytes) : nullptr);
        continue;
      }
      std::vector<char> bytes = b.pack();
      addresses.push_back(gpu.take((int64_t)bytes.size()));
      gpu.hooks->copyToDevice(&gpu.context, addresses.back(), bytes.data(), (int64_t)bytes.size());
    }
    Words words = call.words([](int type) { return type; }, [](int type) { return bytesOf(type); });
    gpu.function(call.function)(&gpu.context, addresses.data(), words.data());
    gpu.synchronize();
    for (size_t i = 0; i < buffers.size(); ++i) {
      Buffer &b = buffers[i];
      if (b.isNull() || !b.output)
        continue;
      std::vector<char> bytes(b.count() * bytesOf(b.type));
      gpu.hooks->copyToHost(&gpu.context, bytes.data(), addresses[i], (int64_t)bytes.size());
      unpack(bytes, b);
    }
    return buffers;
  }

  static void unpack(const std::vector<char> &bytes, Buffer &b) {
    for (int64_t i = 0; i < b.count(); ++i) {
      const char *from = &bytes[i * bytesOf(b.type)];
      if (isHalf(b.type)) {
        uint16_t half;
        std::memcpy(&half, from, 2);
        b.floats[i] = fromHalf(b.type, half);
      } else if (b.type == GVRT_F32) {
        std::memcpy(&b.floats[i], from, 4);
      } else if (b.type == GVRT_I64) {
        std::memcpy(&b.integers[i], from, 8);
      } else {
        b.integers[i] = *from;
      }
    }
  }

  /// `worst`: the largest difference, as a share of the largest element. `where`: told of a buffer that is not good,
  /// with the zeros of both, which tell a mask that differs from arithmetic that does.
  static bool compare(const Buffer &got, const Buffer &expected, bool loose, double &worst, std::string &where) {
    double scale = 1e-30, most = loose || isHalf(got.type) ? 1e-2 : 2e-5, largest = 0;
    auto value = [](const Buffer &b, int64_t i) { return b.floats.empty() ? (double)b.integers[i] : b.floats[i]; };
    for (float v : expected.floats)
      if (std::isfinite(v))
        scale = std::max(scale, (double)std::fabs(v));
    int64_t wrong = 0, first = -1, zeros[2] = {};
    for (int64_t i = 0; i < got.count(); ++i) {
      double a = value(got, i), b = value(expected, i), difference = 0;
      zeros[0] += a == 0;
      zeros[1] += b == 0;
      if (a != b && !(std::isnan(a) && std::isnan(b)))
        difference = std::isfinite(a) && std::isfinite(b) ? std::fabs(a - b) : 1e30;
      largest = std::max(largest, difference);
      if (got.floats.empty() ? difference > 0 : difference / scale > most) {
        first = first < 0 ? i : first;
        ++wrong;
      }
    }
    worst = std::max(worst, got.floats.empty() ? 0 : largest / scale);
    if (wrong == 0)
      return true;
    char text[200];
    std::snprintf(text, sizeof text,
                  "; %lld of %lld elements, the first is %lld: %g, expected %g; zeros %lld, expected %lld",
                  (long long)wrong, (long long)got.count(), (long long)first, value(got, first), value(expected, first),
                  (long long)zeros[0], (long long)zeros[1]);
    where += text;
    return false;
  }

  DeviceLibrary &cpu;
  Gpu &gpu;
};

} // namespace galvatron::test

#endif
