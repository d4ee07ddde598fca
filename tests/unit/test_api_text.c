/* Text through the public library: a fixture checkpoint with a tokenizer whose tokens are bytes, so
 * that what a text is in tokens is plain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoint_folder.h"
#include "coppice.h"

enum { END = 509, IM_START = 510, IM_END = 511, VOCAB = 512 }; /* END, IM_END: end an answer */

static cop_model *model;
static cop_error err;
static folder home;

/* GPT-2's name of a byte, as it stands in JSON: printable ones are themselves, the others follow at
 * U+0100. */
static int put_name(char *out, uint32_t byte, uint32_t *more)
{
    bool plain = (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte < 0xad) || byte >= 0xae;
    return sprintf(out, "\"\\u%04x\": %u%s", plain ? byte : (*more)++, byte,
                   byte < 255 ? ", " : "");
}

static void write_tokenizer(const char *dir)
{
    static const char byte_level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                     "\"trim_offsets\": false, \"use_regex\": false}";
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    char *json = cop_malloc(1 << 16), *at = json;
    uint32_t more = 0x100;
    at += sprintf(at, "{\"version\": \"1.0\", \"added_tokens\": [");
    for (int i = 0; i < 3; i++)
        at += sprintf(at,
                      "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, "
                      "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                      "\"special\": true}",
                      i ? ", " : "", END + i, special[i]);
    at += sprintf(at, "], \"normalizer\": null, \"pre_tokenizer\": %s, \"post_processor\": %s, ",
                  byte_level, byte_level);
    at += sprintf(at, "\"decoder\": %s, \"model\": {\"type\": \"BPE\", \"vocab\": {", byte_level);
    for (uint32_t byte = 0; byte < 256; byte++)
        at += put_name(at, byte, &more);
    sprintf(at, "}, \"merges\": []}}");
    write_text(dir, "tokenizer.json", json);
    free(json);
}

static int set_up(void **state)
{
    home = copy_of("qwen2");
    write_tokenizer(home.path);
    cop_status status =
        cop_model_open(&model, &(cop_model_options){.path = home.path, .threads = 1}, &err);
    if (status != COP_OK)
        print_message("%s\n", err.text);
    return status != COP_OK;
}

static int tear_down(void **state)
{
    cop_model_close(model);
    remove_folder(&home);
    return 0;
}

static void test_describe(void **state)
{
    cop_model_info info;
    cop_model_describe(model, &info);
    assert_string_equal(info.name, strrchr(home.path, '/') + 1);
    assert_string_equal(info.family, "qwen2");
    assert_int_equal(info.vocab, VOCAB);
    assert_true(info.has_tokenizer);
}

/* ---- text to tokens ---- */

static void test_tokens_of_a_text(void **state)
{
    static const char text[] = "h\xc3\xa9llo";
    uint32_t tokens[8] = {0};
    size_t count;
    assert_int_equal(cop_tokenize(model, text, 6, 0, tokens, 8, &count, &err), COP_OK);
    assert_int_equal(count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(tokens[i], (uint8_t)text[i]);
    memset(tokens, 0, sizeof tokens);
    assert_int_equal(cop_tokenize(model, text, 6, 0, tokens, 2, &count, &err), COP_OK);
    assert_true(count == 6 && tokens[1] == 0xc3 && tokens[2] == 0);
    assert_int_equal(cop_tokenize(model, text, 6, 0, NULL, 0, &count, &err), COP_OK);
    assert_int_equal(count, 6);
    assert_int_equal(cop_tokenize(model, "", 0, 0, NULL, 0, &count, &err), COP_OK);
    assert_int_equal(count, 0);
}

static void test_special_tokens_when_asked_for(void **state)
{
    uint32_t tokens[16];
    size_t count;
    assert_int_equal(cop_tokenize(model, "<|im_end|>", 10, 0, tokens, 16, &count, &err), COP_OK);
    assert_int_equal(count, 10);
    assert_int_equal(
        cop_tokenize(model, "<|im_end|>", 10, COP_TEXT_SPECIAL, tokens, 16, &count, &err), COP_OK);
    assert_true(count == 1 && tokens[0] == IM_END);
}

/* `expected`: \1 stands for <|im_start|>, \2 for <|im_end|>. */
static void expect_chat(const char *system, const char *const *turns, size_t n,
                        const char *expected)
{
    uint32_t tokens[128];
    size_t count;
    assert_int_equal(cop_tokenize_chat(model, system, turns, n, tokens, 128, &count, &err), COP_OK);
    assert_int_equal(count, strlen(expected));
    for (size_t i = 0; i < count; i++) {
        uint32_t token = expected[i] == 1 ? IM_START : expected[i] == 2 ? IM_END : expected[i];
        assert_int_equal(tokens[i], token);
    }
}

static void test_chats(void **state)
{
    static const char *const turns[] = {"Hi", "Yes?", "Bye"};
    uint32_t token;
    size_t count = 77;
    expect_chat(NULL, turns, 1, "\1user\nHi\2\n\1assistant\n");
    expect_chat("Be brief.", turns, 3,
                "\1system\nBe brief.\2\n\1user\nHi\2\n\1assistant\nYes?\2\n\1user\nBye\2\n"
                "\1assistant\n");
    for (size_t n = 0; n <= 2; n += 2)
        assert_int_equal(cop_tokenize_chat(model, NULL, turns, n, &token, 1, &count, &err),
                         COP_ERR_INVALID);
    assert_int_equal(count, 77);
}

/* ---- tokens to text ---- */

static void expect_text(const uint32_t *tokens, size_t count, const char *expected)
{
    char text[32];
    size_t bytes, length = strlen(expected);
    for (size_t capacity = 0; capacity <= sizeof text; capacity++) {
        memset(text, '#', sizeof text);
        assert_int_equal(cop_detokenize(model, tokens, count, text, capacity, &bytes, &err),
                         COP_OK);
        assert_int_equal(bytes, length);
        size_t written = length + 1 < capacity ? length + 1 : capacity; /* with the zero */
        assert_memory_equal(text, expected, written);
        for (size_t i = written; i < sizeof text; i++)
            assert_int_equal(text[i], '#');
    }
}

static void test_text_of_tokens(void **state)
{
    static const uint32_t plain[] = {'h', 0xc3, 0xa9, '!'}, tree[] = {0xf0, 0x9f, 0x8c, 0xb3};
    static const uint32_t marked[] = {IM_START, 'a', IM_END, 'b', END, 300};
    static const uint32_t cut[] = {'a', 0xf0, 0x9f, 0x8c};
    expect_text(plain, 4, "h\xc3\xa9!");
    expect_text(tree, 4, "\xf0\x9f\x8c\xb3");
    expect_text(marked, 6, "ab");
    expect_text(cut, 4, "a\xef\xbf\xbd");
    expect_text(plain, 0, "");
}

/* ---- answers ---- */

typedef struct {
    uint32_t tokens[512], count;
    char text[4096];
    size_t bytes;
} answer;

static bool listen(void *ctx, uint32_t token, const char *text, size_t bytes)
{
    answer *a = ctx;
    assert_int_equal(text[bytes], 0);
    a->tokens[a->count++] = token;
    memcpy(a->text + a->bytes, text, bytes);
    a->bytes += bytes;
    return true;
}

static cop_generate_result generate(cop_cache *cache, uint64_t seed, uint32_t most, bool on,
                                    answer *a)
{
    static const uint32_t prompt[] = {'O', 'n', 'c', 'e'};
    cop_generate_options options = {.tokens = prompt,
                                    .count = 4,
                                    .max_new_tokens = most,
                                    .temperature = 3,
                                    .seed = seed,
                                    .ignore_stops = on};
    cop_generate_result result;
    memset(a, 0, sizeof *a);
    if (cop_generate(cache, &options, listen, a, &result, &err) != COP_OK)
        fail_msg("%s", err.text);
    return result;
}

/* Whole characters come as soon as they are whole, and all of them together are the text. */
static void test_answers_stream_their_text(void **state)
{
    static answer a;
    static char text[4096];
    size_t bytes;
    cop_cache *cache;
    assert_int_equal(cop_cache_open(&cache, model, &(cop_cache_options){0}, &err), COP_OK);
    for (uint64_t seed = 0; seed < 8; seed++) {
        generate(cache, seed, 100, true, &a);
        assert_int_equal(a.count, 100);
        assert_int_equal(cop_detokenize(model, a.tokens, a.count, text, sizeof text, &bytes, &err),
                         COP_OK);
        assert_int_equal(a.bytes, bytes);
        assert_memory_equal(a.text, text, bytes);
    }
    cop_cache_close(cache);
}

static void test_answers_end_where_the_model_says(void **state)
{
    static answer on, until;
    cop_cache *cache;
    uint32_t stopped = 0;
    assert_int_equal(cop_cache_open(&cache, model, &(cop_cache_options){0}, &err), COP_OK);
    for (uint64_t seed = 0; seed < 12; seed++) {
        generate(cache, seed, 300, true, &on);
        uint32_t end = 0;
        while (end < 300 && on.tokens[end] != END && on.tokens[end] != IM_END)
            end++;
        cop_generate_result result = generate(cache, seed, 300, false, &until);
        assert_int_equal(result.stopped, end < 300);
        assert_int_equal(until.count, end < 300 ? end + 1 : 300);
        assert_memory_equal(until.tokens, on.tokens, until.count * sizeof *on.tokens);
        stopped += result.stopped;
    }
    assert_true(stopped > 0);
    cop_cache_close(cache);
}

/* ---- tokenizers that do not fit ---- */

static void refuse_tokenizer(const char *dir, const char *text)
{
    cop_model *none = NULL;
    assert_int_equal(cop_model_open(&none, &(cop_model_options){.path = dir}, &err),
                     COP_ERR_INVALID);
    assert_null(none);
    assert_memory_equal(err.text, dir, strlen(dir));
    if (!strstr(err.text, text))
        fail_msg("%s: no '%s'", err.text, text);
}

static void test_tokenizers_that_do_not_fit(void **state)
{
    folder other = copy_of("qwen2");
    size_t bytes;
    uint8_t *large = read_file(COP_SOURCE_DIR "/tests/data/tokenizers", "qwen-small.json", &bytes);
    write_file(other.path, "tokenizer.json", large, bytes);
    refuse_tokenizer(other.path, "tokenizer.json: its tokens go up to 1004, those of the model "
                                 "(vocab_size in config.json) up to 511");
    write_file(other.path, "tokenizer.json", large, bytes / 2);
    refuse_tokenizer(other.path, "tokenizer.json:");
    free(large);
    remove_folder(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_tokens_of_a_text),
        cmocka_unit_test(test_special_tokens_when_asked_for),
        cmocka_unit_test(test_chats),
        cmocka_unit_test(test_text_of_tokens),
        cmocka_unit_test(test_answers_stream_their_text),
        cmocka_unit_test(test_answers_end_where_the_model_says),
        cmocka_unit_test(test_tokenizers_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
