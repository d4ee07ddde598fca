#include "model/checkpoint_config.h"

#include "base/alloc.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 20, /* hidden, ffn, heads times head_dim */
    MAX_HEAD_DIM = 1024,
    MAX_VOCAB = 1 << 24,
    MAX_CONTEXT = 1 << 27,
    REQUIRED = -1,
    SHOWN = 100 /* bytes of a quoted value */
};

/* The class, and its defaults where the families differ. */
typedef struct {
    const char *name, *class_name;
    int32_t kv_heads, head_dim, max_context; /* 0: q_heads; hidden / q_heads */
    bool qkv_bias, qk_norm;
    bool window_switch;  /* a window needs use_sliding_window, and starts at max_window_layers */
    bool default_window; /* a window of 4096, if the key is absent, but not if it is null */
} family;

static const family families[] = {
    {"qwen2", "Qwen2ForCausalLM", 32, 0, 32768, true, false, true, true},
    {"qwen3", "Qwen3ForCausalLM", 32, 128, 32768, false, true, true, true},
    {"llama", "LlamaForCausalLM", 0, 0, 2048, false, false, false, false},
    {"mistral", "MistralForCausalLM", 8, 0, 131072, false, false, false, true},
};
enum { FAMILIES = sizeof families / sizeof *families, DEFAULT_WINDOW = 4096 };
static const double default_theta = 10000, default_epsilon = 1e-6;

/* The first failure stays; what is read after it is not used. */
typedef struct {
    const cop_json *root;
    const char *file;
    cop_error *err;
    cop_status status;
} reader;

__attribute__((format(printf, 3, 4))) static void fail(reader *r, cop_status status,
                                                       const char *format, ...)
{
    char text[COP_ERROR_TEXT];
    va_list args;
    if (r->status != COP_OK)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->status = cop_fail(r->err, status, "%s: %s", r->file, text);
}

static void fail_kind(reader *r, const char *key, const cop_json *value, const char *expected)
{
    fail(r, COP_ERR_INVALID, "%s is %s; %s is expected", key,
         cop_json_kind_name(cop_json_kind_of(value)), expected);
}

static int64_t integer(reader *r, const char *key, int64_t absent, int64_t least, int64_t most)
{
    const cop_json *value = cop_json_get(r->root, key);
    int64_t x = absent;
    if (!value && absent == REQUIRED)
        fail(r, COP_ERR_INVALID, "%s is missing", key);
    else if (value && !cop_json_int(value, &x))
        fail_kind(r, key, value, "an integer");
    else if (value && (x < least || x > most))
        fail(r, COP_ERR_INVALID, "%s is %" PRId64 "; %" PRId64 " to %" PRId64 " is expected", key,
             x, least, most);
    return r->status == COP_OK ? x : least;
}

/* absent 0: required. `where` of the message: "" or "rope_scaling.". */
static double number(reader *r, const cop_json *object, const char *where, const char *key,
                     double absent, double least, double most)
{
    const cop_json *value = cop_json_get(object, key);
    char name[64];
    double x = absent;
    snprintf(name, sizeof name, "%s%s", where, key);
    if (!value && absent == 0)
        fail(r, COP_ERR_INVALID, "%s is missing", name);
    else if (value && !cop_json_number(value, &x))
        fail_kind(r, name, value, "a number");
    else if (value && !(x >= least && x <= most))
        fail(r, COP_ERR_INVALID, "%s is %g; %g to %g is expected", name, x, least, most);
    return r->status == COP_OK ? x : least;
}

static bool boolean(reader *r, const char *key)
{
    const cop_json *value = cop_json_get(r->root, key);
    bool x = false;
    if (value && !cop_json_bool(value, &x))
        fail_kind(r, key, value, "true or false");
    return x;
}

/* NULL if there is none. */
static const char *string(reader *r, const cop_json *object, const char *key)
{
    const cop_json *value = cop_json_get(object, key);
    const char *text = value ? cop_json_string(value, NULL) : NULL;
    if (value && !text)
        fail_kind(r, key, value, "a string");
    return text;
}

static bool has_key(const cop_json *object, const char *wanted)
{
    const char *key;
    const cop_json *value;
    for (void *i = NULL; (i = cop_json_next(object, i, &key, &value));)
        if (strcmp(key, wanted) == 0)
            return true;
    return false;
}

/* What would make it another model, whatever the model is called. */
static void check_foreign_parts(reader *r)
{
    static const char *const experts[] = {"num_experts", "num_local_experts", "n_routed_experts",
                                          "num_experts_per_tok", "moe_intermediate_size"};
    static const char *const quantised[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++)
        if (cop_json_get(r->root, experts[i]))
            fail(r, COP_ERR_UNSUPPORTED,
                 "%s: a mixture of experts is not supported; only dense models are", experts[i]);
    for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++) {
        const cop_json *value = cop_json_get(r->root, quantised[i]);
        const char *method = value ? string(r, value, "quant_method") : NULL;
        if (value)
            fail(r, COP_ERR_UNSUPPORTED,
                 "%s (%.*s): quantised weights are not supported; F32, F16 and BF16 are",
                 quantised[i], SHOWN, method ? method : "of a method it does not name");
    }
    if (boolean(r, "mlp_bias"))
        fail(r, COP_ERR_UNSUPPORTED, "mlp_bias: biases of gate, up and down are not supported");
    const char *activation = string(r, r->root, "hidden_act");
    if (activation && strcmp(activation, "silu") != 0)
        fail(r, COP_ERR_UNSUPPORTED, "hidden_act '%.*s' is not supported; only 'silu' is", SHOWN,
             activation);
}

static const family *find_family(reader *r)
{
    const char *names[FAMILIES];
    for (size_t i = 0; i < FAMILIES; i++)
        names[i] = families[i].name;
    const char *type = string(r, r->root, "model_type");
    if (!type)
        fail(r, COP_ERR_INVALID,
             "model_type is missing; qwen2, qwen3, llama or mistral is expected");
    for (size_t i = 0; type && i < FAMILIES; i++)
        if (strcmp(type, names[i]) == 0)
            return &families[i];
    const char *near = type ? cop_nearest(type, names, FAMILIES) : NULL;
    fail(r, COP_ERR_UNSUPPORTED,
         "model_type '%.*s' is not supported%s%s%s (qwen2, qwen3, llama, mistral)", SHOWN,
         type ? type : "", near ? "; the nearest is '" : "", near ? near : "", near ? "'" : "");
    return NULL;
}

/* The same body under another head (classification, reward) has no logits of tokens. */
static void check_class(reader *r, const family *f)
{
    const cop_json *list = cop_json_get(r->root, "architectures");
    if (!list)
        return;
    if (cop_json_kind_of(list) != COP_JSON_ARRAY) {
        fail_kind(r, "architectures", list, "an array of strings");
        return;
    }
    const char *first = NULL;
    for (size_t i = 0; i < cop_json_count(list); i++) {
        const char *name = cop_json_string(cop_json_at(list, i), NULL);
        if (!name)
            fail_kind(r, "an element of architectures", cop_json_at(list, i), "a string");
        else if (strcmp(name, f->class_name) == 0)
            return;
        first = first ? first : name;
    }
    fail(r, COP_ERR_UNSUPPORTED,
         "architectures: '%.*s' is not supported; for model_type '%s' only '%s' is", SHOWN,
         first ? first : "", f->name, f->class_name);
}

static uint32_t multiple_of_64(reader *r, const char *key)
{
    int64_t x = integer(r, key, REQUIRED, 64, MAX_WIDTH);
    if (x % 64)
        fail(r, COP_ERR_UNSUPPORTED, "%s is %" PRId64 "; a multiple of 64 is expected", key, x);
    return (uint32_t)x;
}

static void read_sizes(reader *r, const family *f, cop_geometry *g)
{
    g->layers = (uint32_t)integer(r, "num_hidden_layers", REQUIRED, 1, MAX_LAYERS);
    g->hidden = multiple_of_64(r, "hidden_size");
    g->ffn = multiple_of_64(r, "intermediate_size");
    g->vocab = (uint32_t)integer(r, "vocab_size", REQUIRED, 1, MAX_VOCAB);
    g->max_context =
        (uint32_t)integer(r, "max_position_embeddings", f->max_context, 1, MAX_CONTEXT);
    g->q_heads = (uint32_t)integer(r, "num_attention_heads", REQUIRED, 1, MAX_WIDTH);
    /* null stands for as many as query heads, wherever the key's own default is another */
    int64_t kv_heads = has_key(r->root, "num_key_value_heads") ? 0 : f->kv_heads;
    kv_heads = integer(r, "num_key_value_heads", kv_heads, 1, MAX_WIDTH);
    g->kv_heads = kv_heads ? (uint32_t)kv_heads : g->q_heads;
    if (g->q_heads % g->kv_heads)
        fail(r, COP_ERR_INVALID,
             "num_attention_heads is %u; a multiple of num_key_value_heads, %u, is expected",
             g->q_heads, g->kv_heads);
    int64_t head_dim = integer(r, "head_dim", f->head_dim, 2, MAX_HEAD_DIM);
    if (head_dim == 0 && g->hidden % g->q_heads)
        fail(r, COP_ERR_INVALID,
             "head_dim is missing, and hidden_size, %u, is no multiple of num_attention_heads, %u",
             g->hidden, g->q_heads);
    head_dim = head_dim ? head_dim : g->hidden / g->q_heads;
    if (head_dim % 2 || (uint64_t)head_dim * g->q_heads > MAX_WIDTH)
        fail(r, COP_ERR_INVALID,
             "%u heads of %" PRId64 "; an even head_dim, and at most %d together, are expected",
             g->q_heads, head_dim, MAX_WIDTH);
    g->head_dim = (uint32_t)head_dim;
}

/* A window that no context outgrows is none. */
static void check_window(reader *r, const family *f, const cop_geometry *g)
{
    const cop_json *types = cop_json_get(r->root, "layer_types");
    if (types && cop_json_kind_of(types) != COP_JSON_ARRAY)
        fail_kind(r, "layer_types", types, "an array of strings");
    for (size_t i = 0; i < cop_json_count(types); i++) {
        const char *type = cop_json_string(cop_json_at(types, i), NULL);
        if (!type)
            fail_kind(r, "an element of layer_types", cop_json_at(types, i), "a string");
        else if (strcmp(type, "full_attention") != 0)
            fail(r, COP_ERR_UNSUPPORTED,
                 "layer_types: '%.*s' is not supported; only 'full_attention' is", SHOWN, type);
    }
    if (!f->default_window)
        return;
    int64_t absent = has_key(r->root, "sliding_window") ? 0 : DEFAULT_WINDOW;
    int64_t window = integer(r, "sliding_window", absent, 0, INT64_MAX);
    if (f->window_switch) {
        bool used = boolean(r, "use_sliding_window");
        int64_t first = integer(r, "max_window_layers", 28, 0, INT64_MAX);
        if (!used || types || first >= g->layers)
            return;
    }
    if (window && window < g->max_context)
        fail(r, COP_ERR_UNSUPPORTED,
             "sliding_window is %" PRId64 " tokens%s and in use, as max_position_embeddings is %u; "
             "only attention to the whole context is supported",
             window, absent ? " (the default)" : "", g->max_context);
}

static void read_rope_scaling(reader *r, const cop_json *rope, const char *key, cop_geometry *g)
{
    const char *type = string(r, rope, "rope_type");
    type = type ? type : string(r, rope, "type"); /* before transformers 4.43 */
    char where[32];
    snprintf(where, sizeof where, "%s.", key);
    if (!type && cop_json_get(rope, "factor"))
        fail(r, COP_ERR_UNSUPPORTED,
             "%s has a factor but no rope_type; 'default' and 'llama3' are "
             "supported",
             key);
    if (!type || strcmp(type, "default") == 0)
        return;
    if (strcmp(type, "llama3") != 0) {
        fail(r, COP_ERR_UNSUPPORTED, "%s: '%.*s' is not supported; 'default' and 'llama3' are", key,
             SHOWN, type);
        return;
    }
    cop_rope_scaling *s = &g->rope_scaling;
    s->factor = number(r, rope, where, "factor", 0, 1, 1e6);
    s->low_freq_factor = number(r, rope, where, "low_freq_factor", 0, 1e-3, 1e6);
    s->high_freq_factor = number(r, rope, where, "high_freq_factor", 0, 1e-3, 1e6);
    s->original_context =
        number(r, rope, where, "original_max_position_embeddings", g->max_context, 1, MAX_CONTEXT);
    if (s->high_freq_factor <= s->low_freq_factor)
        fail(r, COP_ERR_INVALID,
             "%shigh_freq_factor is %g; more than low_freq_factor, %g, is expected", where,
             s->high_freq_factor, s->low_freq_factor);
}

static void read_rope(reader *r, cop_geometry *g)
{
    const char *const keys[] = {"rope_parameters", "rope_scaling"};
    const cop_json *rope = cop_json_get(r->root, keys[0]);
    const cop_json *scaling = cop_json_get(r->root, keys[1]);
    const char *key = rope ? keys[0] : keys[1];
    if (rope && scaling)
        fail(r, COP_ERR_INVALID,
             "rope_parameters and rope_scaling are both there; one is expected");
    rope = rope ? rope : scaling;
    g->rope_theta = number(r, r->root, "", "rope_theta", default_theta, 1, 1e15);
    double rotated = number(r, r->root, "", "partial_rotary_factor", 1, 0, 1);
    if (rope && cop_json_kind_of(rope) != COP_JSON_OBJECT)
        fail_kind(r, key, rope, "an object or null");
    const char *name;
    const cop_json *value;
    for (void *i = NULL; rope && (i = cop_json_next(rope, i, &name, &value));)
        if (cop_json_kind_of(value) == COP_JSON_OBJECT)
            fail(r, COP_ERR_UNSUPPORTED, "%s.%.*s: parameters by type of layer are not supported",
                 key, SHOWN, name);
    if (rope && r->status == COP_OK) {
        g->rope_theta = number(r, rope, "rope_parameters.", "rope_theta", g->rope_theta, 1, 1e15);
        rotated = number(r, rope, "rope_parameters.", "partial_rotary_factor", rotated, 0, 1);
        read_rope_scaling(r, rope, key, g);
    }
    if (rotated != 1)
        fail(r, COP_ERR_UNSUPPORTED, "partial_rotary_factor is %g; only 1 is supported", rotated);
}

cop_status cop_checkpoint_config_parse(cop_checkpoint_config *out, const cop_json *root,
                                       const char *file, cop_error *err)
{
    reader r = {.root = root, .file = file, .err = err, .status = COP_OK};
    cop_geometry g = {0};
    if (cop_json_kind_of(root) != COP_JSON_OBJECT)
        return cop_fail(err, COP_ERR_INVALID, "%s: %s; an object is expected", file,
                        cop_json_kind_name(cop_json_kind_of(root)));
    check_foreign_parts(&r);
    const family *f = r.status == COP_OK ? find_family(&r) : NULL;
    if (!f)
        return r.status;
    check_class(&r, f);
    if (boolean(&r, "attention_bias") && !f->qkv_bias)
        fail(&r, COP_ERR_UNSUPPORTED,
             "attention_bias: a bias of o_proj is not supported; qwen2 has those of q, k and v");
    read_sizes(&r, f, &g);
    check_window(&r, f, &g);
    read_rope(&r, &g);
    g.rms_epsilon = (float)number(&r, root, "", "rms_norm_eps", default_epsilon, 1e-30, 1);
    g.tied_embeddings = boolean(&r, "tie_word_embeddings");
    g.qkv_bias = f->qkv_bias;
    g.qk_norm = f->qk_norm;
    if (r.status == COP_OK)
        *out = (cop_checkpoint_config){.geometry = g, .family = f->name};
    return r.status;
}

static uint32_t read_stop(reader *r, const cop_json *value, uint32_t vocab)
{
    int64_t token = 0;
    if (!cop_json_int(value, &token))
        fail_kind(r, "eos_token_id", value, "a token or an array of tokens");
    else if (token < 0 || token >= vocab)
        fail(r, COP_ERR_INVALID,
             "eos_token_id is %" PRId64 "; a token below vocab_size, %u, is expected", token,
             vocab);
    return (uint32_t)token;
}

cop_status cop_checkpoint_stops_parse(uint32_t **out, size_t *count, const cop_json *root,
                                      uint32_t vocab, const char *file, cop_error *err)
{
    reader r = {.root = root, .file = file, .err = err, .status = COP_OK};
    if (cop_json_kind_of(root) != COP_JSON_OBJECT)
        return cop_fail(err, COP_ERR_INVALID, "%s: %s; an object is expected", file,
                        cop_json_kind_name(cop_json_kind_of(root)));
    const cop_json *value = cop_json_get(root, "eos_token_id");
    bool list = value && cop_json_kind_of(value) == COP_JSON_ARRAY;
    size_t n = list ? cop_json_count(value) : value != NULL;
    uint32_t *stops = n ? cop_malloc(n * sizeof *stops) : NULL;
    for (size_t i = 0; i < n; i++)
        stops[i] = read_stop(&r, list ? cop_json_at(value, i) : value, vocab);
    if (r.status != COP_OK) {
        free(stops);
        return r.status;
    }
    *out = stops;
    *count = n;
    return COP_OK;
}
