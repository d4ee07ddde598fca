# The reader and the report, with a Python that has h5py, pandas and matplotlib: the system's, as
# one that is first in PATH often has none of them. Without them the test says so and is skipped.
if(COPPICE_PYTHON)
    foreach(name reader report figures prompt_cache)
        add_test(NAME unit.analysis_${name}
                 COMMAND ${COPPICE_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/test_${name}.py)
        set_tests_properties(unit.analysis_${name} PROPERTIES LABELS unit TIMEOUT 300
                             SKIP_RETURN_CODE 77)
    endforeach()
else()
    message(WARNING "no python3: the tests of analysis/ are left out")
endif()
