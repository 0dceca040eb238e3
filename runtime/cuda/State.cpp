//===- State.cpp - what a rank keeps of its GPU, and failures of its libraries ---===//
#include "runtime/cuda/State.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/HostCopies.h"
#include "runtime/cuda/StepGraph.h"
#include "runtime/cuda/StepTimes.h"
#include "runtime/cuda/Update.h"

namespace galvatron::cuda {

State::State() {
  static int64_t count = 0;
  number = ++count;
}
State::~State() = default;

void broadcastInStage(gvrt_context *context, void *data, int64_t bytes) {
  GVRT_MPI(context, MPI_Bcast(data, bytes, MPI_BYTE, 0, stateOf(context).stage));
}

void failCuda(gvrt_context *context, cudaError_t code, const char *call, const char *file, int line) {
  fail(context, std::string("CUDA: ") + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ") in " + call, file,
       line);
}

void failCublas(gvrt_context *context, cublasStatus_t code, const char *call, const char *file, int line) {
  fail(context, std::string("cuBLASLt: ") + cublasLtGetStatusString(code) + " in " + call, file, line);
}

void failCudnn(gvrt_context *context, cudnnStatus_t code, const char *call, const char *file, int line) {
  char detail[512] = "";
  cudnnGetLastErrorString(detail, sizeof detail);
  fail(context, std::string("cuDNN: ") + cudnnGetErrorString(code) + " in " + call + (*detail ? ": " : "") + detail,
       file, line);
}

void failNccl(gvrt_context *context, ncclResult_t code, const char *call, const char *file, int line) {
  const char *detail = ncclGetLastError(nullptr);
  bool told = detail && *detail;
  fail(context,
       std::string("NCCL: ") + ncclGetErrorString(code) + " in " + call + (told ? ": " : "") + (told ? detail : ""),
       file, line);
}

} // namespace galvatron::cuda
