/* config.json in the words of every family: what is understood, and what is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/checkpoint_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As on the hub: Qwen/Qwen2.5-0.5B-Instruct, meta-llama/Llama-3.2-1B, mistralai/Mistral-7B-v0.3;
 * and what transformers 5 writes of a Qwen3-0.6B. */
static const char qwen2[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"attention_dropout\": 0.0,"
    "\"bos_token_id\": 151643, \"eos_token_id\": 151645, \"hidden_act\": \"silu\","
    "\"hidden_size\": 896, \"initializer_range\": 0.02, \"intermediate_size\": 4864,"
    "\"max_position_embeddings\": 32768, \"max_window_layers\": 21, \"model_type\": \"qwen2\","
    "\"num_attention_heads\": 14, \"num_hidden_layers\": 24, \"num_key_value_heads\": 2,"
    "\"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0, \"sliding_window\": 16384,"
    "\"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\", \"use_cache\": true,"
    "\"use_sliding_window\": false, \"vocab_size\": 151936}";
static const char qwen3[] =
    "{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": false, \"dtype\": "
    "\"bfloat16\","
    "\"eos_token_id\": [151645, 151643], \"head_dim\": 128, \"hidden_act\": \"silu\","
    "\"hidden_size\": 1024, \"intermediate_size\": 3072,"
    "\"layer_types\": [\"full_attention\", \"full_attention\"],"
    "\"max_position_embeddings\": 40960, \"max_window_layers\": 28, \"model_type\": \"qwen3\","
    "\"num_attention_heads\": 16, \"num_hidden_layers\": 2, \"num_key_value_heads\": 8,"
    "\"rms_norm_eps\": 1e-06,"
    "\"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": \"default\"},"
    "\"sliding_window\": null, \"tie_word_embeddings\": true, \"use_sliding_window\": false,"
    "\"vocab_size\": 151936}";
static const char llama[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false,"
    "\"bos_token_id\": 128000, \"eos_token_id\": 128001, \"head_dim\": 64,"
    "\"hidden_act\": \"silu\", \"hidden_size\": 2048, \"intermediate_size\": 8192,"
    "\"max_position_embeddings\": 131072, \"mlp_bias\": false, \"model_type\": \"llama\","
    "\"num_attention_heads\": 32, \"num_hidden_layers\": 16, \"num_key_value_heads\": 8,"
    "\"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05,"
    "\"rope_scaling\": {\"factor\": 32.0, \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0,"
    " \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"},"
    "\"rope_theta\": 500000.0, \"tie_word_embeddings\": true, \"vocab_size\": 128256}";
static const char mistral[] =
    "{\"architectures\": [\"MistralForCausalLM\"], \"eos_token_id\": 2, \"hidden_act\": \"silu\","
    "\"hidden_size\": 4096, \"intermediate_size\": 14336, \"max_position_embeddings\": 32768,"
    "\"model_type\": \"mistral\", \"num_attention_heads\": 32, \"num_hidden_layers\": 32,"
    "\"num_key_value_heads\": 8, \"rms_norm_eps\": 1e-05, \"rope_theta\": 1000000.0,"
    "\"sliding_window\": null, \"tie_word_embeddings\": false, \"vocab_size\": 32768}";

/* `text` with the first `from` replaced; owned by the caller. */
static char *edited(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    size_t bytes = strlen(text) + strlen(to) + 1;
    char *out = cop_malloc(bytes);
    snprintf(out, bytes, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static cop_status parse(cop_checkpoint_config *out, const char *text, cop_error *err)
{
    cop_json *root;
    cop_error bad = {.text = ""};
    if (cop_json_parse(&root, text, strlen(text), "test", &bad) != COP_OK)
        fail_msg("%s in %s", bad.text, text);
    cop_status status = cop_checkpoint_config_parse(out, root, "dir/config.json", err);
    cop_json_free(root);
    return status;
}

static cop_checkpoint_config accept(const char *text, const char *from, const char *to)
{
    cop_checkpoint_config c;
    cop_error err = {.text = ""};
    char *changed = edited(text, from, to);
    if (parse(&c, changed, &err) != COP_OK)
        fail_msg("'%s' with %s instead of %s", err.text, to, from);
    free(changed);
    return c;
}

static void assert_same(const cop_geometry *a, const cop_geometry *b)
{
    assert_int_equal(a->layers, b->layers);
    assert_int_equal(a->hidden, b->hidden);
    assert_int_equal(a->ffn, b->ffn);
    assert_int_equal(a->q_heads, b->q_heads);
    assert_int_equal(a->kv_heads, b->kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->max_context, b->max_context);
    assert_true(a->rope_theta == b->rope_theta && a->rms_epsilon == b->rms_epsilon);
    assert_int_equal(a->qkv_bias, b->qkv_bias);
    assert_int_equal(a->qk_norm, b->qk_norm);
    assert_int_equal(a->tied_embeddings, b->tied_embeddings);
    assert_true(a->rope_scaling.factor == b->rope_scaling.factor &&
                a->rope_scaling.low_freq_factor == b->rope_scaling.low_freq_factor &&
                a->rope_scaling.high_freq_factor == b->rope_scaling.high_freq_factor &&
                a->rope_scaling.original_context == b->rope_scaling.original_context);
}

static void test_families(void **state)
{
    cop_checkpoint_config c;
    cop_error err;
    const cop_geometry *preset;
    assert_int_equal(parse(&c, qwen2, &err), COP_OK);
    assert_string_equal(c.family, "qwen2");
    assert_int_equal(cop_geometry_find("qwen2.5-0.5b", &preset, NULL), COP_OK);
    assert_same(&c.geometry, preset);

    assert_int_equal(parse(&c, qwen3, &err), COP_OK);
    assert_string_equal(c.family, "qwen3");
    assert_same(&c.geometry, &(cop_geometry){.layers = 2,
                                             .hidden = 1024,
                                             .ffn = 3072,
                                             .q_heads = 16,
                                             .kv_heads = 8,
                                             .head_dim = 128,
                                             .vocab = 151936,
                                             .max_context = 40960,
                                             .rope_theta = 1e6,
                                             .rms_epsilon = 1e-6f,
                                             .qk_norm = true,
                                             .tied_embeddings = true});

    assert_int_equal(parse(&c, llama, &err), COP_OK);
    assert_string_equal(c.family, "llama");
    const cop_geometry llama_1b = {.layers = 16,
                                   .hidden = 2048,
                                   .ffn = 8192,
                                   .q_heads = 32,
                                   .kv_heads = 8,
                                   .head_dim = 64,
                                   .vocab = 128256,
                                   .max_context = 131072,
                                   .rope_theta = 5e5,
                                   .rms_epsilon = 1e-5f,
                                   .tied_embeddings = true,
                                   .rope_scaling = {32, 1, 4, 8192}};
    assert_same(&c.geometry, &llama_1b);

    assert_int_equal(parse(&c, mistral, &err), COP_OK);
    assert_string_equal(c.family, "mistral");
    assert_same(&c.geometry, &(cop_geometry){.layers = 32,
                                             .hidden = 4096,
                                             .ffn = 14336,
                                             .q_heads = 32,
                                             .kv_heads = 8,
                                             .head_dim = 128,
                                             .vocab = 32768,
                                             .max_context = 32768,
                                             .rope_theta = 1e6,
                                             .rms_epsilon = 1e-5f});
}

/* What is absent has the default of the family's class in transformers. */
static void test_defaults(void **state)
{
    assert_true(accept(qwen2, "\"rope_theta\": 1000000.0,", "").geometry.rope_theta == 1e4);
    assert_true(accept(qwen2, "\"rms_norm_eps\": 1e-06,", "").geometry.rms_epsilon == 1e-6f);
    assert_false(accept(qwen2, "\"tie_word_embeddings\": true,", "").geometry.tied_embeddings);
    assert_int_equal(accept(qwen2, "\"hidden_act\": \"silu\",", "").geometry.layers, 24);
    assert_int_equal(accept(qwen2, "\"architectures\": [\"Qwen2ForCausalLM\"],", "").geometry.ffn,
                     4864);
    static const char kv[] = "\"num_key_value_heads\": 8";
    assert_int_equal(accept(llama, kv, "\"x\": 0").geometry.kv_heads, 32);
    assert_int_equal(accept(mistral, kv, "\"x\": 0").geometry.kv_heads, 8);
    assert_int_equal(accept(mistral, kv, "\"num_key_value_heads\": null").geometry.kv_heads, 32);
    assert_int_equal(accept(qwen3, "\"head_dim\": 128,", "").geometry.head_dim, 128);
    assert_int_equal(accept(llama, "\"head_dim\": 64,", "").geometry.head_dim, 64);
    assert_int_equal(
        accept(mistral, "\"rms_norm_eps\"", "\"head_dim\": 64, \"rms_norm_eps\"").geometry.head_dim,
        64);
    static const char context[] = "\"max_position_embeddings\": 131072,";
    assert_int_equal(accept(llama, context, "").geometry.max_context, 2048);
}

static void test_words_for_rope(void **state)
{
    cop_checkpoint_config old;
    assert_int_equal(parse(&old, llama, NULL), COP_OK);
    cop_checkpoint_config c = accept(llama, "\"rope_scaling\": {", "\"rope_parameters\": {");
    assert_same(&c.geometry, &old.geometry);
    c = accept(llama, "\"rope_type\": \"llama3\"", "\"type\": \"llama3\"");
    assert_same(&c.geometry, &old.geometry);
    c = accept(llama, "\"original_max_position_embeddings\": 8192, ", "");
    assert_true(c.geometry.rope_scaling.original_context == 131072);
    c = accept(qwen3, "\"rope_theta\": 1000000.0, ", ""); /* nor at the top level */
    assert_true(c.geometry.rope_theta == 1e4);
    c = accept(mistral, "\"rope_theta\"",
               "\"rope_scaling\": {\"type\": \"default\"}, \"rope_theta\"");
    assert_true(c.geometry.rope_scaling.factor == 0 && c.geometry.rope_theta == 1e6);
    c = accept(mistral, "\"rope_theta\"", "\"rope_scaling\": null, \"rope_theta\"");
    assert_true(c.geometry.rope_scaling.factor == 0);
}

/* A window that nothing uses, or that no context outgrows. */
static void test_windows_that_hide_nothing(void **state)
{
    accept(mistral, "\"sliding_window\": null", "\"sliding_window\": 32768");
    accept(qwen2, "\"sliding_window\": 16384,", "");
    char *on = edited(qwen2, "\"use_sliding_window\": false", "\"use_sliding_window\": true");
    accept(on, "\"sliding_window\": 16384", "\"sliding_window\": 32768");
    accept(on, "\"sliding_window\": 16384", "\"sliding_window\": null");
    accept(on, "\"max_window_layers\": 21", "\"max_window_layers\": 24");
    free(on);
}

static const struct {
    const char *text, *from, *to;
    cop_status status;
    const char *message; /* after "dir/config.json: " */
} refused[] = {
    {qwen2, "\"qwen2\"", "\"qwen2_moe\"", COP_ERR_UNSUPPORTED,
     "model_type 'qwen2_moe' is not supported"},
    {qwen2, "\"qwen2\"", "\"qwen4\"", COP_ERR_UNSUPPORTED,
     "model_type 'qwen4' is not supported; the nearest is 'qwen2' (qwen2, qwen3, llama, mistral)"},
    {qwen2, "\"qwen2\"", "\"gpt_neox\"", COP_ERR_UNSUPPORTED,
     "model_type 'gpt_neox' is not supported (qwen2, qwen3, llama, mistral)"},
    {qwen2, "\"model_type\": \"qwen2\",", "", COP_ERR_INVALID, "model_type is missing; qwen2, "},
    {qwen2, "\"qwen2\"", "2", COP_ERR_INVALID, "model_type is an integer; a string is expected"},
    {qwen2, "Qwen2ForCausalLM", "Qwen2ForSequenceClassification", COP_ERR_UNSUPPORTED,
     "architectures: 'Qwen2ForSequenceClassification' is not supported; for model_type 'qwen2' "
     "only 'Qwen2ForCausalLM' is"},
    {qwen2, "[\"Qwen2ForCausalLM\"]", "\"Qwen2ForCausalLM\"", COP_ERR_INVALID,
     "architectures is a string; an array of strings is expected"},
    {qwen2, "\"use_cache\"", "\"num_experts\": 8, \"use_cache\"", COP_ERR_UNSUPPORTED,
     "num_experts: a mixture of experts is not supported"},
    {mistral, "\"rms_norm_eps\"", "\"num_local_experts\": 8, \"rms_norm_eps\"", COP_ERR_UNSUPPORTED,
     "num_local_experts: a mixture of experts is not supported"},
    {qwen2, "\"use_cache\"",
     "\"quantization_config\": {\"bits\": 4, \"quant_method\": \"gptq\"}, \"use_cache\"",
     COP_ERR_UNSUPPORTED, "quantization_config (gptq): quantised weights are not supported"},
    {qwen2, "\"silu\"", "\"gelu\"", COP_ERR_UNSUPPORTED,
     "hidden_act 'gelu' is not supported; only 'silu' is"},
    {llama, "\"mlp_bias\": false", "\"mlp_bias\": true", COP_ERR_UNSUPPORTED, "mlp_bias: "},
    {llama, "\"attention_bias\": false", "\"attention_bias\": true", COP_ERR_UNSUPPORTED,
     "attention_bias: a bias of o_proj is not supported"},
    {qwen3, "\"attention_bias\": false", "\"attention_bias\": true", COP_ERR_UNSUPPORTED,
     "attention_bias: a bias of o_proj is not supported"},
    {mistral, "\"sliding_window\": null", "\"sliding_window\": 4096", COP_ERR_UNSUPPORTED,
     "sliding_window is 4096 tokens and in use, as max_position_embeddings is 32768"},
    {mistral, "\"sliding_window\": null,", "", COP_ERR_UNSUPPORTED,
     "sliding_window is 4096 tokens (the default) and in use"},
    {qwen2, "\"use_sliding_window\": false", "\"use_sliding_window\": true", COP_ERR_UNSUPPORTED,
     "sliding_window is 16384 tokens and in use"},
    {qwen3, "[\"full_attention\", ", "[\"sliding_attention\", ", COP_ERR_UNSUPPORTED,
     "layer_types: 'sliding_attention' is not supported; only 'full_attention' is"},
    {llama, "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", COP_ERR_UNSUPPORTED,
     "rope_scaling: 'yarn' is not supported; 'default' and 'llama3' are"},
    {llama, ", \"rope_type\": \"llama3\"", "", COP_ERR_UNSUPPORTED,
     "rope_scaling has a factor but no rope_type"},
    {llama, "\"rope_type\": \"llama3\"", "\"type\": \"linear\"", COP_ERR_UNSUPPORTED,
     "rope_scaling: 'linear' is not supported"},
    {qwen3, "\"rope_type\": \"default\"", "\"rope_type\": \"longrope\"", COP_ERR_UNSUPPORTED,
     "rope_parameters: 'longrope' is not supported"},
    {qwen3, "{\"rope_theta\": 1000000.0, \"rope_type\": \"default\"}",
     "{\"full_attention\": {\"rope_theta\": 1.0}}", COP_ERR_UNSUPPORTED,
     "rope_parameters.full_attention: parameters by type of layer are not supported"},
    {llama, "\"factor\": 32.0, ", "", COP_ERR_INVALID, "rope_scaling.factor is missing"},
    {llama, "\"factor\": 32.0", "\"factor\": \"32\"", COP_ERR_INVALID,
     "rope_scaling.factor is a string; a number is expected"},
    {llama, "\"factor\": 32.0", "\"factor\": 0.5", COP_ERR_INVALID,
     "rope_scaling.factor is 0.5; 1 to 1e+06 is expected"},
    {llama, "\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0", COP_ERR_INVALID,
     "rope_scaling.high_freq_factor is 1; more than low_freq_factor, 1, is expected"},
    {llama, "\"rope_theta\"", "\"rope_parameters\": {}, \"rope_theta\"", COP_ERR_INVALID,
     "rope_parameters and rope_scaling are both there; one is expected"},
    {mistral, "\"rope_theta\"", "\"rope_scaling\": 2, \"rope_theta\"", COP_ERR_INVALID,
     "rope_scaling is an integer; an object or null is expected"},
    {mistral, "\"rope_theta\": 1000000.0", "\"rope_theta\": -1", COP_ERR_INVALID,
     "rope_theta is -1; 1 to 1e+15 is expected"},
    {mistral, "\"rope_theta\"", "\"partial_rotary_factor\": 0.5, \"rope_theta\"",
     COP_ERR_UNSUPPORTED, "partial_rotary_factor is 0.5; only 1 is supported"},
    {qwen2, "\"hidden_size\": 896,", "", COP_ERR_INVALID, "hidden_size is missing"},
    {qwen2, "\"hidden_size\": 896", "\"hidden_size\": \"896\"", COP_ERR_INVALID,
     "hidden_size is a string; an integer is expected"},
    {qwen2, "\"hidden_size\": 896", "\"hidden_size\": 896.0", COP_ERR_INVALID,
     "hidden_size is a number; an integer is expected"},
    {qwen2, "\"hidden_size\": 896", "\"hidden_size\": 900", COP_ERR_UNSUPPORTED,
     "hidden_size is 900; a multiple of 64 is expected"},
    {qwen2, "\"hidden_size\": 896", "\"hidden_size\": 4294967296", COP_ERR_INVALID,
     "hidden_size is 4294967296; 64 to 1048576 is expected"},
    {qwen2, "\"intermediate_size\": 4864", "\"intermediate_size\": -64", COP_ERR_INVALID,
     "intermediate_size is -64; 64 to 1048576 is expected"},
    {qwen2, "\"num_hidden_layers\": 24", "\"num_hidden_layers\": 1000000000000", COP_ERR_INVALID,
     "num_hidden_layers is 1000000000000; 1 to 1024 is expected"},
    {qwen2, "\"num_hidden_layers\": 24", "\"num_hidden_layers\": 0", COP_ERR_INVALID,
     "num_hidden_layers is 0; 1 to 1024 is expected"},
    {qwen2, "\"num_attention_heads\": 14", "\"num_attention_heads\": 0", COP_ERR_INVALID,
     "num_attention_heads is 0; 1 to 1048576 is expected"},
    {qwen2, "\"num_attention_heads\": 14", "\"num_attention_heads\": 13", COP_ERR_INVALID,
     "num_attention_heads is 13; a multiple of num_key_value_heads, 2, is expected"},
    {mistral, "\"num_attention_heads\": 32", "\"num_attention_heads\": 24", COP_ERR_INVALID,
     "head_dim is missing, and hidden_size, 4096, is no multiple of num_attention_heads, 24"},
    {llama, "\"head_dim\": 64", "\"head_dim\": 63", COP_ERR_INVALID, "32 heads of 63; an even"},
    {llama, "\"num_attention_heads\": 32", "\"num_attention_heads\": 1048576", COP_ERR_INVALID,
     "1048576 heads of 64; an even head_dim, and at most 1048576 together, are expected"},
    {qwen2, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0", COP_ERR_INVALID,
     "num_key_value_heads is 0; 1 to 1048576 is expected"},
    {qwen2, "\"vocab_size\": 151936", "\"vocab_size\": 1e9", COP_ERR_INVALID,
     "vocab_size is a number; an integer is expected"},
    {qwen2, "\"vocab_size\": 151936", "\"vocab_size\": 1000000000", COP_ERR_INVALID,
     "vocab_size is 1000000000; 1 to 16777216 is expected"},
    {qwen2, "\"max_position_embeddings\": 32768", "\"max_position_embeddings\": 0", COP_ERR_INVALID,
     "max_position_embeddings is 0; 1 to 134217728 is expected"},
    {qwen2, "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", COP_ERR_INVALID,
     "rms_norm_eps is -1; 1e-30 to 1 is expected"},
    {qwen2, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", COP_ERR_INVALID,
     "tie_word_embeddings is an integer; true or false is expected"},
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cop_checkpoint_config c = {.family = "untouched"};
        cop_error err = {.text = ""};
        char expected[512];
        char *text = edited(refused[i].text, refused[i].from, refused[i].to);
        cop_status status = parse(&c, text, &err);
        snprintf(expected, sizeof expected, "dir/config.json: %s", refused[i].message);
        if (status != refused[i].status || strncmp(err.text, expected, strlen(expected)) != 0)
            fail_msg("status %d, '%s' instead of '%s'", (int)status, err.text, expected);
        assert_int_equal(err.status, status);
        assert_string_equal(c.family, "untouched");
        assert_int_equal(parse(&c, text, NULL), status);
        free(text);
    }
    cop_checkpoint_config c;
    cop_error err;
    assert_int_equal(parse(&c, "[]", &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "dir/config.json: an array; an object is expected");
}

static cop_status parse_stops(uint32_t **stops, size_t *count, const char *text, cop_error *err)
{
    cop_json *root;
    assert_int_equal(cop_json_parse(&root, text, strlen(text), "test", NULL), COP_OK);
    cop_status status = cop_checkpoint_stops_parse(stops, count, root, 100, "g.json", err);
    cop_json_free(root);
    return status;
}

static void test_stops(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        uint32_t stops[2];
    } good[] = {
        {"{}", 0, {0}},
        {"{\"eos_token_id\": null}", 0, {0}},
        {"{\"eos_token_id\": []}", 0, {0}},
        {"{\"eos_token_id\": 0}", 1, {0}},
        {"{\"eos_token_id\": [99, 7]}", 2, {99, 7}},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint32_t *stops;
        size_t count;
        assert_int_equal(parse_stops(&stops, &count, good[i].text, NULL), COP_OK);
        assert_int_equal(count, good[i].count);
        if (count)
            assert_memory_equal(stops, good[i].stops, count * sizeof *stops);
        else
            assert_null(stops);
        free(stops);
    }
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"eos_token_id\": 100}",
         "g.json: eos_token_id is 100; a token below vocab_size, 100, is expected"},
        {"{\"eos_token_id\": [5, -1]}", "g.json: eos_token_id is -1; a token below"},
        {"{\"eos_token_id\": 4294967296}", "g.json: eos_token_id is 4294967296; a token below"},
        {"{\"eos_token_id\": \"</s>\"}",
         "g.json: eos_token_id is a string; a token or an array of tokens is expected"},
        {"{\"eos_token_id\": [5, null]}", "g.json: eos_token_id is null; a token or"},
        {"3", "g.json: an integer; an object is expected"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t *stops = NULL;
        size_t count = 7;
        cop_error err = {.text = ""};
        assert_int_equal(parse_stops(&stops, &count, bad[i].text, &err), COP_ERR_INVALID);
        if (strncmp(err.text, bad[i].message, strlen(bad[i].message)) != 0)
            fail_msg("'%s' instead of '%s'", err.text, bad[i].message);
        assert_null(stops);
        assert_int_equal(count, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),       cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_words_for_rope), cmocka_unit_test(test_windows_that_hide_nothing),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
