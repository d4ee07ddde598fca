# Properties of the source tree itself.
add_test(NAME checks.arrows COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/arrows.sh ${CMAKE_SOURCE_DIR})
add_test(NAME checks.purity COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/purity.sh
         $<TARGET_FILE:coppice_core> ${CMAKE_SOURCE_DIR}/tests/checks/purity_allowed.txt)
set_tests_properties(checks.arrows checks.purity PROPERTIES LABELS checks TIMEOUT 60)

# And of the built objects.
if(CMAKE_BUILD_TYPE STREQUAL Release AND NOT COPPICE_SANITIZE)
    add_test(NAME checks.gemm_asm COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/gemm_asm.sh
                                          $<TARGET_FILE:coppice_device>)
else()
    add_test(NAME checks.gemm_asm COMMAND sh -c "echo 'skipped: not a Release build'; exit 77")
endif()
set_tests_properties(checks.gemm_asm PROPERTIES LABELS checks TIMEOUT 60 SKIP_RETURN_CODE 77)

add_test(NAME checks.exports COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/exports.sh
         $<TARGET_FILE:coppice_shared> ${CMAKE_SOURCE_DIR}/src/coppice.h)
set_tests_properties(checks.exports PROPERTIES LABELS checks TIMEOUT 60)
