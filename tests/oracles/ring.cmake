# The device beside the same transformer in numpy, from the same seed. Debian's own interpreter sees
# Debian's numpy; another python is tried where there is none. Skips (status 77) say what is missing.
find_program(COPPICE_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
if(NOT COPPICE_PYTHON)
    find_program(COPPICE_PYTHON NAMES python3)
endif()

add_executable(dump_logits ${CMAKE_CURRENT_LIST_DIR}/dump_logits.c)
target_link_libraries(dump_logits PRIVATE coppice_device)
set_target_properties(dump_logits PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

function(coppice_oracle preset isa precision weights tokens)
    set(name transformer_${preset}_${isa}_${precision}_${weights})
    if(COPPICE_PYTHON)
        add_test(NAME oracles.${name}
                 COMMAND ${COPPICE_PYTHON} ${CMAKE_SOURCE_DIR}/tests/oracles/transformer.py
                         $<TARGET_FILE:dump_logits> ${preset} 7 ${isa} ${precision} ${weights} ${tokens}
                         ${CMAKE_BINARY_DIR}/tests/${name})
    else()
        add_test(NAME oracles.${name}
                 COMMAND sh -c "echo 'skipped: no python3 with numpy'; exit 77")
    endif()
    set_tests_properties(oracles.${name} PROPERTIES LABELS oracles TIMEOUT 300
                         SKIP_RETURN_CODE 77)
endfunction()

foreach(precision bf16 float32)
    foreach(isa avx512bf16 avx2 baseline)
        coppice_oracle(tiny ${isa} ${precision} bf16 150)
    endforeach()
    coppice_oracle(wide auto ${precision} bf16 150)
    coppice_oracle(small auto ${precision} bf16 80)
    foreach(weights bf16 f16 f32 int8)
        coppice_oracle(odd auto ${precision} ${weights} 150)
    endforeach()
    coppice_oracle(wide auto ${precision} f32 150)
    foreach(isa avx512bf16 avx2 baseline)
        coppice_oracle(wide ${isa} ${precision} int8 150)
    endforeach()
endforeach()

# Checkpoints of every family beside transformers' own logits, which lie with them.
add_executable(check_checkpoint ${CMAKE_CURRENT_LIST_DIR}/check_checkpoint.c)
target_link_libraries(check_checkpoint PRIVATE coppice_device)
set_target_properties(check_checkpoint PROPERTIES
                      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

foreach(checkpoint qwen2 qwen2-untied qwen3 llama3 mistral)
    foreach(precision bf16 float32)
        foreach(isa auto baseline)
            set(name oracles.checkpoint_${checkpoint}_${isa}_${precision})
            add_test(NAME ${name}
                     COMMAND check_checkpoint ${CMAKE_SOURCE_DIR}/tests/data/checkpoints/${checkpoint}
                             ${isa} ${precision})
            set_tests_properties(${name} PROPERTIES LABELS oracles TIMEOUT 300)
        endforeach()
    endforeach()
endforeach()

# Tokens of 24,000 lines against digests of what Hugging Face `tokenizers` said (tokenizer_corpus.py).
add_executable(encode_lines ${CMAKE_CURRENT_LIST_DIR}/encode_lines.c)
target_link_libraries(encode_lines PRIVATE coppice_tokenizer)
set_target_properties(encode_lines PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

function(coppice_corpus name tokenizer)
    if(COPPICE_PYTHON)
        add_test(NAME oracles.tokenizer_${name}
                 COMMAND ${COPPICE_PYTHON} ${CMAKE_SOURCE_DIR}/tests/oracles/tokenizer_corpus.py
                         check $<TARGET_FILE:encode_lines> ${tokenizer}
                         ${CMAKE_SOURCE_DIR}/tests/data/tokenizers/${name}.digests)
    else()
        add_test(NAME oracles.tokenizer_${name} COMMAND sh -c "echo 'skipped: no python3'; exit 77")
    endif()
    set_tests_properties(oracles.tokenizer_${name} PROPERTIES LABELS oracles TIMEOUT 300
                         SKIP_RETURN_CODE 77)
endfunction()

foreach(name qwen-small llama3-small mistral-small)
    coppice_corpus(${name} ${CMAKE_SOURCE_DIR}/tests/data/tokenizers/${name}.json)
endforeach()
# The vocabulary of Qwen2.5 and Qwen3, too large to be kept here.
coppice_corpus(qwen3 ${CMAKE_SOURCE_DIR}/../shared/models/qwen3-tokenizer/tokenizer.json)
