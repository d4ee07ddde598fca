# The plugin coppice-cuda.so: this folder, the kernels, base, model and what all devices check, in one
# module. NCCL is looked for beside the CUDA toolkit and where COPPICE_NCCL_ROOT, NCCL_INCLUDE_DIR and
# NCCL_LIBRARY say (a Python package has libnccl.so.2 alone); without it the plugin has no transport.
set(COPPICE_NCCL_ROOT "" CACHE PATH "Where NCCL is: include/nccl.h and lib/libnccl.so or .so.2")
find_package(CUDAToolkit QUIET)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${COPPICE_NCCL_ROOT} ${CUDAToolkit_INCLUDE_DIRS}
          PATH_SUFFIXES include)
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${COPPICE_NCCL_ROOT}
             ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)

# coppice_cuda_plugin(TARGET FOLDER NCCL LIBRARIES...): builds FOLDER/coppice-cuda.so. NCCL: with
# the transport. LIBRARIES: the kernels and the CUDA libraries, real or emulated. TARGET_parts has
# all of it for programs that look inside: tests.
function(coppice_cuda_plugin target folder nccl)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cuda/*.c)
    list(APPEND sources ${CMAKE_SOURCE_DIR}/src/device/batch_check.c)
    if(NOT nccl)
        list(FILTER sources EXCLUDE REGEX "/nccl[^/]*\\.c$")
    endif()
    add_library(${target}_parts OBJECT ${sources})
    set_target_properties(${target}_parts PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_include_directories(${target}_parts PUBLIC ${CMAKE_SOURCE_DIR}/src
                               ${CMAKE_SOURCE_DIR}/kernels)
    target_include_directories(${target}_parts SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS})
    if(nccl)
        target_include_directories(${target}_parts SYSTEM PUBLIC ${NCCL_INCLUDE_DIR})
    endif()
    target_link_libraries(${target}_parts PUBLIC ${ARGN} coppice_model coppice_base
                          Threads::Threads)

    add_library(${target} MODULE $<TARGET_OBJECTS:${target}_parts>)
    set_target_properties(${target} PROPERTIES PREFIX "" OUTPUT_NAME coppice-cuda
                          LIBRARY_OUTPUT_DIRECTORY ${folder})
    target_link_libraries(${target} PRIVATE ${ARGN} coppice_model coppice_base Threads::Threads)
    set(exports ${CMAKE_SOURCE_DIR}/src/cuda/exports.map)
    target_link_options(${target} PRIVATE -Wl,--version-script=${exports})
    set_target_properties(${target} PROPERTIES LINK_DEPENDS ${exports})
    if(NOT COPPICE_SANITIZE) # a sanitizer's own functions come with the program
        target_link_options(${target} PRIVATE -Wl,-z,defs)
    endif()
endfunction()

if(TARGET coppice_kernels)
    if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
        coppice_cuda_plugin(coppice_cuda ${CMAKE_BINARY_DIR} ON coppice_kernels CUDA::cudart_static
                            CUDA::cublasLt ${NCCL_LIBRARY})
    else()
        message(STATUS "NCCL is missing (COPPICE_NCCL_ROOT): coppice-cuda.so without its transport")
        coppice_cuda_plugin(coppice_cuda ${CMAKE_BINARY_DIR} OFF coppice_kernels
                            CUDA::cudart_static CUDA::cublasLt)
    endif()
    install(TARGETS coppice_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/coppice
            COMPONENT library)
endif()
