//===- AlgorithmCache.cpp - measured choices of cuBLASLt, kept on disk -----------------------===//
#include "runtime/cuda/kernels/AlgorithmCache.h"

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace galvatron::cuda {

constexpr int kWords = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t);

static std::string cacheFolder() {
  if (const char *folder = std::getenv("XDG_CACHE_HOME"); folder && *folder)
    return std::string(folder) + "/galvatron";
  if (const char *home = std::getenv("HOME"); home && *home)
    return std::string(home) + "/.cache/galvatron";
  return {};
}

AlgorithmCache::AlgorithmCache() {
  int device = 0;
  cudaDeviceProp properties;
  std::string folder = cacheFolder();
  if (folder.empty() || cudaGetDevice(&device) != cudaSuccess ||
      cudaGetDeviceProperties(&properties, device) != cudaSuccess)
    return;
  std::string name = properties.name;
  for (char &c : name)
    c = std::isalnum((unsigned char)c) ? c : '_';
  path = folder + "/cublaslt-" + name + "-" + std::to_string(cublasLtGetVersion()) + ".txt";
  read();
}

const cublasLtMatmulAlgo_t *AlgorithmCache::find(const std::string &key) const {
  auto found = algorithms.find(key);
  return found == algorithms.end() ? nullptr : &found->second;
}

void AlgorithmCache::keep(const std::string &key, const cublasLtMatmulAlgo_t &algorithm) {
  if (!path.empty())
    read();
  algorithms[key] = algorithm;
  if (!path.empty())
    write();
}

void AlgorithmCache::read() {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    size_t colon = line.find(':');
    if (colon == std::string::npos)
      continue;
    std::istringstream words(line.substr(colon + 1));
    uint64_t word[kWords];
    int count = 0;
    while (count < kWords && words >> std::hex >> word[count])
      ++count;
    if (count < kWords)
      continue;
    std::memcpy(&algorithms[line.substr(0, colon)], word, sizeof word);
  }
}

void AlgorithmCache::write() const {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  std::string temporary = path + "." + std::to_string(getpid());
  {
    std::ofstream file(temporary, std::ios::trunc);
    for (const auto &[key, algorithm] : algorithms) {
      uint64_t word[kWords];
      std::memcpy(word, &algorithm, sizeof word);
      file << key << ":" << std::hex;
      for (uint64_t w : word)
        file << ' ' << w;
      file << std::dec << '\n';
    }
    if (!file.flush())
      error = std::make_error_code(std::errc::io_error);
  }
  if (!error)
    std::filesystem::rename(temporary, path, error);
  if (error)
    std::filesystem::remove(temporary, error);
}

} // namespace galvatron::cuda
