# Checks of the built objects.
if(CMAKE_BUILD_TYPE STREQUAL Release AND NOT COPPICE_SANITIZE)
    add_test(NAME checks.gemm_asm COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/gemm_asm.sh
                                          $<TARGET_FILE:coppice_device>)
else()
    add_test(NAME checks.gemm_asm COMMAND sh -c "echo 'skipped: not a Release build'; exit 77")
endif()
set_tests_properties(checks.gemm_asm PROPERTIES LABELS checks TIMEOUT 60 SKIP_RETURN_CODE 77)
