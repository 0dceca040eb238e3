# What the cuda device is built from: nvcc, cudart, cuBLASLt, cuDNN (with its frontend's headers) and NCCL, each from the
# toolkit or from the nvidia-* wheels of GALVATRON_PYTHON (scripts/setup.sh --cuda). Sets GALVATRON_HAS_CUDA.
set(GALVATRON_CUDA AUTO CACHE STRING "AUTO: build the cuda device where everything for it is found; ON: insist; OFF")
set(GALVATRON_CUDA_ARCHS 90a CACHE STRING "GPU architectures of the cuda device's own kernels, e.g. 90a;100a")
set(GALVATRON_CUDA_ROOT "" CACHE PATH "CUDA toolkit; default: where nvcc, /usr/local/cuda or the wheels are")

set(GALVATRON_HAS_CUDA OFF)
if(GALVATRON_CUDA STREQUAL OFF)
  return()
endif()

# `nvidia` is a namespace package without a file of its own.
execute_process(
  COMMAND ${GALVATRON_PYTHON} -c
          "import importlib.util as u; s = u.find_spec('nvidia'); print(list(s.submodule_search_locations)[0] if s else '', end='')"
  OUTPUT_VARIABLE wheels)
set(roots ${GALVATRON_CUDA_ROOT} ${wheels}/cu13 ${wheels}/cudnn ${wheels}/nccl ${wheels}/.. /usr/local/cuda)

# Found anew at each configuration, so that wheels that come or go are noticed.
set(missing)
function(galvatron_find_cuda kind variable name)
  cmake_parse_arguments(ARG "" "" "IN" ${ARGN})
  if(kind STREQUAL PATH)
    find_path(found ${name} HINTS ${roots} PATH_SUFFIXES include NO_CACHE)
  elseif(kind STREQUAL FILE)
    find_file(found ${name} HINTS ${roots} PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} PATH_SUFFIXES lib64 lib NO_CACHE)
  else()
    find_program(found ${name} HINTS ${roots} PATH_SUFFIXES bin NO_CACHE)
  endif()
  if(NOT found)
    set(missing ${missing} ${name} PARENT_SCOPE)
  endif()
  set(${variable} ${found} PARENT_SCOPE)
endfunction()
galvatron_find_cuda(PROGRAM GALVATRON_NVCC nvcc)
foreach(header crt/host_defines.h cuda_runtime_api.h cublasLt.h cudnn.h nccl.h cudnn_frontend.h)
  galvatron_find_cuda(PATH folder ${header})
  list(APPEND include_folders ${folder})
endforeach()
list(REMOVE_DUPLICATES include_folders)
# The wheels have only versioned names, which is what a program asks for at start anyway.
foreach(library libcudart_static.a libcublasLt.so.13 libcudnn.so.9 libnccl.so.2)
  galvatron_find_cuda(FILE file ${library})
  list(APPEND libraries ${file})
endforeach()

if(missing)
  list(JOIN missing ", " missing)
  if(GALVATRON_CUDA STREQUAL ON)
    message(FATAL_ERROR "CUDA: ${missing} not found; run scripts/setup.sh --cuda or set GALVATRON_CUDA_ROOT")
  endif()
  message(STATUS "CUDA: ${missing} not found; libgalvatron_cuda is skipped (scripts/setup.sh --cuda)")
  return()
endif()
set(GALVATRON_HAS_CUDA ON)
message(STATUS "CUDA: ${GALVATRON_NVCC}, kernels for ${GALVATRON_CUDA_ARCHS}")

# For tests that run in the build folder; a compiled model's `launch` finds the libraries by itself.
set(GALVATRON_CUDA_LIBRARY_PATH)
foreach(library ${libraries})
  get_filename_component(folder ${library} DIRECTORY)
  list(APPEND GALVATRON_CUDA_LIBRARY_PATH ${folder})
endforeach()
list(REMOVE_DUPLICATES GALVATRON_CUDA_LIBRARY_PATH)
list(JOIN GALVATRON_CUDA_LIBRARY_PATH ":" GALVATRON_CUDA_LIBRARY_PATH)

add_library(galvatron_cuda_libraries INTERFACE)
target_include_directories(galvatron_cuda_libraries SYSTEM INTERFACE ${include_folders})
target_link_libraries(galvatron_cuda_libraries INTERFACE ${libraries} Threads::Threads rt ${CMAKE_DL_LIBS})

# nvcc 13.0 takes g++, but not every clang.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  set(GALVATRON_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER} CACHE FILEPATH "host compiler of nvcc")
else()
  find_program(GALVATRON_CUDA_HOST_COMPILER NAMES g++ DOC "host compiler of nvcc")
endif()
set(nvcc_flags -O3 -std=c++20 -Xcompiler=-fPIC,-O3,-Wall -DOMPI_SKIP_MPICXX -I${CMAKE_SOURCE_DIR}
               -I${CMAKE_SOURCE_DIR}/include --expt-relaxed-constexpr --extended-lambda -lineinfo
               "-Xcompiler=-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=")
if(GALVATRON_CUDA_HOST_COMPILER)
  list(APPEND nvcc_flags -ccbin ${GALVATRON_CUDA_HOST_COMPILER})
else()
  list(APPEND nvcc_flags -allow-unsupported-compiler -ccbin ${CMAKE_CXX_COMPILER})
endif()
foreach(arch ${GALVATRON_CUDA_ARCHS})
  list(APPEND nvcc_flags -gencode=arch=compute_${arch},code=sm_${arch})
endforeach()
foreach(folder ${include_folders} ${MPI_C_INCLUDE_DIRS})
  list(APPEND nvcc_flags -isystem ${folder})
endforeach()

# galvatron_compile_cuda(<output variable> <file.cu>...): objects, by custom commands because CMake's own CUDA language
# wants a whole toolkit in one place.
function(galvatron_compile_cuda variable)
  set(objects)
  foreach(source ${ARGN})
    file(RELATIVE_PATH name ${CMAKE_CURRENT_SOURCE_DIR} ${source})
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${GALVATRON_NVCC} ${nvcc_flags} -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Compiling ${name} for the GPU" VERBATIM COMMAND_EXPAND_LISTS)
    list(APPEND objects ${object})
  endforeach()
  set(${variable} ${objects} PARENT_SCOPE)
endfunction()
