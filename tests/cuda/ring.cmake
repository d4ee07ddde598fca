# Tests of the CUDA side: tests/cuda/test_*.c, each built twice.
#     emulated.<name>   label emulated: the kernels run on the processor, everywhere
#     checked.<name>    the same, every access to memory checked: minutes, so only by `ninja checked`
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
        set_target_properties(${program} PROPERTIES EXCLUDE_FROM_ALL $<STREQUAL:${ring},checked>)
        # Those that look into the plugin have its parts, and so its libraries.
        file(STRINGS ${source} of_plugin REGEX "^#include \"cuda/")
        if(of_plugin)
            target_link_libraries(${program} PRIVATE ${plugin}_parts)
        endif()
        target_link_libraries(${program} PRIVATE ${ARGN} coppice_device coppice_base
                              PkgConfig::CMOCKA m)
        target_compile_definitions(${program} PRIVATE
                                   COP_EMULATED=$<NOT:$<STREQUAL:${ring},cuda>>)
        set_target_properties(${program} PROPERTIES
                              RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        if(ring STREQUAL checked)
            add_test(NAME ${ring}.${name} COMMAND ${program} CONFIGURATIONS Checked)
            add_dependencies(checked ${program})
            set_tests_properties(${ring}.${name} PROPERTIES LABELS ${ring} TIMEOUT 3600)
            continue()
        endif()
        add_test(NAME ${ring}.${name} COMMAND ${program})
        set_tests_properties(${ring}.${name} PROPERTIES LABELS ${ring} TIMEOUT 600)
        if(of_plugin) # a device loads its kernels when it opens
            set_tests_properties(${ring}.${name} PROPERTIES ENVIRONMENT COP_EMULATOR_STRICT_LOADING=1)
        endif()
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
if(TARGET coppice_kernels_checked)
    coppice_cuda_plugin(coppice_cuda_checked ${CMAKE_BINARY_DIR}/tests/checked ${with_nccl}
                        coppice_kernels_checked coppice_cuda_emulator)
    set_target_properties(coppice_cuda_checked PROPERTIES EXCLUDE_FROM_ALL ON)
    add_custom_target(checked COMMAND ${CMAKE_CTEST_COMMAND} -C Checked -L checked
                      --no-tests=error --output-on-failure WORKING_DIRECTORY ${CMAKE_BINARY_DIR}
                      USES_TERMINAL VERBATIM)
    coppice_cuda_tests(checked coppice_cuda_checked coppice_kernels_checked coppice_cuda_emulator)
endif()
if(TARGET coppice_kernels)
    coppice_cuda_tests(cuda coppice_cuda coppice_kernels)
endif()
