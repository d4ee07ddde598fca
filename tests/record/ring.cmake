# Reads what the recorder wrote with h5py, as its users will.
add_executable(record_writer ${CMAKE_CURRENT_LIST_DIR}/writer.c)
target_link_libraries(record_writer PRIVATE coppice_drive)
set_target_properties(record_writer PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

foreach(check values live kill close)
    add_test(NAME record.${check}
             COMMAND ${COPPICE_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/record_check.py ${check}
                     $<TARGET_FILE:record_writer> ${CMAKE_SOURCE_DIR}/src/record/tables.def)
    set_tests_properties(record.${check} PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77)
endforeach()
