# Everything that comes from outside: MLIR/LLVM, LibTorch (importer only), MPI, oneDNN, JSON, YAML,
# xxHash, GoogleTest.

# `lit` must be known before LLVM's configuration looks for `llvm-lit`.
set(LLVM_EXTERNAL_LIT lit CACHE STRING "unused here, but LLVM asks")
# "MLIR 22" is refused by MLIR's version file, so ask for none and check by hand.
find_package(MLIR REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/mlir)
if(NOT LLVM_VERSION_MAJOR EQUAL 22)
  message(FATAL_ERROR "MLIR/LLVM 22 is needed, but ${MLIR_DIR} is version ${LLVM_VERSION_MAJOR}; "
                      "run scripts/setup.sh or pass -DMLIR_DIR=")
endif()
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)

find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
# Into the tools where there is an archive: galvatron-search and galvatron-profile also run where nothing was installed.
find_library(GALVATRON_YAML NAMES libyaml-cpp.a yaml-cpp REQUIRED)
find_package(Threads REQUIRED)
# A header alone: the runtime compiles it in. Where it is missing, scripts/setup.sh brings it.
find_path(GALVATRON_XXHASH_INCLUDE xxhash.h REQUIRED)
# oneDNN by hand: the package's CMake configuration wants OpenCL's headers, which it does not depend on.
find_path(GALVATRON_DNNL_INCLUDE dnnl.hpp REQUIRED)
find_library(GALVATRON_DNNL_LIBRARY dnnl REQUIRED)
add_library(DNNL::dnnl INTERFACE IMPORTED)
target_include_directories(DNNL::dnnl INTERFACE ${GALVATRON_DNNL_INCLUDE})
target_link_libraries(DNNL::dnnl INTERFACE ${GALVATRON_DNNL_LIBRARY})
find_package(MPI REQUIRED COMPONENTS C)
find_package(GTest REQUIRED)

# The Python that has torch also runs lit's and the conventions' scripts.
if(NOT GALVATRON_PYTHON)
  if(EXISTS ${CMAKE_SOURCE_DIR}/.venv/bin/python)
    set(GALVATRON_PYTHON ${CMAKE_SOURCE_DIR}/.venv/bin/python)
  else()
    find_program(GALVATRON_PYTHON3 python3 REQUIRED)
    set(GALVATRON_PYTHON ${GALVATRON_PYTHON3})
  endif()
endif()
message(STATUS "Python: ${GALVATRON_PYTHON}")

# LibTorch is the torch wheel. Its CMake configuration insists on CUDA where the wheel has it, although
# the importer uses the CPU part only; three lines by hand do.
# Asked for at each configuration (find_spec takes 10 ms, `import torch` 2 s), so that a virtual environment that was made
# anew is followed; -DGALVATRON_TORCH_ROOT= overrides.
if(NOT GALVATRON_TORCH_ROOT)
  execute_process(
    COMMAND ${GALVATRON_PYTHON} -c
            "import importlib.util as u; s = u.find_spec('torch'); print(list(s.submodule_search_locations)[0] if s else '', end='')"
    OUTPUT_VARIABLE torch_root)
  if(torch_root AND EXISTS ${torch_root}/include/torch/script.h)
    set(GALVATRON_TORCH_ROOT ${torch_root})
  endif()
endif()
if(GALVATRON_TORCH_ROOT)
  file(STRINGS ${GALVATRON_TORCH_ROOT}/version.py GALVATRON_TORCH_VERSION REGEX "^__version__")
  message(STATUS "LibTorch: ${GALVATRON_TORCH_ROOT} ${GALVATRON_TORCH_VERSION}")
  add_library(galvatron_torch INTERFACE)
  target_include_directories(galvatron_torch SYSTEM INTERFACE
    ${GALVATRON_TORCH_ROOT}/include ${GALVATRON_TORCH_ROOT}/include/torch/csrc/api/include)
  target_link_directories(galvatron_torch INTERFACE ${GALVATRON_TORCH_ROOT}/lib)
  target_link_libraries(galvatron_torch INTERFACE torch torch_cpu c10)
  target_link_options(galvatron_torch INTERFACE -Wl,-rpath,${GALVATRON_TORCH_ROOT}/lib)
else()
  message(STATUS "LibTorch: not found by ${GALVATRON_PYTHON}; lib/Import and galvatron-import are "
                 "skipped (pip install torch, or pass -DGALVATRON_PYTHON=)")
endif()
