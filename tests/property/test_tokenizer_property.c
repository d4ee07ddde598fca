/* The tokenizer beside byte-pair encoding as it is defined: look at all pairs, merge the leftmost of
 * the lowest rank, begin again.
 *
 * Each round makes a vocabulary over a small alphabet by random merges, writes it as a
 * tokenizer.json, and encodes random words, short and long ones, twice (the second time the cache
 * may know them). Texts of any valid UTF-8 come back whole, and any bytes as Python would replace
 * them, whatever the room that the decoder is given. COP_SEED=n runs another seed, COP_ROUNDS=n so
 * many rounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/request.h"
#include "base/rng.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALPHABET = 4, TOKENS = 60, TOKEN_BYTES = 24, WORD = 700, WORDS = 60, ROUNDS = 60 };

typedef struct {
    cop_rng rng;
    char tokens[TOKENS][TOKEN_BYTES + 1];
    uint32_t count; /* tokens; the first ALPHABET are the letters */
    struct {
        uint32_t left, right, product;
    } merges[2 * TOKENS];
    uint32_t merge_count;
} world;

static uint32_t below(world *w, uint32_t n)
{
    return (uint32_t)cop_rng_below(&w->rng, n);
}

static uint32_t find(const world *w, const char *text)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (strcmp(w->tokens[i], text) == 0)
            return i;
    return COP_NO_TOKEN;
}

static bool has_merge(const world *w, uint32_t left, uint32_t right)
{
    for (uint32_t i = 0; i < w->merge_count; i++)
        if (w->merges[i].left == left && w->merges[i].right == right)
            return true;
    return false;
}

/* Any two tokens may merge, in any order of ranks: also a rule whose sides come from later ones. */
static void make_merges(world *w)
{
    uint32_t wanted = below(w, 2 * TOKENS);
    while (w->merge_count < wanted && w->count < TOKENS) {
        uint32_t left = below(w, w->count), right = below(w, w->count);
        char product[2 * TOKEN_BYTES + 1];
        snprintf(product, sizeof product, "%s%s", w->tokens[left], w->tokens[right]);
        wanted -= strlen(product) > TOKEN_BYTES;
        if (strlen(product) > TOKEN_BYTES || has_merge(w, left, right))
            continue;
        uint32_t id = find(w, product);
        if (id == COP_NO_TOKEN)
            strcpy(w->tokens[id = w->count++], product);
        w->merges[w->merge_count].left = left;
        w->merges[w->merge_count].right = right;
        w->merges[w->merge_count++].product = id;
    }
    for (uint32_t i = w->merge_count; i > 1; i--) { /* ranks by chance */
        uint32_t j = below(w, i);
        typeof(w->merges[0]) kept = w->merges[i - 1];
        w->merges[i - 1] = w->merges[j];
        w->merges[j] = kept;
    }
}

static void put(cop_buffer *out, const char *text)
{
    cop_buffer_put(out, text, strlen(text));
}

static cop_tokenizer *open_world(world *w)
{
    cop_buffer json = {0};
    char part[128];
    put(&json,
        "{\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
        "false,\"use_regex\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":"
        "\"BPE\",\"vocab\":{");
    for (uint32_t i = 0; i < w->count; i++) {
        snprintf(part, sizeof part, "%s\"%s\":%u", i ? "," : "", w->tokens[i], i);
        put(&json, part);
    }
    put(&json, "},\"merges\":[");
    for (uint32_t i = 0; i < w->merge_count; i++) {
        snprintf(part, sizeof part, "%s\"%s %s\"", i ? "," : "", w->tokens[w->merges[i].left],
                 w->tokens[w->merges[i].right]);
        put(&json, part);
    }
    put(&json, "]}}");
    cop_tokenizer *t;
    cop_error err;
    if (cop_tokenizer_parse(&t, (const char *)json.data, json.size, "world", &err) != COP_OK)
        fail_msg("%s", err.text);
    cop_buffer_fini(&json);
    return t;
}

static size_t merge_naively(const world *w, uint32_t *ids, size_t count)
{
    for (;;) {
        uint32_t best = w->merge_count;
        size_t place = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (uint32_t m = 0; m < best; m++)
                if (w->merges[m].left == ids[i] && w->merges[m].right == ids[i + 1]) {
                    best = m;
                    place = i;
                }
        if (best == w->merge_count)
            return count;
        ids[place] = w->merges[best].product;
        memmove(ids + place + 1, ids + place + 2, (count - place - 2) * sizeof *ids);
        count--;
    }
}

static void check_word(world *w, cop_tokenizer *t)
{
    char word[WORD];
    uint32_t expected[WORD];
    size_t bytes = 1 + below(w, below(w, 4) ? 60 : WORD);
    uint32_t letters = 1 + below(w, ALPHABET);
    for (size_t i = 0; i < bytes; i++)
        word[i] = (char)('a' + (expected[i] = below(w, letters)));
    size_t count = merge_naively(w, expected, bytes);
    for (int twice = 0; twice < 2; twice++) {
        cop_tokens tokens = {0};
        cop_error err;
        assert_int_equal(cop_tokenizer_encode(t, word, bytes, 0, &tokens, &err), COP_OK);
        assert_int_equal(tokens.count, count);
        assert_memory_equal(tokens.ids, expected, count * sizeof *expected);
        free(tokens.ids);
    }
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);
    return value ? strtoull(value, NULL, 10) : otherwise;
}

static void test_beside_naive_merging(void **state)
{
    uint64_t seed = from_environment("COP_SEED", 1),
             rounds = from_environment("COP_ROUNDS", ROUNDS);
    print_message("seed %llu, %llu rounds\n", (unsigned long long)seed, (unsigned long long)rounds);
    uint64_t merges = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        world w = {.count = ALPHABET};
        cop_rng_init(&w.rng, seed, round);
        for (int i = 0; i < ALPHABET; i++)
            w.tokens[i][0] = (char)('a' + i);
        make_merges(&w);
        merges += w.merge_count;
        cop_tokenizer *t = open_world(&w);
        for (int i = 0; i < WORDS; i++)
            check_word(&w, t);
        cop_tokenizer_close(t);
    }
    assert_true(merges > 10 * rounds);
}

/* ---- There and back ---- */

static void put_code_point(world *w, cop_buffer *text)
{
    static const uint32_t ends[] = {0x80, 0x80, 0x800, 0x3100, 0x10000, 0x110000};
    uint32_t code;
    do
        code = below(w, ends[below(w, 6)]);
    while (code >= 0xd800 && code < 0xe000);
    uint8_t character[COP_UTF8_LONGEST];
    cop_buffer_put(text, character, cop_utf8_encode(code, character));
}

/* Room of every size is asked for, never too little taken for enough. */
static void decode(world *w, const cop_tokenizer *t, const cop_tokens *tokens, cop_buffer *out)
{
    cop_decoder d;
    cop_decoder_init(&d, t, true);
    for (size_t i = 0; i <= tokens->count; i++) {
        char room[3 * TOKEN_BYTES + 64];
        size_t capacity = below(w, 8), n;
        bool end = i == tokens->count;
        n = end ? cop_decoder_end(&d, room, capacity)
                : cop_decoder_push(&d, tokens->ids[i], room, capacity);
        if (n > capacity) {
            assert_true(n <= sizeof room);
            size_t again =
                end ? cop_decoder_end(&d, room, n) : cop_decoder_push(&d, tokens->ids[i], room, n);
            assert_int_equal(again, n);
        }
        assert_int_equal(cop_utf8_valid((const uint8_t *)room, n), n); /* whole characters */
        cop_buffer_put(out, room, n);
    }
}

static void check_round_trip(world *w, cop_tokenizer *t, bool ill_formed)
{
    cop_buffer text = {0}, expected = {0}, out = {0};
    uint32_t length = below(w, 60);
    for (uint32_t i = 0; i < length; i++) {
        if (ill_formed && below(w, 3) == 0)
            cop_buffer_put(&text, &(uint8_t){(uint8_t)below(w, 256)}, 1);
        else
            put_code_point(w, &text);
    }
    cop_utf8_repair(text.data, text.size, &expected);
    cop_tokens tokens = {0};
    cop_error err;
    assert_int_equal(cop_tokenizer_encode(t, (const char *)text.data, text.size, 0, &tokens, &err),
                     COP_OK);
    decode(w, t, &tokens, &out);
    assert_int_equal(out.size, expected.size);
    if (out.size)
        assert_memory_equal(out.data, expected.data, out.size);
    free(tokens.ids);
    cop_buffer_fini(&text);
    cop_buffer_fini(&expected);
    cop_buffer_fini(&out);
}

/* llama3-small has no normaliser, so that text comes back as it was. */
static void test_there_and_back(void **state)
{
    world w = {0};
    cop_tokenizer *t;
    cop_error err;
    cop_rng_init(&w.rng, from_environment("COP_SEED", 1), UINT64_MAX);
    const char *path = COP_SOURCE_DIR "/tests/data/tokenizers/llama3-small.json";
    assert_int_equal(cop_tokenizer_open(&t, path, &err), COP_OK);
    for (int i = 0; i < 20000; i++)
        check_round_trip(&w, t, i % 2);
    cop_tokenizer_close(t);
}

/* Repaired text as Python's bytes.decode(errors="replace") has it; the cases of Unicode 15, 3.9. */
static void test_maximal_subparts(void **state)
{
    static const struct {
        const char *ill, *repaired;
    } cases[] = {
        {"a\xf1\x80\x80\xe1\x80\xc2"
         "b\x80"
         "c\x80\xbf"
         "d",
         "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "b\xef\xbf\xbd"
         "c\xef\xbf\xbd\xef\xbf\xbd"
         "d"},
        {"\xc0\xaf\xe0\x80\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x91\x92\x93\xff", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd"},
        {"\xf0\x9f\x98", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cop_buffer out = {0};
        cop_utf8_repair((const uint8_t *)cases[i].ill, strlen(cases[i].ill), &out);
        assert_int_equal(out.size, strlen(cases[i].repaired));
        assert_memory_equal(out.data, cases[i].repaired, out.size);
        cop_buffer_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_naive_merging),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_maximal_subparts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
