# Every tests/fuzz/fuzz_NAME.c is a fuzzer with its corpus in corpus/NAME/ (see fuzz.h). Here each
# runs a number of seeded mutants; hunt.sh goes on for as long as one likes.
set(COPPICE_FUZZ_ITERATIONS 20000 CACHE STRING "Mutants that each fuzzer tries in the tests")

file(GLOB fuzzers CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/fuzz_*.c)
foreach(fuzzer ${fuzzers})
    get_filename_component(program ${fuzzer} NAME_WE)
    string(REPLACE "fuzz_" "" name ${program})
    if(COPPICE_LIBFUZZER)
        add_executable(${program} ${fuzzer})
        target_link_options(${program} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(${program} ${fuzzer} ${CMAKE_CURRENT_LIST_DIR}/main.c)
    endif()
    target_link_libraries(${program} PRIVATE coppice_drive)
    set_target_properties(${program} PROPERTIES
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME fuzz.${name}
             COMMAND ${program} ${CMAKE_CURRENT_LIST_DIR}/corpus/${name} ${COPPICE_FUZZ_ITERATIONS}
             WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 300)
endforeach()

# Not tests: each writes corpus/NAME/ anew, after a layout has changed.
foreach(name message cache_file)
    add_executable(${name}_corpus EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/${name}_corpus.c)
    target_link_libraries(${name}_corpus PRIVATE coppice_drive)
    set_target_properties(${name}_corpus PROPERTIES
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endforeach()
