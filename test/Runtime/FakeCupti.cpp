//===- FakeCupti.cpp - a CUPTI that has seen two steps of a program ---------------------------------------===//
//
// Stands for libcupti.so.13 where there is no GPU: hands the trace library, on a flush, the records of a small made-up
// run.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include <cupti.h>

#include <cstring>

namespace {

constexpr uint64_t kMicrosecond = 1000;

CUpti_BuffersCallbackRequestFunc request;
CUpti_BuffersCallbackCompleteFunc complete;
bool enabled[CUPTI_ACTIVITY_KIND_COUNT];

/// Appends a record as CUPTI would: one behind the other.
struct Buffer {
  uint8_t *bytes = nullptr;
  size_t size = 0, used = 0;

  template <typename Record> void add(Record record, uint64_t start, uint64_t microseconds, uint32_t stream) {
    if (!enabled[record.kind])
      return;
    record.start = start * kMicrosecond;
    record.end = (start + microseconds) * kMicrosecond;
    record.streamId = stream;
    std::memcpy(bytes + used, &record, sizeof record);
    used += sizeof record;
  }
  void kernel(const char *name, uint64_t start, uint64_t microseconds, uint32_t stream, int32_t shared = 0) {
    CUpti_ActivityKernel9 record{};
    record.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    record.name = name;
    record.staticSharedMemory = shared;
    add(record, start, microseconds, stream);
  }
};

void addStep(Buffer &buffer, uint64_t start) {
  CUpti_ActivityMemcpy5 copy{};
  copy.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
  copy.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD;
  copy.bytes = 64;
  CUpti_ActivityMemset4 fill{};
  fill.kind = CUPTI_ACTIVITY_KIND_MEMSET;
  fill.bytes = 4096;
  buffer.add(copy, start, 5, 7);
  buffer.add(fill, start + 5, 5, 7);
  buffer.kernel("nvjet_sm90_tst_128x256_64x4", start + 10, 100, 7);
  buffer.kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", start + 60, 70, 9);
  buffer.kernel("kernel_3", start + 130, 10, 7, /*shared=*/64);
  buffer.kernel("_ZN9galvatron4cuda9updateAllINS0_5AdamwEEEvv", start + 150, 40, 7);
}

size_t sizeOf(const CUpti_Activity *record) {
  switch (record->kind) {
  case CUPTI_ACTIVITY_KIND_MEMCPY:
    return sizeof(CUpti_ActivityMemcpy5);
  case CUPTI_ACTIVITY_KIND_MEMSET:
    return sizeof(CUpti_ActivityMemset4);
  default:
    return sizeof(CUpti_ActivityKernel9);
  }
}

} // namespace

extern "C" {

CUptiResult CUPTIAPI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc give,
                                                    CUpti_BuffersCallbackCompleteFunc take) {
  request = give;
  complete = take;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityEnable(CUpti_ActivityKind kind) {
  enabled[kind] = true;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityFlushAll(uint32_t) {
  Buffer buffer;
  size_t mostRecords = 0;
  request(&buffer.bytes, &buffer.size, &mostRecords);
  for (uint64_t step = 0; step < 2; ++step)
    addStep(buffer, 1000 + 200 * step);
  complete(nullptr, 0, buffer.bytes, buffer.size, buffer.used);
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityGetNextRecord(uint8_t *buffer, size_t validBytes, CUpti_Activity **record) {
  uint8_t *next = *record ? reinterpret_cast<uint8_t *>(*record) + sizeOf(*record) : buffer;
  if (next >= buffer + validBytes)
    return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity *>(next);
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t *dropped) {
  *dropped = 3;
  return CUPTI_SUCCESS;
}
}
