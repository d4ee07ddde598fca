# Programs that speak MPI: tests/mpi/test_*.c, each run by mpirun with 2 and 4 ranks, whatever the
# number of cores. Idle ranks yield, none is bound to a core, and root may run them (containers).
set(mpi_flags --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
execute_process(COMMAND id -u OUTPUT_VARIABLE user_id OUTPUT_STRIP_TRAILING_WHITESPACE)
if(user_id STREQUAL "0")
    list(APPEND mpi_flags --allow-run-as-root)
endif()

# Open MPI keeps memory until the process ends; lsan.supp names what is its own.
set(mpi_environment
    OMPI_MCA_rmaps_base_oversubscribe=1
    LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_LIST_DIR}/lsan.supp:print_suppressions=0)

function(coppice_mpi_test name ranks)
    add_test(NAME mpi.${name}_${ranks}
             COMMAND ${MPIEXEC_EXECUTABLE} ${mpi_flags} -n ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(mpi.${name}_${ranks} PROPERTIES LABELS mpi TIMEOUT 120 PROCESSORS 2
                         ENVIRONMENT "${mpi_environment}")
endfunction()

file(GLOB mpi_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/test_*.c)
foreach(source ${mpi_sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE coppice_drive)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    coppice_mpi_test(${name} 2)
    coppice_mpi_test(${name} 4)
endforeach()

# Without mpirun there is one rank.
add_test(NAME mpi.test_mpi_bus_alone COMMAND test_mpi_bus)
set_tests_properties(mpi.test_mpi_bus_alone PROPERTIES LABELS mpi TIMEOUT 120
                     ENVIRONMENT "${mpi_environment}")

# Jobs in which a rank goes wrong.
add_executable(broken_job ${CMAKE_CURRENT_LIST_DIR}/broken_job.c)
target_link_libraries(broken_job PRIVATE coppice_transport)
set_target_properties(broken_job PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
foreach(how kill leave abort self)
    add_test(NAME mpi.broken_job_${how}
             COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/broken_job.sh ${how}
                     ${MPIEXEC_EXECUTABLE} ${mpi_flags} -n 3 $<TARGET_FILE:broken_job>)
    set_tests_properties(mpi.broken_job_${how} PROPERTIES LABELS mpi TIMEOUT 120 PROCESSORS 2
                         ENVIRONMENT "${mpi_environment}")
endforeach()
