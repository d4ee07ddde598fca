# The emulator's own tests.
include(${CMAKE_CURRENT_LIST_DIR}/emulator.cmake)
if(NOT TARGET coppice_cuda_emulator)
    return()
endif()

function(coppice_emulator_test name)
    add_executable(${name} ${COPPICE_EMULATOR_DIR}/${name}.cpp ${ARGN})
    coppice_emulator_options(${name})
    target_link_libraries(${name} PRIVATE coppice_cuda_emulator PkgConfig::CMOCKA)
    set_target_properties(${name} PROPERTIES
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME emulator.${name} COMMAND ${name})
    set_tests_properties(emulator.${name} PROPERTIES LABELS emulator TIMEOUT 300)
endfunction()

coppice_emulator_test(test_emulator)
if(DEFINED COPPICE_EMULATOR_CHECKS)
    set(kernels ${COPPICE_EMULATOR_DIR}/test_check_kernels.cpp)
    set_source_files_properties(${kernels} PROPERTIES COMPILE_OPTIONS "${COPPICE_EMULATOR_CHECKS}")
    coppice_emulator_test(test_check ${kernels})
endif()
