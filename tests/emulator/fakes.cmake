# Tests of the fake cublasLt and the fake NCCL. To be included after emulator.cmake.
add_executable(test_fakes ${CMAKE_CURRENT_LIST_DIR}/test_fakes.cpp
               ${CMAKE_CURRENT_LIST_DIR}/test_fakes_nccl.cpp)
coppice_emulator_options(test_fakes)
target_link_libraries(test_fakes PRIVATE coppice_cuda_emulator PkgConfig::CMOCKA)
set_target_properties(test_fakes PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME emulator.test_fakes COMMAND test_fakes)
set_tests_properties(emulator.test_fakes PROPERTIES LABELS emulator TIMEOUT 300)
