# Tests of the CUDA side: tests/cuda/test_*.c, each built twice.
#     emulated.<name>   label emulated: the kernels run on the processor, everywhere
#     cuda.<name>       label cuda: the real kernels, where nvcc was found; status 77 (skipped)
#                       where there is no device
# COP_EMULATED says which.
if(EXISTS ${CMAKE_SOURCE_DIR}/tests/emulator/emulator.cmake)
    include(${CMAKE_SOURCE_DIR}/tests/emulator/emulator.cmake)
endif()

function(coppice_cuda_tests ring plugin) # ring plugin LIBRARIES...
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/cuda/test_*.c)
    foreach(source ${sources})
        get_filename_component(name ${source} NAME_WE)
        set(program ${ring}_${name})
        add_executable(${program} ${source})
        # Those that look into the plugin have its parts, and so its libraries.
        file(STRINGS ${source} of_plugin REGEX "^#include \"cuda/")
        if(of_plugin)
            target_link_libraries(${program} PRIVATE ${plugin}_parts)
        endif()
        target_link_libraries(${program} PRIVATE ${ARGN} coppice_device coppice_base
                              PkgConfig::CMOCKA m)
        target_compile_definitions(${program} PRIVATE
                                   COP_EMULATED=$<STREQUAL:${ring},emulated>)
        set_target_properties(${program} PROPERTIES
                              RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        add_test(NAME ${ring}.${name} COMMAND ${program})
        set_tests_properties(${ring}.${name} PROPERTIES LABELS ${ring} TIMEOUT 600)
        if(ring STREQUAL cuda) # one at a time on a device
            set_tests_properties(${ring}.${name} PROPERTIES SKIP_RETURN_CODE 77 RESOURCE_LOCK gpu)
        endif()
    endforeach()
endfunction()

# The plugin over the emulator, for the program: COPPICE_CUDA_PLUGIN=tests/emulated/coppice-cuda.so
if(TARGET coppice_kernels_emulated)
    set(with_nccl OFF)
    if(NCCL_INCLUDE_DIR) # the emulator has the library
        set(with_nccl ON)
    endif()
    coppice_cuda_plugin(coppice_cuda_emulated ${CMAKE_BINARY_DIR}/tests/emulated ${with_nccl}
                        coppice_kernels_emulated coppice_cuda_emulator)
endif()

if(TARGET coppice_kernels_emulated)
    coppice_cuda_tests(emulated coppice_cuda_emulated coppice_kernels_emulated coppice_cuda_emulator)
endif()
if(TARGET coppice_kernels)
    coppice_cuda_tests(cuda coppice_cuda coppice_kernels)
endif()
