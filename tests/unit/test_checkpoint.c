/* Checkpoints as transformers wrote them (tests/data/checkpoints): what is read from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoint_folder.h"
#include "model/safetensors.h"

static const struct {
    cop_geometry geometry;
    const char *family;
    size_t stops;
    uint32_t stop[2];
} fixtures[] = {
    {{"qwen2", 2, 128, 192, 2, 1, 64, 512, 512, 1e6, 1e-6f, true, false, true, {0, 0, 0, 0}},
     "qwen2",
     2,
     {511, 509}},
    {{"qwen2-untied", 2, 64, 64, 2, 1, 64, 256, 512, 1e4, 1e-6f, true, false, false, {0, 0, 0, 0}},
     "qwen2",
     1,
     {255}},
    {{"qwen3", 2, 64, 128, 4, 2, 64, 512, 512, 1e6, 1e-6f, false, true, true, {0, 0, 0, 0}},
     "qwen3",
     2,
     {510, 508}},
    {{"llama3", 2, 128, 128, 2, 1, 64, 515, 512, 5e5, 1e-6f, false, false, false, {8, 1, 4, 64}},
     "llama",
     2,
     {513, 514}},
    /* generation_config.json names none: the one of config.json */
    {{"mistral", 2, 64, 128, 4, 1, 128, 512, 512, 1e6, 1e-6f, false, false, false, {0, 0, 0, 0}},
     "mistral",
     1,
     {2}},
};
enum { FIXTURE_COUNT = sizeof fixtures / sizeof *fixtures };

static void test_fixtures(void **state)
{
    for (size_t i = 0; i < FIXTURE_COUNT; i++) {
        const cop_geometry *want = &fixtures[i].geometry;
        cop_checkpoint *c = open_fixture(want->name);
        const cop_geometry *g = cop_checkpoint_geometry(c);
        assert_string_equal(g->name, want->name);
        assert_string_equal(cop_checkpoint_family(c), fixtures[i].family);
        const uint32_t sizes[][2] = {{g->layers, want->layers},
                                     {g->hidden, want->hidden},
                                     {g->ffn, want->ffn},
                                     {g->q_heads, want->q_heads},
                                     {g->kv_heads, want->kv_heads},
                                     {g->head_dim, want->head_dim},
                                     {g->vocab, want->vocab},
                                     {g->max_context, want->max_context},
                                     {g->qkv_bias, want->qkv_bias},
                                     {g->qk_norm, want->qk_norm},
                                     {g->tied_embeddings, want->tied_embeddings}};
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            assert_int_equal(sizes[k][0], sizes[k][1]);
        assert_true(g->rope_theta == want->rope_theta && g->rms_epsilon == want->rms_epsilon);
        assert_memory_equal(&g->rope_scaling, &want->rope_scaling, sizeof g->rope_scaling);
        size_t count;
        const uint32_t *stops = cop_checkpoint_stops(c, &count);
        assert_int_equal(count, fixtures[i].stops);
        assert_memory_equal(stops, fixtures[i].stop, count * sizeof *stops);
        cop_checkpoint_close(c);
    }
    cop_checkpoint_close(NULL);
}

/* Rows [row, row + rows) as the source shows them are the bytes of the file's tensor. */
static void assert_rows(const char *fixture, const char *file, const char *name, cop_dtype dtype,
                        cop_tensor tensor, uint32_t layer, uint32_t row, uint32_t rows)
{
    char path[512];
    cop_safetensors *shard;
    snprintf(path, sizeof path, "%s%s/%s", FIXTURES, fixture, file);
    assert_int_equal(cop_safetensors_open(&shard, path, NULL), COP_OK);
    const cop_safetensor *t = cop_safetensors_find(shard, name);
    assert_non_null(t);
    cop_checkpoint *c = open_fixture(fixture);
    cop_weights_source source = cop_checkpoint_source(c);
    cop_weight_rows got;
    assert_int_equal(source.read(source.self, tensor, layer, row, rows, NULL, &got, NULL), COP_OK);
    assert_int_equal(got.dtype, dtype);
    size_t row_bytes = t->bytes / t->shape[0];
    assert_memory_equal(got.data, t->data + row * row_bytes, rows * row_bytes);
    cop_checkpoint_close(c);
    cop_safetensors_close(shard);
}

static void test_rows_are_the_bytes_of_the_file(void **state)
{
    static const char one[] = "model.safetensors";
    assert_rows("qwen2", one, "model.embed_tokens.weight", COP_BF16, COP_TENSOR_EMBED, 0, 500, 12);
    assert_rows("qwen2", one, "model.norm.weight", COP_BF16, COP_TENSOR_FINAL_NORM, 0, 0, 128);
    assert_rows("qwen2", one, "model.layers.1.self_attn.q_proj.weight", COP_BF16, COP_TENSOR_Q, 1,
                3, 5);
    assert_rows("qwen2", one, "model.layers.0.self_attn.k_proj.weight", COP_BF16, COP_TENSOR_K, 0,
                0, 64);
    assert_rows("qwen2", one, "model.layers.1.self_attn.v_proj.weight", COP_BF16, COP_TENSOR_V, 1,
                63, 1);
    assert_rows("qwen2", one, "model.layers.0.self_attn.q_proj.bias", COP_BF16, COP_TENSOR_Q_BIAS,
                0, 0, 128);
    assert_rows("qwen2", one, "model.layers.1.self_attn.k_proj.bias", COP_BF16, COP_TENSOR_K_BIAS,
                1, 0, 64);
    assert_rows("qwen2", one, "model.layers.1.self_attn.v_proj.bias", COP_BF16, COP_TENSOR_V_BIAS,
                1, 0, 64);
    assert_rows("qwen2", one, "model.layers.0.input_layernorm.weight", COP_BF16, COP_TENSOR_NORM1,
                0, 0, 128);
    assert_rows("qwen2", one, "model.layers.0.post_attention_layernorm.weight", COP_BF16,
                COP_TENSOR_NORM2, 0, 0, 128);
    assert_rows("qwen3", one, "model.layers.1.self_attn.q_norm.weight", COP_BF16, COP_TENSOR_Q_NORM,
                1, 0, 64);
    assert_rows("qwen3", one, "model.layers.0.self_attn.k_norm.weight", COP_BF16, COP_TENSOR_K_NORM,
                0, 0, 64);
    assert_rows("qwen3", one, "model.layers.1.self_attn.o_proj.weight", COP_BF16, COP_TENSOR_O, 1,
                10, 54);
    assert_rows("llama3", one, "lm_head.weight", COP_F16, COP_TENSOR_HEAD, 0, 512, 3);
    assert_rows("llama3", one, "model.layers.1.mlp.gate_proj.weight", COP_F16, COP_TENSOR_GATE, 1,
                1, 127);
    assert_rows("llama3", one, "model.layers.1.mlp.up_proj.weight", COP_F16, COP_TENSOR_UP, 1, 0,
                128);
    assert_rows("qwen2-untied", "model-00003-of-00003.safetensors",
                "model.layers.1.mlp.down_proj.weight", COP_F32, COP_TENSOR_DOWN, 1, 5, 7);
    assert_rows("qwen2-untied", "model-00003-of-00003.safetensors", "lm_head.weight", COP_F32,
                COP_TENSOR_HEAD, 0, 255, 1);
}

static uint64_t identity_of(const char *path)
{
    cop_checkpoint *c = open_folder(path);
    uint64_t identity = cop_checkpoint_identity(c);
    cop_checkpoint_close(c);
    return identity;
}

static void test_identity_is_of_geometry_and_weights(void **state)
{
    folder f = copy_of("qwen2");
    const uint64_t original = identity_of(FIXTURES "qwen2");
    assert_int_equal(identity_of(f.path), original); /* whatever the folder is called */
    edit(&f, "config.json", "1000000.0", "1000001.0");
    assert_true(identity_of(f.path) != original);
    edit(&f, "config.json", "1000001.0", "1000000.0");
    size_t bytes;
    uint8_t *data = read_file(f.path, "model.safetensors", &bytes);
    for (size_t i = 1; i <= 8; i++) { /* a bit here and there, to the last byte */
        size_t at = bytes - 1 - (bytes - 8192) / 8 * (8 - i);
        data[at] ^= 1;
        write_file(f.path, "model.safetensors", data, bytes);
        assert_true(identity_of(f.path) != original);
        data[at] ^= 1;
    }
    write_file(f.path, "model.safetensors", data, bytes);
    assert_int_equal(identity_of(f.path), original);
    free(data);
    remove_folder(&f);
}

/* All tensors of a folder's three shards in one model.safetensors, last shard first. */
static void merge_shards(const folder *f)
{
    char path[512], text[16384] = "{", *end = text + 1;
    uint8_t *data = NULL;
    size_t data_bytes = 0;
    for (int i = 3; i >= 1; i--) {
        cop_safetensors *shard;
        snprintf(path, sizeof path, "%s/model-0000%d-of-00003.safetensors", f->path, i);
        assert_int_equal(cop_safetensors_open(&shard, path, NULL), COP_OK);
        for (size_t j = 0; j < cop_safetensors_count(shard); j++) {
            const cop_safetensor *t = cop_safetensors_at(shard, j);
            end += sprintf(end, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d",
                           end > text + 1 ? "," : "", t->name, t->dtype, (int)t->shape[0]);
            end += t->dims == 2 ? sprintf(end, ",%d", (int)t->shape[1]) : 0;
            end += sprintf(end, "],\"data_offsets\":[%zu,%zu]}", data_bytes,
                           data_bytes + (size_t)t->bytes);
            data = cop_realloc(data, data_bytes + t->bytes);
            memcpy(data + data_bytes, t->data, t->bytes);
            data_bytes += t->bytes;
        }
        cop_safetensors_close(shard);
        assert_int_equal(unlink(path), 0);
    }
    end += sprintf(end, "}");
    uint64_t header = (uint64_t)(end - text);
    uint8_t *file = cop_malloc(8 + header + data_bytes);
    memcpy(file, &header, 8);
    memcpy(file + 8, text, header);
    memcpy(file + 8 + header, data, data_bytes);
    write_file(f->path, "model.safetensors", file, 8 + header + data_bytes);
    free(file);
    free(data);
}

static void test_identity_is_blind_to_shards(void **state)
{
    folder f = copy_of("qwen2-untied");
    merge_shards(&f);
    remove_file(&f, "model.safetensors.index.json");
    assert_int_equal(identity_of(f.path), identity_of(FIXTURES "qwen2-untied"));
    remove_folder(&f);
}

static void test_a_tied_model_may_carry_its_head(void **state)
{
    folder f = copy_of("qwen2-untied");
    edit(&f, "config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    cop_checkpoint *c = open_folder(f.path);
    assert_true(cop_checkpoint_geometry(c)->tied_embeddings);
    assert_true(cop_checkpoint_identity(c) != identity_of(FIXTURES "qwen2-untied"));
    cop_checkpoint_close(c);
    remove_folder(&f);
}

static void test_names_and_stops(void **state)
{
    folder f = copy_of("mistral");
    char path[128];
    snprintf(path, sizeof path, "%s///", f.path);
    cop_checkpoint *c = open_folder(path);
    assert_string_equal(cop_checkpoint_geometry(c)->name, strrchr(f.path, '/') + 1);
    cop_checkpoint_close(c);
    snprintf(path, sizeof path, "%s/.", f.path);
    c = open_folder(path);
    assert_string_equal(cop_checkpoint_geometry(c)->name, strrchr(f.path, '/') + 1);
    cop_checkpoint_close(c);
    remove_file(&f, "generation_config.json");
    edit(&f, "config.json", "\"eos_token_id\": 2,", "");
    c = open_folder(f.path);
    size_t count = 7;
    cop_checkpoint_stops(c, &count);
    assert_int_equal(count, 0);
    cop_checkpoint_close(c);
    remove_folder(&f);
}

static void test_a_model_from_a_folder(void **state)
{
    cop_weights *weights;
    assert_int_equal(cop_weights_open(&weights, FIXTURES "qwen3", "ignored", 7, NULL), COP_OK);
    assert_string_equal(cop_weights_geometry(weights)->name, "qwen3");
    assert_string_equal(cop_weights_path(weights), FIXTURES "qwen3");
    assert_non_null(cop_weights_checkpoint(weights));
    assert_int_equal(cop_weights_identity(weights), identity_of(FIXTURES "qwen3"));
    cop_weights_close(weights);
    cop_error err;
    assert_int_equal(cop_weights_open(&weights, "/nowhere", NULL, 0, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "/nowhere: no such folder; a checkpoint is expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_rows_are_the_bytes_of_the_file),
        cmocka_unit_test(test_identity_is_of_geometry_and_weights),
        cmocka_unit_test(test_identity_is_blind_to_shards),
        cmocka_unit_test(test_a_tied_model_may_carry_its_head),
        cmocka_unit_test(test_names_and_stops),
        cmocka_unit_test(test_a_model_from_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
