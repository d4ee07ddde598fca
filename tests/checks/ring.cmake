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

if(TARGET coppice_kernels)
    # Not every toolkit has cuobjdump; the check says so then.
    get_filename_component(toolkit ${CMAKE_CUDA_COMPILER} DIRECTORY)
    find_program(COPPICE_CUOBJDUMP cuobjdump HINTS ${toolkit})
    add_test(NAME checks.kernel_sass COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/kernel_sass.sh
             $<TARGET_FILE:coppice_kernels> ${CMAKE_SOURCE_DIR}/kernels ${COPPICE_CUOBJDUMP})
else()
    add_test(NAME checks.kernel_sass COMMAND sh -c "echo 'skipped: built without nvcc'; exit 77")
endif()
set_tests_properties(checks.kernel_sass PROPERTIES LABELS checks TIMEOUT 300 SKIP_RETURN_CODE 77)

if(COPPICE_MPI)
    add_test(NAME checks.launch COMMAND ${CMAKE_SOURCE_DIR}/tests/checks/launch.sh
             ${CMAKE_SOURCE_DIR} $<TARGET_FILE:coppice>)
    set_tests_properties(checks.launch PROPERTIES LABELS checks TIMEOUT 60)
endif()
