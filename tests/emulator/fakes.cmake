# Tests of the fake cublasLt and the fake NCCL. ring.cmake includes this, after its function.
coppice_emulator_test(test_fakes ${COPPICE_EMULATOR_DIR}/test_fakes_nccl.cpp)
