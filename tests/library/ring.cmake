# libcoppice as its users meet it: installed, found, linked, run.
add_test(NAME library.install
         COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_install.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
set_tests_properties(library.install PROPERTIES LABELS e2e TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "CC=${CMAKE_C_COMPILER};CMAKE=${CMAKE_COMMAND};PYTHON=${COPPICE_PYTHON};SANITIZE=${COPPICE_SANITIZE}")
