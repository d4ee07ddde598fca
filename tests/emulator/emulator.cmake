# The emulator of CUDA: kernels and the runtime on a processor, for tests. See README.md.
#
# coppice_cuda_emulator    runtime, executor and the fake libraries
# coppice_kernels_emulated kernels/*.cu, compiled as C++
# coppice_kernels_checked  the same, and every access to memory is checked (slow)
#
# Defines nothing where the headers of the CUDA toolkit are missing.
include_guard(GLOBAL)
if(NOT COPPICE_EMULATOR)
    return()
endif()
include(CheckLanguage)

set(COPPICE_EMULATOR_DIR ${CMAKE_CURRENT_LIST_DIR})
find_package(CUDAToolkit QUIET)
find_path(COPPICE_CUDA_INCLUDE cuda_runtime_api.h
          HINTS ${CUDAToolkit_INCLUDE_DIRS} $ENV{CUDA_HOME}/include /usr/local/cuda/include)
check_language(CXX)
if(NOT COPPICE_CUDA_INCLUDE OR NOT CMAKE_CXX_COMPILER)
    message(STATUS "No CUDA emulator: it needs a C++ compiler and the CUDA toolkit's headers "
                   "(cuda_runtime_api.h)")
    return()
endif()
enable_language(CXX)

# Fibers switch stacks under a sanitizer's feet, so these are built without; and optimised, always.
# The directory's own options are replaced: most of its warnings are for C.
function(coppice_emulator_options target)
    target_include_directories(${target} BEFORE PUBLIC ${COPPICE_EMULATOR_DIR})
    target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/kernels)
    target_include_directories(${target} SYSTEM PUBLIC ${COPPICE_CUDA_INCLUDE})
    if(NCCL_INCLUDE_DIR)
        target_include_directories(${target} SYSTEM PUBLIC ${NCCL_INCLUDE_DIR})
    endif()
    target_compile_features(${target} PUBLIC cxx_std_17)
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON
        COMPILE_OPTIONS "-O2;-UNDEBUG;-Wall;-Wextra;-Wno-unused-parameter;$<$<BOOL:${COPPICE_WERROR}>:-Werror>")
endfunction()

file(GLOB emulator_sources CONFIGURE_DEPENDS ${COPPICE_EMULATOR_DIR}/*.cpp)
list(FILTER emulator_sources EXCLUDE REGEX "/test_[^/]*\\.cpp$")
if(NOT NCCL_INCLUDE_DIR) # src/cuda/plugin.cmake looks for it
    message(STATUS "The CUDA emulator goes without NCCL: nccl.h is missing (COPPICE_NCCL_ROOT)")
    list(FILTER emulator_sources EXCLUDE REGEX "/nccl[^/]*\\.cpp$")
endif()
add_library(coppice_cuda_emulator STATIC EXCLUDE_FROM_ALL ${emulator_sources})
coppice_emulator_options(coppice_cuda_emulator)
target_link_libraries(coppice_cuda_emulator PUBLIC Threads::Threads ${CMAKE_DL_LIBS})

# kernels/*.cu as a library. CHECKED: every access to memory is checked, see check.h.
function(coppice_emulated_kernels target)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
    if(NOT sources)
        return()
    endif()
    add_library(${target} STATIC EXCLUDE_FROM_ALL ${sources})
    set_source_files_properties(${sources} PROPERTIES LANGUAGE CXX)
    coppice_emulator_options(${target})
    target_compile_options(${target} PRIVATE -x c++ -Wno-unknown-pragmas -fno-strict-aliasing)
    if("CHECKED" IN_LIST ARGN)
        target_compile_options(${target} PRIVATE ${COPPICE_EMULATOR_CHECKS})
    endif()
    target_link_libraries(${target} PUBLIC coppice_cuda_emulator)
endfunction()

coppice_emulated_kernels(coppice_kernels_emulated)
# The instrumentation is that of the thread sanitizer, whose own library must not be there then.
if(NOT COPPICE_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    set(COPPICE_EMULATOR_CHECKS -g1 -fsanitize=thread --param=tsan-instrument-func-entry-exit=0)
    coppice_emulated_kernels(coppice_kernels_checked CHECKED)
endif()
