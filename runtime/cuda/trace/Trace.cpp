//===- Trace.cpp - what a GPU ran and when, of any program that uses CUDA -----------------------------===//
//
//   CUDA_INJECTION64_PATH=lib/libgalvatron_trace.so GALVATRON_TRACE_FILE=trace.%r program
//
// The driver loads this library when a process first uses CUDA. It has CUPTI record every kernel, copy and fill (those
// inside CUDA graphs too, one by one) and writes them when the process ends; bench/gpu/breakdown.py reads the file:
//
//   galvatron-trace 1
//   name<tab>number<tab>text
//   shared<tab>number of the name<tab>bytes of static shared memory, of kernels that have some
//   run<tab>number of the name<tab>stream<tab>start in ns<tab>end in ns<tab>bytes, 0 for kernels
//   dropped<tab>how many were not recorded
//
// In the file's name %r becomes the rank and %p the process. A process that used no GPU writes nothing. CUPTI is looked
// for when it is needed, because it is on few machines in one place: GALVATRON_CUPTI (file or folder), the loader's
// path, then the usual folders. Nothing here changes what a program computes; without CUPTI it runs untraced.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include <cupti.h>

#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <dlfcn.h>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace {

constexpr size_t kBufferBytes = 8 << 20, kAlignment = 8;

/// CUPTI's functions, by their own names.
struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) registerCallbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityFlushAll) flushAll = nullptr;
  decltype(&cuptiActivityGetNextRecord) nextRecord = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) numDropped = nullptr;

  bool find(void *library) {
    auto get = [&](auto &function, const char *name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    return get(registerCallbacks, "cuptiActivityRegisterCallbacks") && get(enable, "cuptiActivityEnable") &&
           get(flushAll, "cuptiActivityFlushAll") && get(nextRecord, "cuptiActivityGetNextRecord") &&
           get(numDropped, "cuptiActivityGetNumDroppedRecords");
  }
};

struct Run {
  uint32_t name, stream;
  uint64_t start, end, bytes; // ns
};

/// All that is known of the process. CUPTI's callbacks take no argument of ours, so there is one.
struct Trace {
  Cupti cupti;
  std::mutex mutex; // buffers come from CUPTI's threads
  std::unordered_map<std::string, uint32_t> numbers;
  std::unordered_map<uint32_t, int32_t> shared; // bytes, by number
  std::vector<Run> runs;
  size_t dropped = 0;
  pid_t process = 0; // a child that was forked has a copy of all this, but nothing to write

  uint32_t numberOf(const char *name) { return numbers.try_emplace(name ? name : "?", numbers.size()).first->second; }

  template <typename Record> void add(const char *name, const Record &record, uint64_t bytes) {
    runs.push_back({numberOf(name), record.streamId, record.start, record.end, bytes});
  }
  void add(const CUpti_Activity *record);
};

/// Outlives every destructor: records may come until the process is gone.
Trace &trace() {
  static Trace *instance = new Trace;
  return *instance;
}

const char *copyName(uint8_t kind) {
  switch (kind) {
  case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
    return "memcpy from the host";
  case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
    return "memcpy to the host";
  case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
    return "memcpy on the device";
  default:
    return "memcpy between devices";
  }
}

/// Later versions of CUPTI only add fields at the end of these.
void Trace::add(const CUpti_Activity *record) {
  switch (record->kind) {
  case CUPTI_ACTIVITY_KIND_KERNEL:
  case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
    auto *kernel = reinterpret_cast<const CUpti_ActivityKernel9 *>(record);
    if (kernel->staticSharedMemory > 0)
      shared.try_emplace(numberOf(kernel->name), kernel->staticSharedMemory);
    return add(kernel->name, *kernel, 0);
  }
  case CUPTI_ACTIVITY_KIND_MEMCPY: {
    auto *copy = reinterpret_cast<const CUpti_ActivityMemcpy5 *>(record);
    return add(copyName(copy->copyKind), *copy, copy->bytes);
  }
  case CUPTI_ACTIVITY_KIND_MEMCPY2: {
    auto *copy = reinterpret_cast<const CUpti_ActivityMemcpyPtoP4 *>(record);
    return add(copyName(CUPTI_ACTIVITY_MEMCPY_KIND_PTOP), *copy, copy->bytes);
  }
  case CUPTI_ACTIVITY_KIND_MEMSET: {
    auto *fill = reinterpret_cast<const CUpti_ActivityMemset4 *>(record);
    return add("memset", *fill, fill->bytes);
  }
  default:
    return;
  }
}

void CUPTIAPI giveBuffer(uint8_t **buffer, size_t *bytes, size_t *mostRecords) {
  *buffer = static_cast<uint8_t *>(std::aligned_alloc(kAlignment, kBufferBytes));
  *bytes = *buffer ? kBufferBytes : 0;
  *mostRecords = 0; // as many as fit
}

void CUPTIAPI takeBuffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t, size_t validBytes) {
  Trace &all = trace();
  {
    std::lock_guard lock(all.mutex);
    CUpti_Activity *record = nullptr;
    while (all.cupti.nextRecord(buffer, validBytes, &record) == CUPTI_SUCCESS)
      all.add(record);
    size_t dropped = 0;
    if (all.cupti.numDropped(context, stream, &dropped) == CUPTI_SUCCESS)
      all.dropped += dropped;
  }
  std::free(buffer);
}

std::string rank() {
  for (const char *name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "RANK"})
    if (const char *value = std::getenv(name))
      return value;
  return "0";
}

std::string fileName() {
  const char *given = std::getenv("GALVATRON_TRACE_FILE");
  std::string name = given ? given : "trace.%r";
  auto replace = [&](const char *mark, const std::string &value) {
    for (size_t at = name.find(mark); at != std::string::npos; at = name.find(mark, at + value.size()))
      name.replace(at, 2, value);
  };
  replace("%r", rank());
  replace("%p", std::to_string(getpid()));
  return name;
}

std::string demangled(const std::string &name) {
  int status = 0;
  char *text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 && text ? text : name;
  std::free(text);
  return result;
}

void write() {
  Trace &all = trace();
  if (getpid() != all.process)
    return;
  all.cupti.flushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  std::lock_guard lock(all.mutex);
  if (all.runs.empty())
    return;
  std::string path = fileName();
  std::FILE *file = std::fopen(path.c_str(), "w");
  if (!file) {
    std::fprintf(stderr, "galvatron-trace: cannot write %s\n", path.c_str());
    return;
  }
  std::fputs("galvatron-trace 1\n", file);
  for (const auto &[name, number] : all.numbers)
    std::fprintf(file, "name\t%u\t%s\n", number, demangled(name).c_str());
  for (const auto &[number, bytes] : all.shared)
    std::fprintf(file, "shared\t%u\t%d\n", number, bytes);
  for (const Run &run : all.runs)
    std::fprintf(file, "run\t%u\t%u\t%llu\t%llu\t%llu\n", run.name, run.stream, (unsigned long long)run.start,
                 (unsigned long long)run.end, (unsigned long long)run.bytes);
  std::fprintf(file, "dropped\t%zu\n", all.dropped);
  if (std::fclose(file) != 0)
    std::fprintf(stderr, "galvatron-trace: cannot write %s\n", path.c_str());
}

/// PyTorch's own copy, if it is in the process already, answers to its name.
void *openCupti() {
  constexpr const char *kName = "libcupti.so.13";
  std::vector<std::string> places;
  if (const char *given = std::getenv("GALVATRON_CUPTI")) {
    struct stat status;
    bool folder = stat(given, &status) == 0 && S_ISDIR(status.st_mode);
    places.push_back(folder ? std::string(given) + "/" + kName : given);
  }
  places.push_back(kName);
  for (const char *folder : {"/usr/local/cuda/lib64/", "/usr/local/cuda/extras/CUPTI/lib64/"})
    places.push_back(std::string(folder) + kName);
  for (const std::string &place : places)
    if (void *library = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL))
      return library;
  return nullptr;
}

bool start(Trace &all) {
  return all.cupti.registerCallbacks(giveBuffer, takeBuffer) == CUPTI_SUCCESS &&
         all.cupti.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) == CUPTI_SUCCESS &&
         all.cupti.enable(CUPTI_ACTIVITY_KIND_MEMCPY) == CUPTI_SUCCESS &&
         all.cupti.enable(CUPTI_ACTIVITY_KIND_MEMCPY2) == CUPTI_SUCCESS &&
         all.cupti.enable(CUPTI_ACTIVITY_KIND_MEMSET) == CUPTI_SUCCESS;
}

} // namespace

/// What the driver calls. Always 1: a program goes on without its trace.
extern "C" int InitializeInjection(void) {
  Trace &all = trace();
  if (all.process)
    return 1;
  all.process = getpid();
  void *library = openCupti();
  if (!library || !all.cupti.find(library))
    std::fputs("galvatron-trace: libcupti.so.13 was not found; name it with GALVATRON_CUPTI\n", stderr);
  else if (!start(all))
    std::fputs("galvatron-trace: CUPTI cannot record here\n", stderr);
  else
    std::atexit(write);
  return 1;
}
