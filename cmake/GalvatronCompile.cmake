# Flags, the precompiled header and ccache.

set(GALVATRON_LINKER "" CACHE STRING "linker for -fuse-ld=, e.g. lld-22")
if(GALVATRON_LINKER)
  find_program(GALVATRON_LINKER_PATH NAMES ld.${GALVATRON_LINKER} ${GALVATRON_LINKER}
               HINTS ${LLVM_TOOLS_BINARY_DIR})
  if(GALVATRON_LINKER_PATH)
    add_link_options(-fuse-ld=lld)
  endif()
endif()

if(GALVATRON_CCACHE)
  find_program(GALVATRON_CCACHE_PROGRAM ccache)
  if(GALVATRON_CCACHE_PROGRAM)
    # Paths below the source tree reach the compiler relative to the build folder, so that another
    # worktree's or clone's first build is served from the cache. Measured on the skeleton (21 files,
    # 2 cores): 35 s cold, 16 s in a second clone, all of it the two precompiled headers, which are
    # the only misses. So no compile option may hold an absolute path of this tree other than -I.
    set(launcher env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
                 CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_PCH_EXTSUM=1
                 ${GALVATRON_CCACHE_PROGRAM})
    set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  endif()
endif()
if(GALVATRON_PCH AND CMAKE_CXX_COMPILER_ID STREQUAL Clang)
  add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
  # CMake's own spelling (-Xclang -include -Xclang <absolute path>) hides a path from ccache.
  set(CMAKE_CXX_COMPILE_OPTIONS_USE_PCH -include-pch <PCH_FILE>)
endif()

# -fPIC by hand: CMake would give executables -fPIE, and a precompiled header fits only one of them.
add_compile_options(-fPIC -Wall -Wextra -Wno-unused-parameter -fvisibility-inlines-hidden)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # False alarms of g++ 12 inside LLVM's headers.
  add_compile_options(-Wno-maybe-uninitialized -Wno-dangling-pointer -Wno-array-bounds
                      -Wno-stringop-overflow -Wno-restrict -Wno-comment)
endif()

# Everything that compiles against MLIR links this.
add_library(galvatron_mlir INTERFACE)
target_include_directories(galvatron_mlir SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
separate_arguments(llvm_definitions NATIVE_COMMAND ${LLVM_DEFINITIONS})
target_compile_options(galvatron_mlir INTERFACE ${llvm_definitions})
target_link_libraries(galvatron_mlir INTERFACE MLIR LLVM)

# `#include "dialects/Graph/Graph.h"`, `"runtime/api/Functions.def"`: from the root;
# `#include "galvatron/Transforms/Passes.h"`: from include/. Generated headers mirror both.
add_library(galvatron_includes INTERFACE)
target_include_directories(galvatron_includes INTERFACE
  ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include ${CMAKE_BINARY_DIR} ${CMAKE_BINARY_DIR}/include)

# galvatron_precompile(<target> <header>...): precompiles foreign headers for a target. clang writes
# absolute paths into the result, so ccache is told to tell precompiled headers apart by the file
# <result>.sum instead of by content; it changes with the compiler and the packages.
function(galvatron_precompile target)
  target_precompile_headers(${target} PRIVATE ${ARGN})
  get_target_property(dir ${target} BINARY_DIR)
  file(TIMESTAMP ${MLIR_CONFIG} mlir_time)
  string(SHA256 sum "${CMAKE_CXX_COMPILER_VERSION};${LLVM_PACKAGE_VERSION};${mlir_time};${GALVATRON_TORCH_VERSION};${ARGN}")
  file(CONFIGURE OUTPUT ${dir}/CMakeFiles/${target}.dir/cmake_pch.hxx.pch.sum CONTENT "${sum}\n")
endfunction()

# One precompiled header for all MLIR code. It lists only foreign headers: a header of this tree
# would put an absolute path into it and rebuild everything at each edit.
if(GALVATRON_PCH)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/cmake/Precompiled.cpp CONTENT "// Carrier of the precompiled header.\n")
  add_library(galvatron_pch STATIC ${CMAKE_BINARY_DIR}/cmake/Precompiled.cpp)
  target_link_libraries(galvatron_pch PUBLIC galvatron_mlir galvatron_includes)
  galvatron_precompile(galvatron_pch
    <mlir/Dialect/Arith/IR/Arith.h>
    <mlir/Dialect/Func/IR/FuncOps.h>
    <mlir/Dialect/Tensor/IR/Tensor.h>
    <mlir/IR/Builders.h>
    <mlir/IR/BuiltinOps.h>
    <mlir/IR/DialectImplementation.h>
    <mlir/IR/IRMapping.h>
    <mlir/IR/Matchers.h>
    <mlir/IR/OpImplementation.h>
    <mlir/IR/PatternMatch.h>
    <mlir/IR/SymbolTable.h>
    <mlir/Pass/Pass.h>
    <mlir/Pass/PassManager.h>
    <mlir/Transforms/GreedyPatternRewriteDriver.h>
    <llvm/ADT/TypeSwitch.h>
    <llvm/ADT/MapVector.h>
    <llvm/Support/Debug.h>
    <algorithm> <functional> <map> <optional> <string> <vector>)
endif()
