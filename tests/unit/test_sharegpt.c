/* Conversations with text: what becomes of a file, and what is said of a bad one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "byte_encoder.h"
#include "workload/sharegpt.h"
#include "workload/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL   COP_SOURCE_DIR "/tests/data/sharegpt_small.json"
#define H(text) "{\"from\":\"human\",\"value\":\"" text "\"}"
#define G(text) "{\"from\":\"gpt\",\"value\":\"" text "\"}"
#define S(text) "{\"from\":\"system\",\"value\":\"" text "\"}"
#define C(list) "{\"conversations\":[" list "]}"
#define GOOD    C(H("a") "," G("b"))

/* An exact copy of some text, so that a sanitizer sees a read past its end. */
typedef struct {
    char *text;
    cop_sharegpt *reader;
} opened;

static opened open_text(const char *text, bool skip)
{
    size_t bytes = strlen(text);
    opened o = {.text = malloc(bytes ? bytes : 1)};
    memcpy(o.text, text, bytes);
    cop_sharegpt_open_text(&o.reader, "t.json", o.text, bytes, skip);
    return o;
}

static void close_text(opened *o)
{
    cop_sharegpt_close(o->reader);
    free(o->text);
}

/* Dialogues as "S:..|U:..|A:..", a line each. */
static cop_status show(const char *text, bool skip, char *shown, size_t size,
                       cop_sharegpt_counts *counts, cop_error *err)
{
    static const char letters[] = {
        [COP_ROLE_SYSTEM] = 'S', [COP_ROLE_USER] = 'U', [COP_ROLE_ASSISTANT] = 'A'};
    opened o = open_text(text, skip);
    cop_dialogue d;
    bool found = true;
    cop_status status = COP_OK;
    size_t used = 0;
    shown[0] = '\0';
    while (found && status == COP_OK) {
        status = cop_sharegpt_next(o.reader, &d, &found, err);
        for (size_t i = 0; status == COP_OK && found && i < d.count; i++) {
            const cop_chat_message *m = &d.messages[i];
            used += (size_t)snprintf(shown + used, size - used, "%c:%.*s%s", letters[m->role],
                                     (int)m->bytes, m->text, i + 1 < d.count ? "|" : "\n");
            assert_true(used < size);
        }
        if (status == COP_OK && found)
            assert_int_equal(d.count, d.has_system + 2 * d.turns);
    }
    if (counts)
        *counts = cop_sharegpt_count(o.reader);
    close_text(&o);
    return status;
}

/* ---- bad files --------------------------------------------------------------------------- */

static const struct {
    const char *text, *error;
} bad_files[] = {
    {"", "t.json: no conversation in it: it is empty"},
    {" \n", "t.json: no conversation in it: it is empty"},
    {"[]", "t.json: no conversation in it: it is empty"},
    {"hello", "t.json:1: expected '[' or '{' to begin a file of conversations, found 'h'"},
    {"\n\xef\xbb\xbf[]",
     "t.json:2: expected '[' or '{' to begin a file of conversations, found byte 0xef"},
    {"[", "t.json:1: expected '{' to begin a conversation, found the end of the file"},
    {"[3]", "t.json:1: expected '{' to begin a conversation, found '3'"},
    {"[,", "t.json:1: expected '{' to begin a conversation, found ','"},
    {"[\n" GOOD "\n", "t.json:3: expected ',' or ']' after a conversation, found the end of the "
                      "file"},
    {"[" GOOD "\n" GOOD "]", "t.json:2: expected ',' or ']' after a conversation, found '{'"},
    {"[" GOOD ",\n]", "t.json:2: expected '{' to begin a conversation, found ']'"},
    {"[" GOOD ",", "t.json:1: expected '{' to begin a conversation, found the end of the file"},
    {"[" GOOD "]\n\n x", "t.json:3: expected the end of the file after the array, found 'x'"},
    {GOOD "\n," GOOD, "t.json:2: expected '{' to begin a conversation, found ','"},
    {"[" GOOD ",\n{\"id\": }]", "t.json:2:8: unexpected token near '}', in conversation 2, from "
                                "byte 78 on"},
    {"[" GOOD ",{}]", "t.json:1: conversation 2: it has no 'conversations' or 'messages'"},
    {"[\n{\"id\":\"x\\ny\",\"conversations\":5}]",
     "t.json:2: conversation 1 ('x?y'): 'conversations' is an integer, not an array"},
    {"{\"messages\":{}}", "t.json:1: conversation 1: 'messages' is an object, not an array"},
    {C("7"), "t.json:1: conversation 1: message 1 is an integer, not an object"},
    {C("{\"value\":\"a\"}"), "t.json:1: conversation 1: message 1 has no 'from' or 'role'"},
    {C(H("a") ",{\"from\":\"gpt\"}"),
     "t.json:1: conversation 1: message 2 has no 'value' or 'content'"},
    {C("{\"from\":1,\"value\":\"a\"}"),
     "t.json:1: conversation 1: 'from' of message 1 is an integer, not a string"},
    {C("{\"role\":\"user\",\"content\":[]}"),
     "t.json:1: conversation 1: 'content' of message 1 is an array, not a string"},
    {C("{\"from\":\"gtp\",\"value\":\"a\"}"),
     "t.json:1: conversation 1: 'from' of message 1: unknown role 'gtp'; did you mean 'gpt'? "
     "(human, user, gpt, chatgpt, bing, bard, assistant, system)"},
    {"[" C("") "," C(H("a")) "]",
     "t.json: none of its 2 conversations has a question and an answer (0 bad)"},
};

static void test_bad_files_are_told(void **state)
{
    char shown[4096];
    cop_error err;
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        cop_status status = show(bad_files[i].text, false, shown, sizeof shown, NULL, &err);
        assert_true(status == COP_ERR_CORRUPT || status == COP_ERR_INVALID);
        assert_string_equal(err.text, bad_files[i].error);
    }
}

static void test_bad_conversations_are_skipped(void **state)
{
    char shown[4096];
    cop_error err;
    cop_sharegpt_counts counts;
    const char *mixed =
        "[" GOOD ",{},{\"conversations\":5}," C(H("c") "," G("d")) "," C("") "," C("1") "]";
    assert_int_equal(show(mixed, true, shown, sizeof shown, &counts, &err), COP_OK);
    assert_string_equal(shown, "U:a|A:b\nU:c|A:d\n");
    assert_int_equal(counts.conversations, 6);
    assert_int_equal(counts.bad, 3);
    assert_int_equal(counts.empty, 1);
    assert_int_equal(counts.bytes, strlen(mixed));
    assert_int_equal(show("[{},{}]", true, shown, sizeof shown, NULL, &err), COP_ERR_CORRUPT);
    assert_string_equal(err.text,
                        "t.json: none of its 2 conversations has a question and an answer (2 bad)");
    assert_int_equal(show("[" GOOD ",{]", true, shown, sizeof shown, NULL, &err), COP_ERR_CORRUPT);
}

/* Text that is no JSON, or more than this JSON reader takes: half a surrogate pair, a huge number.
 * A zero in a text is fine. */
static void test_what_is_no_json_is_skipped_up_to_its_last_brace(void **state)
{
    char shown[4096];
    cop_error err;
    cop_sharegpt_counts counts;
    const char *mixed = "[{\"id\": {\"}\\\"}\": },\n 3 }," C(H("\\ud83d") "," G("b")) "," C(
        H("a") "," G("b\\u0000c")) ",{\"n\": 10000000000000000000000000}," GOOD "]";
    assert_int_equal(show(mixed, true, shown, sizeof shown, &counts, &err), COP_OK);
    assert_int_equal(counts.conversations, 5);
    assert_int_equal(counts.bad, 3);
    assert_int_equal(counts.bytes, strlen(mixed));
    assert_int_equal(show(mixed, false, shown, sizeof shown, NULL, &err), COP_ERR_CORRUPT);
    assert_string_equal(err.text, "t.json:1:17: unexpected token near '}', in conversation 1, from "
                                  "byte 1 on");
    assert_int_equal(show("[" GOOD ",{\"}", true, shown, sizeof shown, NULL, NULL),
                     COP_ERR_CORRUPT); /* no end in sight; nobody asks why */
}

static void test_files_that_cannot_be_read(void **state)
{
    cop_sharegpt *reader = NULL;
    cop_error err;
    assert_int_equal(cop_sharegpt_open(&reader, "/nowhere/x.json", false, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "cannot open /nowhere/x.json: No such file or directory");
    assert_int_equal(cop_sharegpt_open(&reader, "", false, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "workload.path is empty: it must name a file of conversations");
    assert_int_equal(cop_sharegpt_open(&reader, "/tmp", false, &err), COP_ERR_INVALID);
    assert_null(reader);
}

/* ---- rules ------------------------------------------------------------------------------- */

static const struct {
    const char *text, *shown;
} rules[] = {
    {GOOD, "U:a|A:b\n"},
    {"[" GOOD "]", "U:a|A:b\n"},
    {" [ " GOOD " ,\r\n\t" GOOD " ] ", "U:a|A:b\nU:a|A:b\n"},
    {GOOD "\n" GOOD "\n\n" GOOD, "U:a|A:b\nU:a|A:b\nU:a|A:b\n"},
    {C(S("s") "," H("a") "," G("b") "," H("c") "," G("d")), "S:s|U:a|A:b|U:c|A:d\n"},
    {C(G("x") "," G("y") "," H("a") "," G("b")), "U:a|A:b\n"},
    {C(S("s") "," G("y") "," S("t") "," H("a") "," G("b")), "S:s\n\nt|U:a|A:b\n"},
    {C(H("a") "," H("b") "," H("c") "," G("d") "," G("e")), "U:a\n\nb\n\nc|A:d\n\ne\n"},
    {C(H("a") "," G("") "," H("b") "," G("c")), "U:a\n\nb|A:c\n"},
    {C(H("a") "," G("b") "," S("s") "," H("c") "," G("d")), "U:a|A:b|U:s\n\nc|A:d\n"},
    {C(H("a") "," G("b") "," S("s") "," G("d")), "U:a|A:b|U:s|A:d\n"},
    {C(H("a") "," G("b") "," H("c")), "U:a|A:b\n"},
    {"[" C(S("s")) "," C(G("g")) "," C(H("h")) "," C("") "," GOOD "]", "U:a|A:b\n"},
    {"{\"id\":7,\"more\":{\"x\":[]},\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
     "{\"content\":\"\\u00e9\\ud83c\\udf33\",\"role\":\"assistant\",\"n\":1}]}",
     "U:a|A:\u00e9\U0001f333\n"},
    {C("{\"from\":\"user\",\"value\":\"a\"},{\"from\":\"chatgpt\",\"value\":\"b\"},"
       "{\"from\":\"bing\",\"value\":\"c\"},{\"from\":\"human\",\"value\":\"d\"},"
       "{\"from\":\"bard\",\"value\":\"e\"},{\"from\":\"assistant\",\"value\":\"f\"}"),
     "U:a|A:b\n\nc|U:d|A:e\n\nf\n"},
};

static void test_rules(void **state)
{
    char shown[4096];
    cop_error err;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (show(rules[i].text, false, shown, sizeof shown, NULL, &err) != COP_OK)
            fail_msg("%s: %s", rules[i].text, err.text);
        assert_string_equal(shown, rules[i].shown);
    }
}

/* Joined in one go: message by message would copy 10 GB here. */
static void test_many_messages_of_one_role(void **state)
{
    enum { MANY = 100000 };
    static const char message[] = H("x") ",";
    size_t bytes = MANY * strlen(message) + 100, used = 0;
    char *text = malloc(bytes);
    used += (size_t)sprintf(text, "{\"conversations\":[");
    for (int i = 0; i < MANY; i++)
        used += (size_t)sprintf(text + used, "%s", message);
    sprintf(text + used, "%s]}", G("y"));
    opened o = open_text(text, false);
    cop_dialogue d;
    bool found;
    cop_error err;
    assert_int_equal(cop_sharegpt_next(o.reader, &d, &found, &err), COP_OK);
    assert_int_equal(d.turns, 1);
    assert_int_equal(d.messages[0].bytes, 3 * MANY - 2);
    close_text(&o);
    free(text);
}

/* ---- tokens ------------------------------------------------------------------------------ */

typedef struct {
    uint64_t calls, done, total;
} watcher;

static void watch(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    watcher *w = context;
    assert_true(done_bytes >= w->done && done_bytes <= total_bytes);
    *w = (watcher){w->calls + 1, done_bytes, total_bytes};
}

/* Every request beside what the encoder says of its dialogue. */
static void test_requests_are_what_the_encoder_says(void **state)
{
    watcher seen = {0};
    cop_transcripts_options options = {.encoder = &byte_encoder,
                                       .vocab = BYTE_VOCAB,
                                       .max_output_tokens = 40,
                                       .progress = watch,
                                       .progress_context = &seen};
    cop_sharegpt *reader;
    cop_transcripts all;
    cop_dialogue d;
    cop_error err;
    bool found;
    assert_int_equal(cop_sharegpt_open(&reader, SMALL, false, &err), COP_OK);
    assert_int_equal(cop_transcripts_read(&all, reader, &options, &err), COP_OK);
    cop_sharegpt_close(reader);
    assert_true(seen.calls > 20 && seen.done == seen.total);
    assert_int_equal(cop_sharegpt_open(&reader, SMALL, false, &err), COP_OK);
    uint64_t turns = 0, cut = 0, own = 0;
    for (uint64_t session = 0; session < all.session_count; session++) {
        assert_int_equal(cop_sharegpt_next(reader, &d, &found, &err), COP_OK);
        assert_int_equal(cop_transcripts_turns(&all, session), d.turns);
        for (uint32_t t = 0; t < d.turns; t++, turns++) {
            cop_tokens expected = {0};
            cop_request r;
            const cop_chat_message *answer = &d.messages[d.has_system + 2 * t + 1];
            cop_transcripts_request(&all, session, t, &r);
            byte_chat(NULL, d.messages, d.has_system + 2 * t + 1, true, &expected, &err);
            assert_int_equal(r.prompt_tokens, expected.count);
            byte_text(NULL, answer->text, answer->bytes, &expected, &err);
            assert_int_equal(r.output_tokens, answer->bytes < 40 ? answer->bytes : 40);
            assert_memory_equal(r.tokens, expected.ids, 4ul * (r.prompt_tokens + r.output_tokens));
            assert_true(r.output_given && r.session == session && r.turn == t);
            cut += answer->bytes > 40;
            own += r.prompt_tokens + r.output_tokens;
            free((void *)r.tokens);
            free(expected.ids);
        }
    }
    assert_int_equal(turns, all.turn_count);
    assert_true(cut > 10);
    assert_true(all.token_count < own * 3 / 4); /* what turns share is kept once */
    assert_int_equal(cop_sharegpt_next(reader, &d, &found, &err), COP_OK);
    assert_false(found);
    cop_sharegpt_close(reader);
    cop_transcripts_fini(&all);
}

static void test_the_small_file(void **state)
{
    cop_sharegpt *reader;
    cop_dialogue d;
    cop_error err;
    bool found = true;
    uint64_t turns = 0, system = 0;
    assert_int_equal(cop_sharegpt_open(&reader, SMALL, false, &err), COP_OK);
    while (cop_sharegpt_next(reader, &d, &found, &err) == COP_OK && found) {
        turns += d.turns;
        system += d.has_system;
        if (strcmp(d.id, "late_system") == 0)
            assert_memory_equal(d.messages[2].text,
                                "The library closes in five minutes.\n\nOne more: shelf 510?", 57);
    }
    assert_false(found);
    cop_sharegpt_counts counts = cop_sharegpt_count(reader);
    assert_int_equal(counts.conversations, 32);
    assert_int_equal(counts.empty, 2); /* no_answer, no_turns */
    assert_int_equal(turns, 55);
    assert_int_equal(system, 8);
    cop_sharegpt_close(reader);
}

static cop_status read_tokens(const char *text, cop_transcripts_options options,
                              cop_transcripts *out, cop_error *err)
{
    opened o = open_text(text, false);
    cop_status status = cop_transcripts_read(out, o.reader, &options, err);
    close_text(&o);
    return status;
}

static void test_limit_cuts_the_last_conversation(void **state)
{
    const char *text = "[" C(H("a") "," G("b") "," H("c") "," G("d")) "," GOOD "," C(
        H("a") "," G("b") "," H("c") "," G("d")) ", garbage";
    static const uint64_t sessions[] = {1, 1, 2, 3, 3}, last_turns[] = {1, 2, 1, 1, 2};
    for (uint64_t limit = 1; limit <= 5; limit++) { /* what lies behind the limit is not read */
        cop_transcripts t;
        cop_error err;
        cop_transcripts_options options = {
            .encoder = &byte_encoder, .vocab = BYTE_VOCAB, .limit = limit};
        assert_int_equal(read_tokens(text, options, &t, &err), COP_OK);
        assert_int_equal(t.turn_count, limit);
        assert_int_equal(t.session_count, sessions[limit - 1]);
        assert_int_equal(cop_transcripts_turns(&t, t.session_count - 1), last_turns[limit - 1]);
        cop_transcripts_fini(&t);
    }
}

/* The work grows with the square of the turns: 10,000 of 4 tokens would be 200 million tokens. */
static void test_too_many_turns(void **state)
{
    enum { TURNS = 10000 };
    static const char turn[] = "," H("q") "," G("a");
    char *text = cop_malloc(64 + TURNS * sizeof turn), *at = text;
    at += sprintf(at, "{\"conversations\":[" S("s"));
    for (int i = 0; i < TURNS; i++)
        at += sprintf(at, "%s", turn);
    sprintf(at, "]}");
    cop_transcripts t;
    cop_error err;
    cop_transcripts_options options = {.encoder = &byte_encoder, .vocab = BYTE_VOCAB};
    assert_int_equal(read_tokens(text, options, &t, &err), COP_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "t.json:1: conversation 1: its first "));
    assert_non_null(strstr(err.text, " of 10000 turns are "));
    free(text);
}

static void test_tokens_outside_of_the_vocabulary(void **state)
{
    cop_transcripts t;
    cop_error err;
    cop_transcripts_options options = {.encoder = &byte_encoder, .vocab = 256};
    assert_int_equal(read_tokens("[\n" GOOD "]", options, &t, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "t.json:2: conversation 1: token 256 is not in the model's "
                                  "vocabulary of 256: is the tokenizer the model's?");
}

/* A template that writes the last message otherwise than the ones before it. */
static cop_status fickle_chat(void *self, const cop_chat_message *messages, size_t count, bool ask,
                              cop_tokens *out, cop_error *err)
{
    byte_put(out, (uint32_t)count);
    return byte_chat(self, messages, count, ask, out, err);
}

static void test_prompts_need_not_continue_each_other(void **state)
{
    static const cop_text_encoder fickle = {byte_text, fickle_chat, NULL};
    cop_transcripts t;
    cop_error err;
    cop_transcripts_options options = {.encoder = &fickle, .vocab = BYTE_VOCAB};
    assert_int_equal(read_tokens(C(H("a") "," G("b") "," H("c") "," G("d")), options, &t, &err),
                     COP_OK);
    static const uint32_t expected[] = {3,        BYTE_USER, 'a', BYTE_END, BYTE_ASSISTANT, 'b',
                                        BYTE_END, BYTE_USER, 'c', BYTE_END, BYTE_ASSISTANT, 'd'};
    cop_request r;
    cop_transcripts_request(&t, 0, 1, &r);
    assert_int_equal(r.prompt_tokens + r.output_tokens, sizeof expected / 4);
    assert_memory_equal(r.tokens, expected, sizeof expected);
    free((void *)r.tokens);
    cop_transcripts_fini(&t);
}

/* ---- as a workload ----------------------------------------------------------------------- */

static cop_workload_options small_workload(void)
{
    return (cop_workload_options){.format = "sharegpt",
                                  .path = SMALL,
                                  .encoder = &byte_encoder,
                                  .seed = 3,
                                  .vocab = BYTE_VOCAB,
                                  .scale = 1,
                                  .speedup = 1,
                                  .rate = 10,
                                  .think_s = 0.5,
                                  .users = 4};
}

static void test_all_turns_come_in_order(void **state)
{
    for (int closed = 0; closed < 2; closed++) {
        cop_workload_options o = small_workload();
        o.closed_loop = closed;
        cop_workload *w;
        cop_error err;
        uint32_t next_turn[64] = {0}, count = 0;
        uint64_t sessions = 0;
        int64_t due_ns, last_ns = 0;
        assert_int_equal(cop_workload_open(&w, &o, &err), COP_OK);
        assert_int_equal(cop_workload_total(w), 55);
        while (cop_workload_due(w, &due_ns)) {
            const cop_request *r = cop_workload_pop(w);
            assert_true(due_ns >= last_ns && r->scheduled_ns == due_ns);
            assert_int_equal(r->turn, next_turn[r->session]++);
            if (r->turn == 0) /* open: in the order of the file; closed: users think */
                assert_true(closed || r->session == sessions);
            sessions += r->turn == 0;
            assert_int_equal(r->tenant, 0);
            last_ns = due_ns;
            count++;
            cop_workload_finished(w, r->id, due_ns);
        }
        assert_true(cop_workload_done(w));
        assert_int_equal(count, 55);
        assert_int_equal(sessions, 30);
        cop_workload_close(w);
    }
}

static void assert_refused(cop_workload_options o, const char *text)
{
    cop_workload *w;
    cop_error err;
    assert_int_equal(cop_workload_open(&w, &o, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, text);
}

static void test_bad_options_are_named(void **state)
{
    cop_workload_options o = small_workload();
    o.encoder = NULL;
    assert_refused(o, "workload.format sharegpt is text and needs a tokenizer: set "
                      "model.tokenizer, or model.path to a checkpoint that has one");
    o = small_workload();
    o.scale = 32;
    assert_refused(o, "workload.scale is 32: text has no lengths to divide, it must be 1 for "
                      "workload.format sharegpt");
    o = small_workload();
    o.rate = 0;
    assert_refused(o, "workload.rate is 0: it must be from 1e-09 to 1e+12");
    o = small_workload();
    o.rate = 1e-8;
    assert_refused(o, "sessions 30 at workload.rate 1e-08 and workload.speedup 1 take 3e+09 s: at "
                      "most 1e9 are possible");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files_are_told),
        cmocka_unit_test(test_bad_conversations_are_skipped),
        cmocka_unit_test(test_what_is_no_json_is_skipped_up_to_its_last_brace),
        cmocka_unit_test(test_too_many_turns),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_many_messages_of_one_role),
        cmocka_unit_test(test_requests_are_what_the_encoder_says),
        cmocka_unit_test(test_the_small_file),
        cmocka_unit_test(test_limit_cuts_the_last_conversation),
        cmocka_unit_test(test_tokens_outside_of_the_vocabulary),
        cmocka_unit_test(test_prompts_need_not_continue_each_other),
        cmocka_unit_test(test_all_turns_come_in_order),
        cmocka_unit_test(test_bad_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
