# The program as people start it: commands of one process, then whole runs under mpirun, their
# records read back with h5py.
set(e2e_tests generate prompt_cache exact cluster faults text)
if(COPPICE_SANITIZE)
    # of the runs one with everything on; the others would take too long
    set(e2e_tests generate prompt_cache sanitized)
endif()
foreach(name ${e2e_tests})
    add_test(NAME e2e.${name}
             COMMAND ${COPPICE_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/test_${name}.py)
    set_tests_properties(e2e.${name} PROPERTIES LABELS mpi TIMEOUT 600 SKIP_RETURN_CODE 77
        RUN_SERIAL ON
        ENVIRONMENT "COPPICE=$<TARGET_FILE:coppice>;COPPICE_SOURCE=${CMAKE_SOURCE_DIR};MPIRUN=${MPIEXEC_EXECUTABLE};LSAN_OPTIONS=${COPPICE_LSAN_OPTIONS}")
endforeach()

# Workers on emulated GPUs.
if(TARGET coppice_cuda_emulated AND with_nccl AND NOT COPPICE_SANITIZE)
    add_test(NAME e2e.gpus COMMAND ${COPPICE_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/test_gpus.py)
    set_tests_properties(e2e.gpus PROPERTIES LABELS emulated TIMEOUT 900 SKIP_RETURN_CODE 77
        RUN_SERIAL ON
        ENVIRONMENT "COPPICE=$<TARGET_FILE:coppice>;COPPICE_SOURCE=${CMAKE_SOURCE_DIR};MPIRUN=${MPIEXEC_EXECUTABLE};COPPICE_EMULATED_PLUGIN=$<TARGET_FILE:coppice_cuda_emulated>")
endif()
