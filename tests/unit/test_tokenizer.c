/* The tokenizer: what Hugging Face `tokenizers` said of the lines in tests/data/tokenizers, every
 * flaw of a file named, ill-formed text, streams. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file_map.h"
#include "base/json.h"
#include "base/request.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA COP_SOURCE_DIR "/tests/data/tokenizers/"

/* ---- Files made here, one part changed at a time ---- */

typedef struct {
    const char *vocab, *merges, *model, *normalizer, *pre_tokenizer, *post_processor, *decoder,
        *added, *root;
} parts;

static const parts good = {
    .vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"c\":3}",
    .merges = "[[\"a\",\"b\"]]",
    .model = "",
    .normalizer = "null",
    .pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}",
    .post_processor = "null",
    .decoder = "{\"type\":\"ByteLevel\"}",
    .added = "[{\"id\":4,\"content\":\"<s>\",\"special\":true}]",
    .root = "",
};

static char *write_json(const parts *p)
{
    char *json;
    assert_true(asprintf(&json,
                         "{\"version\":\"1.0\",\"added_tokens\":%s,\"normalizer\":%s,"
                         "\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,%s"
                         "\"model\":{\"type\":\"BPE\",%s\"vocab\":%s,\"merges\":%s}}",
                         p->added, p->normalizer, p->pre_tokenizer, p->post_processor, p->decoder,
                         p->root, p->model, p->vocab, p->merges) > 0);
    return json;
}

static cop_tokenizer *open_parts(const parts *p)
{
    cop_tokenizer *t;
    cop_error err = {0};
    char *json = write_json(p);
    if (cop_tokenizer_parse(&t, json, strlen(json), "t.json", &err) != COP_OK)
        fail_msg("%s", err.text);
    free(json);
    return t;
}

static void refused(const parts *p, cop_status status, const char *message)
{
    cop_tokenizer *t = NULL;
    cop_error err = {0};
    char *json = write_json(p);
    assert_int_equal(cop_tokenizer_parse(&t, json, strlen(json), "t.json", &err), status);
    assert_null(t);
    assert_string_equal(err.text, message);
    free(json);
}

#define REFUSED(member, value, status, message)  \
    do {                                         \
        parts changed_ = good;                   \
        changed_.member = (value);               \
        refused(&changed_, (status), (message)); \
    } while (0)

static void expect_ids(cop_tokenizer *t, const char *text, size_t bytes, unsigned flags,
                       const uint32_t *ids, size_t count)
{
    cop_tokens tokens = {0};
    cop_error err = {0};
    if (cop_tokenizer_encode(t, text, bytes, flags, &tokens, &err) != COP_OK)
        fail_msg("%s", err.text);
    assert_int_equal(tokens.count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(tokens.ids[i], ids[i]);
    free(tokens.ids);
}

#define EXPECT(t, text, flags, ...)                                               \
    expect_ids((t), (text), sizeof(text) - 1, (flags), (uint32_t[]){__VA_ARGS__}, \
               sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void test_vocabulary_flaws(void **state)
{
    REFUSED(vocab, "{}", COP_ERR_INVALID,
            "t.json: model.vocab: must be an object that gives each token its id");
    REFUSED(vocab, "{\"a\":-1}", COP_ERR_INVALID,
            "t.json: model.vocab: the id of 'a' must be a number from 0 to 16777215");
    REFUSED(vocab, "{\"a\":16777216}", COP_ERR_INVALID,
            "t.json: model.vocab: the id of 'a' must be a number from 0 to 16777215");
    REFUSED(vocab, "{\"a\":\"x\"}", COP_ERR_INVALID,
            "t.json: model.vocab: the id of 'a' must be a number from 0 to 16777215");
    REFUSED(vocab, "{\"a\":16777215}", COP_ERR_INVALID,
            "t.json: id 16777215 is far beyond its 2 tokens");
    REFUSED(vocab, "{\"a\":0,\"b\":1,\"ab\":1}", COP_ERR_INVALID,
            "t.json: model.vocab: 'b' and 'ab' have the same id, 1");
    REFUSED(added, "[{\"id\":1,\"content\":\"<s>\"}]", COP_ERR_INVALID,
            "t.json: added_tokens: 'b' and '<s>' have the same id, 1");
    REFUSED(added, "[{\"id\":9,\"content\":\"ab\"}]", COP_ERR_INVALID,
            "t.json: added_tokens[0]: 'ab' has two ids, 2 and 9");
    REFUSED(added, "[{\"id\":9}]", COP_ERR_INVALID,
            "t.json: added_tokens[0]: 'content' must be a string");
    REFUSED(added, "[{\"id\":9,\"content\":\"x\",\"special\":1}]", COP_ERR_INVALID,
            "t.json: added_tokens[0]: 'special' must be true or false");
}

static void test_merge_flaws(void **state)
{
    REFUSED(merges, "[[\"a\",\"b\"],[\"a\",\"zz\"]]", COP_ERR_INVALID,
            "t.json: model.merges[1], 'a' with 'zz': token 'zz' is not in the vocabulary");
    REFUSED(merges, "[\"zz b\"]", COP_ERR_INVALID,
            "t.json: model.merges[0], 'zz' with 'b': token 'zz' is not in the vocabulary");
    REFUSED(merges, "[\"b a\"]", COP_ERR_INVALID,
            "t.json: model.merges[0], 'b' with 'a': product 'ba' is not in the vocabulary");
    REFUSED(merges, "[\"a b c\"]", COP_ERR_INVALID,
            "t.json: model.merges[0] must be two tokens: [\"a\", \"b\"] or \"a b\"");
    REFUSED(merges, "[[\"a\",\"b\",\"c\"]]", COP_ERR_INVALID,
            "t.json: model.merges[0] must be two tokens: [\"a\", \"b\"] or \"a b\"");
    REFUSED(merges, "7", COP_ERR_INVALID, "t.json: model.merges: must be an array");
}

static void test_what_is_not_understood(void **state)
{
    REFUSED(model, "\"dropout\":0.1,", COP_ERR_UNSUPPORTED,
            "t.json: model.dropout is not understood");
    REFUSED(model, "\"continuing_subword_prefix\":\"##\",", COP_ERR_UNSUPPORTED,
            "t.json: model.continuing_subword_prefix is not understood");
    REFUSED(model, "\"end_of_word_suffix\":\"</w>\",", COP_ERR_UNSUPPORTED,
            "t.json: model.end_of_word_suffix is not understood");
    REFUSED(model, "\"unk_token\":\"<unk>\",", COP_ERR_INVALID,
            "t.json: model.unk_token: is not in the vocabulary");
    REFUSED(model, "\"fuse_unk\":3,", COP_ERR_INVALID,
            "t.json: model.fuse_unk must be true or false");
    REFUSED(root, "\"padding\":{},", COP_ERR_UNSUPPORTED, "t.json: padding is not understood");
    REFUSED(normalizer, "{\"type\":\"Lowercase\"}", COP_ERR_UNSUPPORTED,
            "t.json: normalizer: 'Lowercase' is not understood; NFC, Prepend, Replace and Sequence "
            "are");
    REFUSED(normalizer, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x\"},\"content\":\"\"}",
            COP_ERR_UNSUPPORTED, "t.json: normalizer: Replace by a regex is not understood");
    REFUSED(
        pre_tokenizer, "{\"type\":\"Whitespace\"}", COP_ERR_UNSUPPORTED,
        "t.json: pre_tokenizer: 'Whitespace' is not understood; ByteLevel, Split, Metaspace and "
        "Sequence are");
    REFUSED(
        pre_tokenizer,
        "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithNext\"}",
        COP_ERR_UNSUPPORTED,
        "t.json: pre_tokenizer: Split: behavior 'MergedWithNext' is not understood; Isolated and "
        "Removed are");
    REFUSED(post_processor, "{\"type\":\"BertProcessing\"}", COP_ERR_UNSUPPORTED,
            "t.json: post_processor: 'BertProcessing' is not understood; TemplateProcessing, "
            "ByteLevel and Sequence are");
    REFUSED(decoder, "null", COP_ERR_UNSUPPORTED,
            "t.json: decoder: none; ByteLevel, Metaspace or Sequence is needed");
    REFUSED(decoder, "{\"type\":\"WordPiece\"}", COP_ERR_UNSUPPORTED,
            "t.json: decoder: only ByteLevel, Metaspace and Sequence are understood");
}

static void refused_regex(const char *regex, cop_status status, const char *message)
{
    char json[256];
    snprintf(json, sizeof json,
             "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"}",
             regex);
    REFUSED(pre_tokenizer, json, status, message);
}

static void test_regexes_that_mean_other_things(void **state)
{
    refused_regex("a(b", COP_ERR_INVALID,
                  "t.json: pre_tokenizer: regex: missing closing parenthesis");
    refused_regex("\\\\p{Han}+", COP_ERR_UNSUPPORTED,
                  "t.json: pre_tokenizer: regex: only general categories are understood as "
                  "properties ('\\p{Han')");
    refused_regex("[a[b]]", COP_ERR_UNSUPPORTED,
                  "t.json: pre_tokenizer: regex: sets within a class ('[b]]')");
    refused_regex("\\\\w+", COP_ERR_UNSUPPORTED,
                  "t.json: pre_tokenizer: regex: an escape that is not understood ('\\w+')");
    refused_regex("a{1,3}+", COP_ERR_UNSUPPORTED,
                  "t.json: pre_tokenizer: regex: a quantifier that is not understood ('}+')");
    refused_regex("(?m:.)", COP_ERR_UNSUPPORTED,
                  "t.json: pre_tokenizer: regex: a group that is not understood ('(?m:.)')");
}

static void test_broken_json(void **state)
{
    static const char text[] = "{\"model\":\n{\"vocab\": {\"a\": 0,}}}";
    cop_tokenizer *t;
    cop_error err;
    assert_int_equal(cop_tokenizer_parse(&t, text, sizeof text - 1, "t.json", &err),
                     COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "t.json:2:"));
    assert_int_equal(cop_tokenizer_open(&t, "/nonexistent/tokenizer.json", &err), COP_ERR_INVALID);
    assert_int_equal(err.status, COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "/nonexistent/tokenizer.json"));
}

static void test_merging(void **state)
{
    cop_tokenizer *t = open_parts(&good);
    EXPECT(t, "abcab", 0, 2, 3, 2);
    EXPECT(t, "ba", 0, 1, 0);
    EXPECT(t, "a<s>b", COP_ENCODE_ADDED, 0, 4, 1);
    expect_ids(t, "", 0, COP_ENCODE_ADDED | COP_ENCODE_TEMPLATE, NULL, 0);
    assert_int_equal(cop_tokenizer_size(t), 5);
    assert_int_equal(cop_tokenizer_find(t, "ab"), 2);
    assert_int_equal(cop_tokenizer_find(t, "<s>"), 4);
    assert_int_equal(cop_tokenizer_find(t, "abc"), COP_NO_TOKEN);
    assert_true(cop_tokenizer_special(t, 4));
    assert_false(cop_tokenizer_special(t, 2));
    assert_false(cop_tokenizer_special(t, 5));
    cop_tokenizer_close(t);
}

static void test_missing_byte_leaves_the_output_alone(void **state)
{
    cop_tokenizer *t = open_parts(&good);
    cop_tokens tokens = {0};
    cop_error err;
    assert_int_equal(cop_tokenizer_encode(t, "ab", 2, 0, &tokens, &err), COP_OK);
    assert_int_equal(cop_tokenizer_encode(t, "abz", 3, 0, &tokens, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "the vocabulary has no token for 'z', nor one for unknown text");
    assert_int_equal(tokens.count, 1);
    free(tokens.ids);
    cop_tokenizer_close(t);
}

/* What follows is what tokenizers 0.23.3 says of the same files.
 *
 * Unknown characters: bytes if all are there, else the unknown token, fused or not. */
static void test_unknown_characters(void **state)
{
    parts p = good;
    p.pre_tokenizer = "null";
    p.vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"<0xC3>\":5,\"<0xA9>\":6}";
    p.model = "\"unk_token\":\"?\",";
    cop_tokenizer *t = open_parts(&p);
    EXPECT(t, "xxab\xc3\xa9", 0, 3, 3, 2, 3);
    cop_tokenizer_close(t);
    p.model = "\"unk_token\":\"?\",\"fuse_unk\":true,\"byte_fallback\":true,";
    t = open_parts(&p);
    EXPECT(t, "xxab\xc3\xa9", 0, 3, 2, 5, 6);
    EXPECT(t, "x\xc3\xa9y", 0, 5, 6, 3); /* the bytes overtake */
    cop_tokenizer_close(t);
}

static void test_stripping_added_tokens(void **state)
{
    parts p = good;
    p.vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"\xc4\xa0\":3}";
    p.added = "[{\"id\":4,\"content\":\"<l>\",\"lstrip\":true},"
              "{\"id\":5,\"content\":\"<r>\",\"rstrip\":true},"
              "{\"id\":6,\"content\":\"ba\",\"single_word\":true},"
              "{\"id\":7,\"content\":\"<r>a\"}]";
    cop_tokenizer *t = open_parts(&p);
    EXPECT(t, "a  <l> a", COP_ENCODE_ADDED, 0, 4, 3, 0);
    EXPECT(t, "a <r>  a", COP_ENCODE_ADDED, 0, 3, 5, 0);
    EXPECT(t, "<r> <l>", COP_ENCODE_ADDED, 5, 4);
    EXPECT(t, "ba bab ba", COP_ENCODE_ADDED, 6, 3, 1, 2, 3, 6);
    EXPECT(t, "<r>a", COP_ENCODE_ADDED, 7); /* the longest */
    cop_tokenizer_close(t);
}

/* Metaspace, whole and cut, by its scheme; the first token's mark is no space of the text. */
static void test_metaspace(void **state)
{
    parts p = good;
    p.vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"_\":3,\"_a\":4}";
    p.added = "[{\"id\":5,\"content\":\"<s>\",\"special\":true}]";
    p.merges = "[\"_ a\",\"a b\"]";
    p.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}";
    p.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}";
    cop_tokenizer *t = open_parts(&p);
    EXPECT(t, "a ab<s>a", COP_ENCODE_ADDED, 4, 4, 1, 5, 0);
    EXPECT(t, " a", COP_ENCODE_ADDED, 4);
    cop_decoder d;
    char out[8];
    cop_decoder_init(&d, t, false);
    assert_int_equal(cop_decoder_push(&d, 4, out, sizeof out), 1);
    assert_int_equal(cop_decoder_push(&d, 4, out, sizeof out), 2);
    assert_memory_equal(out, " a", 2);
    cop_tokenizer_close(t);
    p.pre_tokenizer =
        "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}";
    t = open_parts(&p);
    EXPECT(t, "a<s>a", COP_ENCODE_ADDED, 4, 5, 4);
    cop_tokenizer_close(t);
}

/* Matches kept and gaps dropped, and the other way round. */
static void test_removed_pieces(void **state)
{
    parts p = good;
    p.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
                      "\"String\":\"c\"},\"behavior\":\"Removed\"},{\"type\":\"ByteLevel\","
                      "\"add_prefix_space\":false,\"use_regex\":false}]}";
    cop_tokenizer *t = open_parts(&p);
    EXPECT(t, "acbab", 0, 0, 1, 0 + 2);
    cop_tokenizer_close(t);
    p.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
                      "\"Regex\":\"c|a\"},\"behavior\":\"Removed\",\"invert\":true},{\"type\":"
                      "\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}";
    t = open_parts(&p);
    EXPECT(t, "acbab", 0, 0, 3, 0);
    cop_tokenizer_close(t);
}

/* ---- Files that ask for too much ---- */

#define DOUBLE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}"

/* Owned: {"type":"Sequence","KEY":[DOUBLE, ...]} */
static char *doublings(const char *key, int count)
{
    char *json = cop_malloc(64 + (size_t)count * sizeof DOUBLE);
    int at = sprintf(json, "{\"type\":\"Sequence\",\"%s\":[", key);
    for (int i = 0; i < count; i++)
        at += sprintf(json + at, "%s" DOUBLE, i ? "," : "");
    strcpy(json + at, "]}");
    return json;
}

static void test_steps_that_double(void **state)
{
    char *sixteen = doublings("decoders", 16), *many = doublings("decoders", 40);
    REFUSED(decoder, many, COP_ERR_UNSUPPORTED, "t.json: decoder: too many steps");
    REFUSED(decoder, sixteen, COP_ERR_UNSUPPORTED,
            "t.json: decoder: makes more than 264 bytes of 'a'");
    free(sixteen);
    free(many);
    sixteen = doublings("normalizers", 16);
    many = doublings("normalizers", 40);
    REFUSED(normalizer, many, COP_ERR_UNSUPPORTED, "t.json: normalizer: too many steps");
    parts p = good;
    p.normalizer = sixteen;
    p.added = "[{\"id\":4,\"content\":\"<a>\",\"normalized\":true}]";
    refused(&p, COP_ERR_UNSUPPORTED,
            "t.json: added_tokens[0]: the normalizer makes more than 1024 bytes of '<a>'");
    p.added = good.added;
    cop_tokenizer *t = open_parts(&p);
    cop_tokens tokens = {0};
    cop_error err;
    EXPECT(t, "b", 0, 1);
    assert_int_equal(cop_tokenizer_encode(t, "ba", 2, 0, &tokens, &err), COP_ERR_UNSUPPORTED);
    assert_string_equal(err.text, "the normalizer makes too much of the text");
    assert_int_equal(tokens.count, 0);
    cop_tokenizer_close(t);
    free(sixteen);
    free(many);
}

static void test_sizes_have_an_end(void **state)
{
    char added[2048];
    int at = sprintf(added, "[{\"id\":4,\"content\":\"");
    memset(added + at, 'a', 1025);
    strcpy(added + at + 1025, "\"}]");
    cop_tokenizer *t = NULL;
    cop_error err = {0};
    parts p = good;
    p.added = added;
    char *json = write_json(&p);
    assert_int_equal(cop_tokenizer_parse(&t, json, strlen(json), "t.json", &err),
                     COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "t.json: added_tokens[0]: 'aaaa"));
    assert_non_null(strstr(err.text, "is longer than 1024 bytes"));
    free(json);
    strcpy(added + at + 1024, "\"}]");
    cop_tokenizer_close(open_parts(&p));
    /* Refused by its size alone. */
    assert_int_equal(cop_tokenizer_parse(&t, "", ((size_t)256 << 20) + 1, "t.json", &err),
                     COP_ERR_INVALID);
    assert_string_equal(err.text, "t.json: of 268435457 bytes; at most 268435456 are read");
}

/* Hugging Face calls a piece the first by where it was before the normaliser. */
static void test_first_after_a_replace_by_less(void **state)
{
    parts p = good;
    p.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}";
    p.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}";
    p.normalizer =
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"},\"content\":\"\xc3\xa9\"}";
    refused(&p, COP_ERR_UNSUPPORTED,
            "t.json: pre_tokenizer: Metaspace: prepend_scheme first after a Replace by less is not "
            "understood");
    p.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"b\"}";
    cop_tokenizer_close(open_parts(&p));
}

/* ---- Ill-formed text and streams ---- */

static cop_tokenizer *open_file(const char *path)
{
    cop_tokenizer *t;
    cop_error err;
    if (cop_tokenizer_open(&t, path, &err) != COP_OK)
        fail_msg("%s", err.text);
    return t;
}

/* The tokens of these ids, as text. */
static void expect_text(const cop_tokenizer *t, const uint32_t *ids, size_t count, const char *want)
{
    char out[128];
    size_t n = 0;
    cop_decoder d;
    cop_decoder_init(&d, t, true);
    for (size_t i = 0; i < count; i++) {
        n += cop_decoder_push(&d, ids[i], out + n, sizeof out - 1 - n);
        assert_true(n < sizeof out);
    }
    n += cop_decoder_end(&d, out + n, sizeof out - 1 - n);
    out[n] = '\0';
    assert_string_equal(out, want);
}

#define EXPECT_TEXT(t, want, ...)               \
    expect_text((t), (uint32_t[]){__VA_ARGS__}, \
                sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (want))

/* As tokenizers 0.23.3: the mark that a normalised added token took is a space again. */
static void test_normalised_added_tokens_decode_to_what_they_matched(void **state)
{
    static const parts llama = {
        .vocab = "{\"?\":0,\"_\":1,\"a\":2,\"b\":3,\"<\":4,\">\":5,\"t\":6}",
        .merges = "[]",
        .model = "\"unk_token\":\"?\",",
        .normalizer =
            "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
            "\"_\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"}]}",
        .pre_tokenizer = "null",
        .post_processor = "null",
        .decoder =
            "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
            "\"_\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":"
            "\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}",
        .added = "[{\"id\":7,\"content\":\"<t>\",\"normalized\":true}]",
        .root = "",
    };
    cop_tokenizer *t = open_parts(&llama);
    EXPECT(t, "a<t>b <t>", COP_ENCODE_ADDED, 1, 2, 4, 6, 5, 3, 7);
    EXPECT_TEXT(t, "a<t>b <t>", 1, 2, 4, 6, 5, 3, 7);
    EXPECT(t, " <t>", COP_ENCODE_ADDED, 1, 7);
    EXPECT_TEXT(t, " <t>", 1, 7);
    EXPECT_TEXT(t, "<t>a", 7, 2);
    assert_int_equal(cop_tokenizer_find(t, "<t>"), 7);
    cop_tokenizer_close(t);
    parts p = llama;
    p.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}";
    t = open_parts(&p);
    EXPECT_TEXT(t, "<t>", 7);
    EXPECT_TEXT(t, "a <t>", 1, 2, 7);
    cop_tokenizer_close(t);
}

/* Where tokenizer.h says that Hugging Face differs. */
static void test_ill_formed_runs_of_byte_tokens(void **state)
{
    parts p = good;
    p.pre_tokenizer = "null";
    p.vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"<0xE4>\":3,\"<0xBD>\":4,\"<0xA0>\":5,\"<0xFF>\":6,"
              "\"<0x41>\":7}";
    p.added = "[]";
    p.decoder =
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}";
    cop_tokenizer *t = open_parts(&p);
    EXPECT_TEXT(t, "\u4f60", 3, 4, 5);
    EXPECT_TEXT(t, "\ufffda", 3, 4, 0);
    EXPECT_TEXT(t, "\ufffd", 3, 4);
    EXPECT_TEXT(t, "\u4f60\ufffda", 3, 4, 5, 6, 0);
    EXPECT_TEXT(t, "\ufffdA", 6, 7);
    EXPECT_TEXT(t, "\ufffd\u4f60", 3, 4, 3, 4, 5);
    cop_tokenizer_close(t);
}

static void test_streams_give_whole_characters(void **state)
{
    cop_tokenizer *t = open_file(DATA "qwen-small.json");
    static const char text[] = "\xf0\x9f\xa6\x9a"; /* a peacock: four tokens of a byte each */
    cop_tokens tokens = {0};
    cop_error err;
    assert_int_equal(cop_tokenizer_encode(t, text, 4, 0, &tokens, &err), COP_OK);
    assert_true(tokens.count > 1);
    cop_decoder d;
    char out[16];
    cop_decoder_init(&d, t, false);
    for (size_t i = 0; i + 1 < tokens.count; i++)
        assert_int_equal(cop_decoder_push(&d, tokens.ids[i], out, sizeof out), 0);
    uint32_t last = tokens.ids[tokens.count - 1];
    assert_int_equal(cop_decoder_push(&d, last, out, 2), 4); /* no room: asked for, not lost */
    assert_int_equal(cop_decoder_push(&d, last, out, sizeof out), 4);
    assert_memory_equal(out, text, 4);
    assert_int_equal(cop_decoder_end(&d, out, sizeof out), 0);

    /* Cut short: the first bytes are U+FFFD once something else follows, or at the end. */
    uint32_t end = cop_tokenizer_find(t, "<|im_end|>"), letter = cop_tokenizer_find(t, "a");
    assert_int_equal(cop_decoder_push(&d, tokens.ids[0], out, sizeof out), 0);
    assert_int_equal(cop_decoder_push(&d, end, out, sizeof out), 0); /* stands for nothing */
    assert_int_equal(cop_decoder_push(&d, letter, out, sizeof out), 4);
    assert_memory_equal(out,
                        "\xef\xbf\xbd"
                        "a",
                        4);
    assert_int_equal(cop_decoder_push(&d, tokens.ids[0], out, sizeof out), 0);
    assert_int_equal(cop_decoder_end(&d, out, 2), 3);
    assert_int_equal(cop_decoder_end(&d, out, sizeof out), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    assert_int_equal(cop_decoder_end(&d, out, sizeof out), 0);
    assert_int_equal(cop_decoder_push(&d, 1u << 30, out, sizeof out), 0);
    free(tokens.ids);
    cop_tokenizer_close(t);
}

/* ---- What Hugging Face said ---- */

static size_t unhex(const char *hex, size_t digits, char *out)
{
    for (size_t i = 0; i + 1 < digits; i += 2) {
        unsigned byte;
        assert_int_equal(sscanf(hex + i, "%2x", &byte), 1);
        out[i / 2] = (char)byte;
    }
    return digits / 2;
}

static void check_line(cop_tokenizer *t, const cop_json *row)
{
    size_t bytes, digits;
    const char *text = cop_json_string(cop_json_get(row, "text"), &bytes);
    const char *hex = cop_json_string(cop_json_get(row, "hex"), &digits);
    char *raw = cop_malloc(hex ? digits : 1);
    if (hex) {
        bytes = unhex(hex, digits, raw);
        text = raw;
    }
    assert_non_null(text);
    const cop_json *ids = cop_json_get(row, "ids");
    size_t count = cop_json_count(ids);
    uint32_t *expected = cop_calloc(count, sizeof *expected);
    for (size_t i = 0; i < count; i++) {
        int64_t id;
        assert_true(cop_json_int(cop_json_at(ids, i), &id));
        expected[i] = (uint32_t)id;
    }
    expect_ids(t, text, bytes, COP_ENCODE_ADDED | COP_ENCODE_TEMPLATE, expected, count);
    free(raw);
    free(expected);
}

static void check_file(const char *name)
{
    char path[512];
    cop_error err;
    cop_file_map map;
    snprintf(path, sizeof path, DATA "%s.json", name);
    cop_tokenizer *t = open_file(path);
    snprintf(path, sizeof path, DATA "%s.jsonl", name);
    assert_int_equal(cop_file_map_open(&map, path, &err), COP_OK);
    size_t lines = 0;
    for (size_t at = 0, used; at < map.size; at += used + 1, lines++) {
        cop_json *row;
        if (cop_json_parse_first(&row, (const char *)map.data + at, map.size - at, &used, name,
                                 lines + 1, &err) != COP_OK)
            fail_msg("%s", err.text);
        check_line(t, row);
        cop_json_free(row);
    }
    assert_true(lines >= 500);
    cop_file_map_close(&map);
    cop_tokenizer_close(t);
}

static void test_as_hugging_face(void **state)
{
    check_file("qwen-small");
    check_file("llama3-small");
    check_file("mistral-small");
}

/* A text that is one word: the time must not grow with its square. */
static void test_a_long_word(void **state)
{
    enum { BYTES = 1 << 20 };
    cop_tokenizer *t = open_file(DATA "qwen-small.json");
    char *text = cop_malloc(BYTES);
    cop_tokens tokens = {0};
    cop_error err;
    memset(text, 'a', BYTES);
    assert_int_equal(cop_tokenizer_encode(t, text, BYTES, 0, &tokens, &err), COP_OK);
    assert_true(tokens.count > 0 && tokens.count <= BYTES);
    for (size_t i = 0; i < BYTES; i += 2)
        memcpy(text + i, i % 4 ? "\xcc\x81" : "\xcc\xa3", 2); /* marks out of order */
    assert_int_equal(cop_tokenizer_encode(t, text, BYTES, 0, &tokens, &err), COP_OK);
    memset(text, ' ', BYTES);
    assert_int_equal(cop_tokenizer_encode(t, text, BYTES, 0, &tokens, &err), COP_OK);
    free(tokens.ids);
    free(text);
    cop_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary_flaws),
        cmocka_unit_test(test_merge_flaws),
        cmocka_unit_test(test_what_is_not_understood),
        cmocka_unit_test(test_regexes_that_mean_other_things),
        cmocka_unit_test(test_broken_json),
        cmocka_unit_test(test_merging),
        cmocka_unit_test(test_missing_byte_leaves_the_output_alone),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_stripping_added_tokens),
        cmocka_unit_test(test_metaspace),
        cmocka_unit_test(test_removed_pieces),
        cmocka_unit_test(test_steps_that_double),
        cmocka_unit_test(test_sizes_have_an_end),
        cmocka_unit_test(test_first_after_a_replace_by_less),
        cmocka_unit_test(test_normalised_added_tokens_decode_to_what_they_matched),
        cmocka_unit_test(test_ill_formed_runs_of_byte_tokens),
        cmocka_unit_test(test_streams_give_whole_characters),
        cmocka_unit_test(test_as_hugging_face),
        cmocka_unit_test(test_a_long_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
