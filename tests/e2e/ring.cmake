# Whole runs of the program under mpirun, their records read back with h5py.
set(e2e_tests exact cluster faults text)
if(COPPICE_SANITIZE)
    set(e2e_tests sanitized) # one run with everything on; the others would take too long
endif()
foreach(name ${e2e_tests})
    add_test(NAME e2e.${name}
             COMMAND ${COPPICE_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/test_${name}.py)
    set_tests_properties(e2e.${name} PROPERTIES LABELS mpi TIMEOUT 600 SKIP_RETURN_CODE 77
        RUN_SERIAL ON
        ENVIRONMENT "COPPICE=$<TARGET_FILE:coppice>;COPPICE_SOURCE=${CMAKE_SOURCE_DIR};MPIRUN=${MPIEXEC_EXECUTABLE};LSAN_OPTIONS=${COPPICE_LSAN_OPTIONS}")
endforeach()
