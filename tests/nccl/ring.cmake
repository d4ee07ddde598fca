# The NCCL transport between ranks under mpirun: tests/nccl/test_*.c, each built twice.
#     emulated.<name>   label emulated: over the fake NCCL, everywhere
#     nccl.<name>       label nccl: over NCCL, where it and nvcc were found; status 77 (skipped)
#                       where there is no device. Ranks share GPUs where there are fewer.
include(${CMAKE_SOURCE_DIR}/tests/emulator/emulator.cmake)

function(coppice_nccl_program program source) # program source LIBRARIES...
    add_executable(${program} ${CMAKE_SOURCE_DIR}/tests/nccl/${source}.c
                   ${CMAKE_SOURCE_DIR}/tests/nccl/gpu.c ${CMAKE_SOURCE_DIR}/src/cuda/nccl.c
                   ${CMAKE_SOURCE_DIR}/src/cuda/nccl_open.c ${CMAKE_SOURCE_DIR}/src/cuda/check.c
                   ${CMAKE_SOURCE_DIR}/src/cuda/nccl_check.c)
    target_include_directories(${program} PRIVATE ${CMAKE_SOURCE_DIR}/tests/mpi)
    target_include_directories(${program} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS}
                               ${NCCL_INCLUDE_DIR})
    target_link_libraries(${program} PRIVATE ${ARGN} coppice_transport coppice_base)
    set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endfunction()

function(coppice_nccl_test name label ranks environment) # ... COMMAND...
    add_test(NAME ${label}.${name}
             COMMAND ${MPIEXEC_EXECUTABLE} ${mpi_flags} -n ${ranks} ${ARGN})
    set_tests_properties(${label}.${name} PROPERTIES LABELS ${label} TIMEOUT 300 PROCESSORS 2
                         ENVIRONMENT "${mpi_environment};${environment}")
    if(label STREQUAL nccl)
        set_tests_properties(${label}.${name} PROPERTIES SKIP_RETURN_CODE 77 RESOURCE_LOCK gpu)
    endif()
endfunction()

if(TARGET coppice_cuda_emulator AND NCCL_INCLUDE_DIR)
    foreach(source test_nccl_kv test_nccl_faults)
        coppice_nccl_program(emulated_${source} ${source} coppice_cuda_emulator)
    endforeach()
    foreach(ranks 2 4)
        coppice_nccl_test(nccl_kv_${ranks} emulated ${ranks} COP_EMULATOR_DEVICES=4
                          $<TARGET_FILE:emulated_test_nccl_kv>)
        coppice_nccl_test(nccl_kv_shared_${ranks} emulated ${ranks} COP_EMULATOR_DEVICES=1
                          $<TARGET_FILE:emulated_test_nccl_kv>)
    endforeach()
    set(fault_duplicate COP_EMULATOR_DEVICES=1)
    set(fault_stall COP_EMULATOR_DEVICES=4 COP_EMULATOR_NCCL_STALL=0:6)
    set(fault_leave COP_EMULATOR_DEVICES=4)
    set(fault_unposted COP_EMULATOR_DEVICES=4)
    set(fault_refuse COP_EMULATOR_DEVICES=4 COP_EMULATOR_FAIL=ncclGroupEnd:3)
    foreach(fault duplicate stall leave unposted refuse)
        foreach(ranks 2 4)
            coppice_nccl_test(nccl_fault_${fault}_${ranks} emulated ${ranks} "${fault_${fault}}"
                              $<TARGET_FILE:emulated_test_nccl_faults> ${fault})
        endforeach()
    endforeach()
endif()

if(TARGET coppice_cuda AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    coppice_nccl_program(nccl_test_nccl_kv test_nccl_kv CUDA::cudart_static ${NCCL_LIBRARY}
                         CUDA::cublasLt)
    foreach(ranks 2 4)
        coppice_nccl_test(nccl_kv_${ranks} nccl ${ranks} "" $<TARGET_FILE:nccl_test_nccl_kv>)
    endforeach()
endif()
