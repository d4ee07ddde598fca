/* Folders with something broken: every refusal names the file and the thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoint_folder.h"

static void assert_refused(const folder *f, cop_status status, const char *message)
{
    cop_checkpoint *c = NULL;
    cop_error err = {.text = ""};
    cop_status got = cop_checkpoint_open(&c, f->path, &err);
    if (got != status || !strstr(err.text, message) || !strstr(err.text, f->path))
        fail_msg("status %d, '%s' instead of '%s'", (int)got, err.text, message);
    assert_null(c);
    assert_int_equal(cop_checkpoint_open(&c, f->path, NULL), status);
}

static void test_folders_without_a_checkpoint(void **state)
{
    folder f = make_folder();
    assert_refused(&f, COP_ERR_INVALID, ": has no config.json; the folder of a Hugging Face");
    copy_file(FIXTURES "qwen2", "config.json", f.path);
    assert_refused(&f, COP_ERR_INVALID,
                   ": has neither model.safetensors nor model.safetensors.index.json");
    write_text(f.path, "pytorch_model.bin", "");
    assert_refused(&f, COP_ERR_INVALID, "pytorch_model.bin is not read, convert it");
    remove_folder(&f);
    cop_checkpoint *c;
    cop_error err;
    assert_int_equal(cop_checkpoint_open(&c, FIXTURES "qwen2/config.json", &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "qwen2/config.json is a file; the folder of a checkpoint"));
}

static const struct {
    const char *fixture, *file, *from, *to;
    cop_status status;
    const char *message;
} broken[] = {
    {"qwen2", "config.json", "\"vocab_size\": 512", "\"vocab_size\": 5,2", COP_ERR_INVALID,
     "/config.json:"},
    {"qwen2", "config.json", "\"qwen2\"", "\"bert\"", COP_ERR_UNSUPPORTED,
     "/config.json: model_type 'bert' is not supported"},
    {"qwen2", "config.json", "\"eos_token_id\": 511,", "\"eos_token_id\": 999,", COP_OK, ""},
    {"mistral", "config.json", "\"eos_token_id\": 2,", "\"eos_token_id\":-1,", COP_ERR_INVALID,
     "/config.json: eos_token_id is -1; a token below vocab_size, 512, is expected"},
    {"qwen2", "generation_config.json", "511", "512", COP_ERR_INVALID,
     "/generation_config.json: eos_token_id is 512; a token below vocab_size, 512, is expected"},
    {"qwen2", "generation_config.json", "{", "[", COP_ERR_INVALID, "/generation_config.json:"},
    /* a geometry that the tensors do not have */
    {"qwen2", "config.json", "\"vocab_size\": 512", "\"vocab_size\": 640", COP_ERR_INVALID,
     "/model.safetensors: tensor 'model.embed_tokens.weight' has the shape [512, 128], but by "
     "config.json it is [640, 128]"},
    {"qwen2", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
     COP_ERR_INVALID, ": tensor 'model.layers.2.input_layernorm.weight' is missing, and 11 more"},
    {"qwen2", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
     COP_ERR_UNSUPPORTED, "has no place in a qwen2 model of 1 layers"},
    {"qwen3", "config.json", "\"head_dim\": 64", "\"head_dim\": 32", COP_ERR_INVALID,
     "tensor 'model.layers.0.self_attn.q_proj.weight' has the shape [256, 64], but by config.json "
     "it is [128, 64]"},
    {"qwen2", "config.json", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\":false",
     COP_ERR_INVALID, ": tensor 'lm_head.weight' is missing"},
    /* tensors by another name, type or shape */
    {"qwen2", "model.safetensors", "layers.1.mlp.up_proj.weight", "layers.1.mlp.up-proj.weight",
     COP_ERR_INVALID, ": tensor 'model.layers.1.mlp.up_proj.weight' is missing"},
    {"llama3", "model.safetensors", "model.norm.weight", "model.morn.weight", COP_ERR_INVALID,
     ": tensor 'model.norm.weight' is missing"},
    {"qwen2", "model.safetensors", "model.layers.0.", "model.layers.00", COP_ERR_INVALID,
     "is missing"},
    {"qwen2-untied", "model-00003-of-00003.safetensors", "lm_head.weight", "lm_head.scale_",
     COP_ERR_INVALID, ": tensor 'lm_head.weight' is missing"},
    {"qwen2", "model.safetensors", "\"dtype\":\"BF16\"", "\"dtype\":\"I16\"", COP_ERR_UNSUPPORTED,
     "is of I16, which is not supported; F32, F16 and BF16 are"},
    {"qwen2", "model.safetensors", "\"shape\":[512,128]", "\"shape\":[128,512]", COP_ERR_INVALID,
     "has the shape [128, 512], but by config.json it is [512, 128]"},
    {"qwen2", "model.safetensors", "\"shape\":[128]", "\"shape\":[127]", COP_ERR_INVALID,
     "data_offsets span 256 bytes, but dtype and shape make 254"},
    {"qwen2", "model.safetensors", "\"data_offsets\":[0,", "\"data_offsets\":[1,", COP_ERR_INVALID,
     "data_offsets span"},
    /* an index that leads out of the folder, or nowhere */
    {"qwen2-untied", "model.safetensors.index.json", "\"model-00001-of-00003.safetensors\"",
     "\"../00001-of-00003.safetensors\"", COP_ERR_INVALID,
     "/model.safetensors.index.json: weight_map: tensor 'model.embed_tokens.weight': "
     "'../00001-of-00003.safetensors' is no file name"},
    {"qwen2-untied", "model.safetensors.index.json", "\"model-00001-of-00003.safetensors\"", "1",
     COP_ERR_INVALID, "weight_map: tensor 'model.embed_tokens.weight': '' is no file name"},
    {"qwen2-untied", "model.safetensors.index.json", "\"model-00001-of-00003.safetensors\"",
     "\"model-00004-of-00003.safetensors\"", COP_ERR_INVALID,
     "/model.safetensors.index.json: weight_map names 'model-00004-of-00003.safetensors', which is "
     "not in the folder"},
    {"qwen2-untied", "model.safetensors.index.json", "\"weight_map\"", "\"weights\"",
     COP_ERR_INVALID, "/model.safetensors.index.json: weight_map is missing"},
    {"qwen2-untied", "model.safetensors.index.json", "{", "", COP_ERR_INVALID,
     "/model.safetensors.index.json:"},
};

static void test_broken_files(void **state)
{
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        folder f = copy_of(broken[i].fixture);
        edit(&f, broken[i].file, broken[i].from, broken[i].to);
        if (broken[i].status == COP_OK)
            cop_checkpoint_close(open_folder(f.path));
        else
            assert_refused(&f, broken[i].status, broken[i].message);
        remove_folder(&f);
    }
}

static void test_cut_or_lengthened_weights(void **state)
{
    folder f = copy_of("qwen2");
    size_t bytes;
    uint8_t *data = read_file(f.path, "model.safetensors", &bytes);
    write_file(f.path, "model.safetensors", data, bytes - 1);
    assert_refused(&f, COP_ERR_INVALID, "bytes of data: is it cut short?");
    write_file(f.path, "model.safetensors", data, bytes / 1000);
    assert_refused(&f, COP_ERR_INVALID, "is the file cut short?");
    write_file(f.path, "model.safetensors", data, 0);
    assert_refused(&f, COP_ERR_INVALID, "/model.safetensors: 0 bytes; a safetensors file has");
    data[bytes] = 0;
    write_file(f.path, "model.safetensors", data, bytes + 1);
    assert_refused(&f, COP_ERR_INVALID, "1 bytes after the last tensor belong to no tensor");
    const uint64_t huge = 1ULL << 60;
    memcpy(data, &huge, sizeof huge);
    write_file(f.path, "model.safetensors", data, bytes);
    assert_refused(&f, COP_ERR_INVALID, "a header length of 1152921504606846976 bytes");
    free(data);
    remove_folder(&f);
}

static void test_a_tensor_in_two_shards(void **state)
{
    folder f = copy_of("qwen2-untied");
    char from[128], to[128];
    path_in(from, sizeof from, f.path, "model-00001-of-00003.safetensors");
    path_in(to, sizeof to, f.path, "model-00002-of-00003.safetensors");
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(link(to, from), 0);
    assert_refused(&f, COP_ERR_INVALID,
                   "/model-00002-of-00003.safetensors: tensor 'model.embed_tokens.weight' is in ");
    remove_folder(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders_without_a_checkpoint),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_cut_or_lengthened_weights),
        cmocka_unit_test(test_a_tensor_in_two_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
