/* tokenizer.json: the file as a whole, its model and its added tokens. */
#include "tokenizer/internal.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_LARGEST = 256 << 20, HOLES_ALLOWED = 1 << 16 };

typedef struct {
    cop_tokenizer *t;
    const char *name;
    cop_error *err;
    cop_buffer text; /* scratch */
} loader;

static cop_status bad(loader *l, const char *where, const char *what)
{
    return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: %s", l->name, where, what);
}

/* ---- Ids: all of them are seen before anything is sized by them ---- */

typedef struct {
    uint32_t highest;
    size_t count;
} extent;

static cop_status see_id(loader *l, const cop_json *value, const char *token, const char *where,
                         extent *e, uint32_t *out)
{
    int64_t id;
    if (!cop_json_int(value, &id) || id < 0 || id >= COP_VOCAB_LARGEST)
        return cop_fail(l->err, COP_ERR_INVALID,
                        "%s: %s: the id of %s must be a number from 0 to %d", l->name, where,
                        cop_show(token, strlen(token)).text, COP_VOCAB_LARGEST - 1);
    if (e && (uint32_t)id > e->highest)
        e->highest = (uint32_t)id;
    if (e)
        e->count++;
    if (out)
        *out = (uint32_t)id;
    return COP_OK;
}

static cop_status measure(loader *l, const cop_json *vocab, const cop_json *added, extent *e)
{
    const char *key;
    const cop_json *value;
    cop_status status = COP_OK;
    if (cop_json_kind_of(vocab) != COP_JSON_OBJECT || cop_json_count(vocab) == 0)
        return bad(l, "model.vocab", "must be an object that gives each token its id");
    for (void *i = NULL; status == COP_OK && (i = cop_json_next(vocab, i, &key, &value));)
        status = see_id(l, value, key, "model.vocab", e, NULL);
    for (size_t i = 0; i < cop_json_count(added) && status == COP_OK; i++) {
        const cop_json *token = cop_json_at(added, i);
        const char *content = cop_json_string(cop_json_get(token, "content"), NULL);
        if (!content)
            return cop_fail(l->err, COP_ERR_INVALID,
                            "%s: added_tokens[%zu]: 'content' must be a string", l->name, i);
        status = see_id(l, cop_json_get(token, "id"), content, "added_tokens", e, NULL);
    }
    if (status == COP_OK && e->highest / 2 > e->count + HOLES_ALLOWED)
        return cop_fail(l->err, COP_ERR_INVALID, "%s: id %u is far beyond its %zu tokens", l->name,
                        e->highest, e->count);
    return status;
}

static cop_status put_token(loader *l, const char *where, const char *text, uint32_t id,
                            uint8_t flags)
{
    cop_vocab *vocab = &l->t->vocab;
    if (vocab->flags[id])
        return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: %s and %s have the same id, %u", l->name,
                        where, cop_show_token(l->t, id).text, cop_show(text, strlen(text)).text,
                        id);
    cop_vocab_put(vocab, id, text, strlen(text), flags);
    return COP_OK;
}

/* ---- The model ---- */

static cop_status load_vocab(loader *l, const cop_json *vocab)
{
    const char *key;
    const cop_json *value;
    uint32_t id = 0;
    cop_status status = COP_OK;
    for (void *i = NULL; status == COP_OK && (i = cop_json_next(vocab, i, &key, &value));) {
        status = see_id(l, value, key, "model.vocab", NULL, &id);
        if (status == COP_OK)
            status = put_token(l, "model.vocab", key, id, COP_TOKEN_MODEL);
    }
    return status;
}

/* The two sides of a merge: ["a", "b"], or "a b" with one space. */
static bool merge_sides(const cop_json *merge, const char *sides[2], size_t bytes[2])
{
    size_t length;
    const char *line = cop_json_string(merge, &length);
    if (line) {
        const char *space = memchr(line, ' ', length);
        if (!space || memchr(space + 1, ' ', (size_t)(line + length - space - 1)))
            return false;
        sides[0] = line;
        sides[1] = space + 1;
        bytes[0] = (size_t)(space - line);
        bytes[1] = length - bytes[0] - 1;
        return true;
    }
    if (cop_json_kind_of(merge) != COP_JSON_ARRAY || cop_json_count(merge) != 2)
        return false;
    for (size_t i = 0; i < 2; i++)
        if (!(sides[i] = cop_json_string(cop_json_at(merge, i), &bytes[i])))
            return false;
    return true;
}

static cop_status unknown_in_merge(loader *l, size_t index, const char *what, const char *text,
                                   size_t bytes, const char *sides[2], size_t lengths[2])
{
    return cop_fail(l->err, COP_ERR_INVALID,
                    "%s: model.merges[%zu], %s with %s: %s %s is not in the vocabulary", l->name,
                    index, cop_show(sides[0], lengths[0]).text, cop_show(sides[1], lengths[1]).text,
                    what, cop_show(text, bytes).text);
}

static cop_status load_merge(loader *l, const cop_json *merge, size_t index)
{
    const char *sides[2];
    size_t bytes[2];
    uint32_t ids[2];
    if (!merge_sides(merge, sides, bytes))
        return cop_fail(l->err, COP_ERR_INVALID,
                        "%s: model.merges[%zu] must be two tokens: [\"a\", \"b\"] or \"a b\"",
                        l->name, index);
    l->text.size = 0;
    for (size_t i = 0; i < 2; i++) {
        ids[i] = cop_vocab_find_model(&l->t->vocab, sides[i], bytes[i]);
        if (ids[i] == COP_NO_TOKEN)
            return unknown_in_merge(l, index, "token", sides[i], bytes[i], sides, bytes);
        cop_buffer_put(&l->text, sides[i], bytes[i]);
    }
    const char *product = l->text.size ? (const char *)l->text.data : "";
    uint32_t id = cop_vocab_find_model(&l->t->vocab, product, l->text.size);
    if (id == COP_NO_TOKEN)
        return unknown_in_merge(l, index, "product", product, l->text.size, sides, bytes);
    cop_merges_put(
        &l->t->merges,
        (cop_merge){.left = ids[0], .right = ids[1], .rank = (uint32_t)index, .product = id});
    return COP_OK;
}

static cop_status load_merges(loader *l, const cop_json *merges)
{
    size_t count = cop_json_count(merges);
    if (cop_json_kind_of(merges) != COP_JSON_ARRAY)
        return bad(l, "model.merges", "must be an array");
    cop_merges_init(&l->t->merges, count);
    cop_status status = COP_OK;
    for (size_t i = 0; i < count && status == COP_OK; i++)
        status = load_merge(l, cop_json_at(merges, i), i);
    return status;
}

static cop_status load_flag(loader *l, const cop_json *model, const char *key, bool *out)
{
    const cop_json *value = cop_json_get(model, key);
    if (value && !cop_json_bool(value, out))
        return cop_fail(l->err, COP_ERR_INVALID, "%s: model.%s must be true or false", l->name,
                        key);
    return COP_OK;
}

static cop_status refuse_affixes(loader *l, const cop_json *model)
{
    static const char *const keys[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        size_t bytes = 1;
        const cop_json *value = cop_json_get(model, keys[i]);
        if (value && (!cop_json_string(value, &bytes) || bytes > 0))
            return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: model.%s is not understood", l->name,
                            keys[i]);
    }
    double dropout;
    const cop_json *value = cop_json_get(model, "dropout");
    if (value && (!cop_json_number(value, &dropout) || dropout != 0))
        return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: model.dropout is not understood",
                        l->name);
    return COP_OK;
}

static void find_byte_tokens(cop_tokenizer *t)
{
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        t->byte_token[i] = cop_vocab_find_model(&t->vocab, text, 6);
    }
}

static cop_status load_model(loader *l, const cop_json *model)
{
    cop_tokenizer *t = l->t;
    cop_status status = load_vocab(l, cop_json_get(model, "vocab"));
    if (status == COP_OK)
        status = load_merges(l, cop_json_get(model, "merges"));
    if (status == COP_OK)
        status = refuse_affixes(l, model);
    if (status == COP_OK)
        status = load_flag(l, model, "byte_fallback", &t->byte_fallback);
    if (status == COP_OK)
        status = load_flag(l, model, "fuse_unk", &t->fuse_unknown);
    if (status == COP_OK)
        status = load_flag(l, model, "ignore_merges", &t->ignore_merges);
    const cop_json *unknown = cop_json_get(model, "unk_token");
    if (status != COP_OK || !unknown) {
        find_byte_tokens(t);
        return status;
    }
    size_t bytes;
    const char *text = cop_json_string(unknown, &bytes);
    t->unknown = text ? cop_vocab_find_model(&t->vocab, text, bytes) : COP_NO_TOKEN;
    if (t->unknown == COP_NO_TOKEN)
        return bad(l, "model.unk_token", "is not in the vocabulary");
    find_byte_tokens(t);
    return COP_OK;
}

/* ---- Added tokens ---- */

static cop_status load_added(loader *l, const cop_json *token, size_t index)
{
    static const char *const keys[] = {"special", "normalized", "lstrip", "rstrip", "single_word"};
    bool is[5] = {false};
    cop_tokenizer *t = l->t;
    size_t bytes;
    uint32_t id = 0;
    const char *content = cop_json_string(cop_json_get(token, "content"), &bytes);
    for (size_t i = 0; i < 5; i++) {
        const cop_json *value = cop_json_get(token, keys[i]);
        if (value && !cop_json_bool(value, &is[i]))
            return cop_fail(l->err, COP_ERR_INVALID,
                            "%s: added_tokens[%zu]: '%s' must be true or false", l->name, index,
                            keys[i]);
    }
    if (bytes > COP_ADDED_LONGEST)
        return cop_fail(l->err, COP_ERR_UNSUPPORTED,
                        "%s: added_tokens[%zu]: %s is longer than %d bytes", l->name, index,
                        cop_show(content, bytes).text, COP_ADDED_LONGEST);
    cop_status status = see_id(l, cop_json_get(token, "id"), content, "added_tokens", NULL, &id);
    if (status != COP_OK)
        return status;
    uint32_t known = cop_vocab_find(&t->vocab, content, bytes);
    if (known != COP_NO_TOKEN && known != id)
        return cop_fail(l->err, COP_ERR_INVALID, "%s: added_tokens[%zu]: %s has two ids, %u and %u",
                        l->name, index, cop_show(content, bytes).text, known, id);
    if (known == COP_NO_TOKEN)
        status = put_token(l, "added_tokens", content, id, 0);
    if (status != COP_OK)
        return status;
    t->vocab.flags[id] |= (uint8_t)(COP_TOKEN_ADDED | (is[0] ? COP_TOKEN_SPECIAL : 0));
    uint8_t flags = (uint8_t)((is[2] ? COP_ADDED_LSTRIP : 0) | (is[3] ? COP_ADDED_RSTRIP : 0) |
                              (is[4] ? COP_ADDED_SINGLE_WORD : 0));
    t->vocab.flags[id] &= (uint8_t)~COP_TOKEN_RESPELLED;
    if (!is[1]) {
        cop_added_put(&t->added, content, bytes, id, flags);
        return COP_OK;
    }
    /* Looked for in normalised text, so as normalised itself, and decoded as that too: what it
     * took from the text, a mark that the normaliser put there, it gives back. */
    const char *shown = content;
    size_t length = bytes;
    content = cop_normalise(&t->normaliser, content, bytes, COP_ADDED_LONGEST, &bytes);
    if (!content)
        return cop_fail(l->err, COP_ERR_UNSUPPORTED,
                        "%s: added_tokens[%zu]: the normalizer makes more than %d bytes of %s",
                        l->name, index, COP_ADDED_LONGEST, cop_show(shown, length).text);
    cop_added_put(&t->added_normalised, content, bytes, id, flags);
    t->vocab.flags[id] |= COP_TOKEN_RESPELLED;
    cop_vocab_mean(&t->vocab, id, content, bytes);
    return COP_OK;
}

/* ---- The file ---- */

static cop_status refuse_rest(loader *l, const cop_json *root)
{
    static const char *const keys[] = {"truncation", "padding"};
    if (cop_json_kind_of(root) != COP_JSON_OBJECT)
        return cop_fail(l->err, COP_ERR_INVALID, "%s: must be an object", l->name);
    for (size_t i = 0; i < 2; i++)
        if (cop_json_get(root, keys[i]))
            return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: %s is not understood", l->name,
                            keys[i]);
    const cop_json *model = cop_json_get(root, "model");
    if (cop_json_kind_of(model) != COP_JSON_OBJECT)
        return bad(l, "model", "must be an object");
    const cop_json *added = cop_json_get(root, "added_tokens");
    if (added && cop_json_kind_of(added) != COP_JSON_ARRAY)
        return bad(l, "added_tokens", "must be an array");
    /* Files of before there were other models have no type. */
    const char *type = cop_json_string(cop_json_get(model, "type"), NULL);
    if (cop_json_get(model, "type") && (!type || strcmp(type, "BPE") != 0))
        return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: model.type: %s is not understood; BPE is",
                        l->name, type ? cop_show(type, strlen(type)).text : "what is no string");
    return COP_OK;
}

static cop_status load(loader *l, const cop_json *root)
{
    cop_tokenizer *t = l->t;
    extent e = {0};
    cop_status status = refuse_rest(l, root);
    const cop_json *model = cop_json_get(root, "model"),
                   *added = cop_json_get(root, "added_tokens");
    if (status == COP_OK)
        status = measure(l, cop_json_get(model, "vocab"), added, &e);
    if (status != COP_OK)
        return status;
    cop_vocab_init(&t->vocab, e.highest + 1, e.count);
    status = load_model(l, model);
    if (status == COP_OK)
        status = cop_load_normaliser(t, cop_json_get(root, "normalizer"), l->name, l->err);
    for (size_t i = 0; i < cop_json_count(added) && status == COP_OK; i++)
        status = load_added(l, cop_json_at(added, i), i);
    if (status == COP_OK)
        status = cop_load_pre_tokenizer(t, cop_json_get(root, "pre_tokenizer"), l->name, l->err);
    if (status == COP_OK)
        status = cop_load_post_processor(t, cop_json_get(root, "post_processor"), l->name, l->err);
    if (status == COP_OK)
        status = cop_load_decoder(t, cop_json_get(root, "decoder"), l->name, l->err);
    return status;
}

static cop_status build(cop_tokenizer **out, const cop_json *root, const char *name, cop_error *err)
{
    cop_tokenizer *t = cop_calloc(1, sizeof *t);
    t->unknown = COP_NO_TOKEN;
    loader l = {.t = t, .name = name, .err = err};
    cop_status status = load(&l, root);
    cop_buffer_fini(&l.text);
    if (status != COP_OK) {
        cop_tokenizer_close(t);
        return status;
    }
    *out = t;
    return COP_OK;
}

cop_status cop_tokenizer_parse(cop_tokenizer **out, const char *json, size_t bytes,
                               const char *name, cop_error *err)
{
    cop_json *root;
    if (bytes > FILE_LARGEST)
        return cop_fail(err, COP_ERR_INVALID, "%s: of %zu bytes; at most %d are read", name, bytes,
                        FILE_LARGEST);
    cop_status status = cop_json_parse(&root, json, bytes, name, err);
    if (status != COP_OK)
        return status;
    status = build(out, root, name, err);
    cop_json_free(root);
    return status;
}

cop_status cop_tokenizer_open(cop_tokenizer **out, const char *path, cop_error *err)
{
    struct stat st;
    cop_buffer file = {0};
    cop_buffer_put(&file, path, strlen(path));
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        cop_buffer_put(&file, "/tokenizer.json", strlen("/tokenizer.json"));
    cop_buffer_put(&file, "", 1);
    cop_json *root;
    const char *name = (const char *)file.data;
    cop_status status = cop_json_load(&root, name, FILE_LARGEST, err);
    if (status == COP_OK) {
        status = build(out, root, name, err);
        cop_json_free(root);
    }
    cop_buffer_fini(&file);
    if (status == COP_ERR_IO) { /* a wrong path is bad input */
        status = COP_ERR_INVALID;
        if (err)
            err->status = status;
    }
    return status;
}

static void stage_fini(cop_stage *stage)
{
    cop_regex_close(stage->regex);
    free(stage->mark.pattern);
    free(stage->mark.content);
    cop_buffer_fini(&stage->scratch);
}

void cop_tokenizer_close(cop_tokenizer *t)
{
    if (!t)
        return;
    cop_vocab_fini(&t->vocab);
    cop_merges_fini(&t->merges);
    cop_added_fini(&t->added);
    cop_added_fini(&t->added_normalised);
    cop_normaliser_fini(&t->normaliser);
    for (size_t i = 0; i < t->stage_count; i++)
        stage_fini(&t->stages[i]);
    free(t->before.ids);
    free(t->after.ids);
    cop_word_cache_fini(&t->cache);
    free(t->symbols.ids);
    cop_buffer_fini(&t->repaired);
    cop_buffer_fini(&t->spelled);
    free(t);
}
