//===- AlgorithmCache.h - measured choices of cuBLASLt, kept on disk --------------------------===//
//
// A text file for each device model and library version, in $XDG_CACHE_HOME/galvatron or ~/.cache/galvatron:
//
//   cublaslt-NVIDIA_H200-130002.txt       <key of the product, words>: <the algorithm's eight words, hexadecimal>
//
// A file that cannot be read or written is as good as none: products are measured again.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_ALGORITHMCACHE_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_ALGORITHMCACHE_H

#include <cublasLt.h>
#include <map>
#include <string>

namespace galvatron::cuda {

class AlgorithmCache {
public:
  /// Reads the file of the current device.
  AlgorithmCache();

  /// Null where the key was never measured.
  const cublasLtMatmulAlgo_t *find(const std::string &key) const;
  /// Keeps the choice, and rewrites the file with it and with what other ranks have added meanwhile.
  void keep(const std::string &key, const cublasLtMatmulAlgo_t &algorithm);

private:
  void read();
  void write() const;

  std::string path; // empty: no folder for it
  std::map<std::string, cublasLtMatmulAlgo_t> algorithms;
};

} // namespace galvatron::cuda

#endif
