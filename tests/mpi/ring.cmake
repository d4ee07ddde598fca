# Programs that speak MPI: tests/mpi/test_*.c, each run by mpirun with 2 and 4 ranks, whatever the
# number of cores. Idle ranks yield, none is bound to a core, and root may run them (containers).
set(mpi_flags --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
execute_process(COMMAND id -u OUTPUT_VARIABLE user_id OUTPUT_STRIP_TRAILING_WHITESPACE)
if(user_id STREQUAL "0")
    list(APPEND mpi_flags --allow-run-as-root)
endif()

set(mpi_environment
    OMPI_MCA_rmaps_base_oversubscribe=1
    LSAN_OPTIONS=${COPPICE_LSAN_OPTIONS})

function(coppice_mpi_program name)
    add_executable(${name} ${CMAKE_CURRENT_SOURCE_DIR}/mpi/${name}.c)
    target_link_libraries(${name} PRIVATE coppice_drive)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endfunction()

function(coppice_mpi_test name) # name COMMAND...
    add_test(NAME mpi.${name} COMMAND ${ARGN})
    set_tests_properties(mpi.${name} PROPERTIES LABELS mpi TIMEOUT 120 PROCESSORS 2
                         ENVIRONMENT "${mpi_environment}")
endfunction()

file(GLOB mpi_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/test_*.c)
foreach(source ${mpi_sources})
    get_filename_component(name ${source} NAME_WE)
    coppice_mpi_program(${name})
    foreach(ranks 2 4)
        coppice_mpi_test(${name}_${ranks} ${MPIEXEC_EXECUTABLE} ${mpi_flags} -n ${ranks}
                         $<TARGET_FILE:${name}>)
    endforeach()
endforeach()

# Without mpirun there is one rank. Over TCP, as between hosts, a large message needs both ends to
# make progress, where shared memory lets the receiver copy it alone.
coppice_mpi_test(test_mpi_bus_alone test_mpi_bus)
foreach(name test_mpi_bus test_mpi_kv)
    coppice_mpi_test(${name}_tcp ${MPIEXEC_EXECUTABLE} ${mpi_flags} --mca btl tcp,self
                     --mca btl_tcp_if_include lo -n 2 $<TARGET_FILE:${name}>)
endforeach()

# Jobs in which a rank goes wrong.
coppice_mpi_program(broken_job)
foreach(how kill leave abort self)
    coppice_mpi_test(broken_job_${how} sh ${CMAKE_CURRENT_LIST_DIR}/broken_job.sh ${how}
                     ${MPIEXEC_EXECUTABLE} ${mpi_flags} -n 3 $<TARGET_FILE:broken_job>)
endforeach()
