# Properties of the source tree itself.
add_test(NAME checks.arrows COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/arrows.sh ${CMAKE_SOURCE_DIR})
add_test(NAME checks.purity COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/purity.sh
         $<TARGET_FILE:coppice_core> ${CMAKE_SOURCE_DIR}/tests/checks/purity_allowed.txt)
set_tests_properties(checks.arrows checks.purity PROPERTIES LABELS checks TIMEOUT 60)
