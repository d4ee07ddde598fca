#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../fuzz/message_samples.h"

#include <dirent.h>
#include <stdio.h>

enum { FIRST = COP_SAY_SUBMIT, LAST = COP_SAY_GAUGES };

static bool valid(const cop_heard *heard)
{
    return cop_message_valid(heard, SAMPLE_WORKERS, SAMPLE_BLOCK_TOKENS);
}

static cop_cursor over(const cop_buffer *frame)
{
    return (cop_cursor){frame->data, frame->data + frame->size};
}

/* One message alone in a frame, heard. */
static cop_heard sample(cop_buffer *frame, cop_message_kind kind, uint32_t n)
{
    cop_heard heard;
    frame->size = 0;
    say_sample(frame, kind, n);
    cop_cursor at = over(frame);
    assert_true(cop_hear(&at, &heard));
    assert_ptr_equal(at.at, at.end);
    assert_int_equal(heard.kind, kind);
    return heard;
}

static void test_every_kind_comes_back(void **state)
{
    cop_buffer frame = {0}, alone = {0};
    for (uint32_t n = 1; n <= SAMPLE_MOST; n++)
        for (int kind = FIRST; kind <= LAST; kind++)
            say_sample(&frame, (cop_message_kind)kind, n);
    cop_cursor at = over(&frame);
    cop_heard heard;
    for (uint32_t n = 1; n <= SAMPLE_MOST; n++)
        for (int kind = FIRST; kind <= LAST; kind++) {
            cop_heard wanted = sample(&alone, (cop_message_kind)kind, n);
            size_t bytes = (size_t)(wanted.body.end - wanted.body.at);
            assert_true(cop_hear(&at, &heard));
            assert_int_equal(heard.kind, kind);
            assert_int_equal(heard.body.end - heard.body.at, bytes);
            assert_int_equal((uintptr_t)heard.body.at % 8, 0);
            if (bytes)
                assert_memory_equal(heard.body.at, wanted.body.at, bytes);
            assert_true(valid(&heard));
        }
    assert_false(cop_hear(&at, &heard));
    assert_ptr_equal(at.at, at.end);
    cop_buffer_fini(&frame);
    cop_buffer_fini(&alone);
}

static void test_a_frame_cut_short_shows(void **state)
{
    cop_buffer frame = {0};
    sample(&frame, COP_SAY_INSERTED, 3);
    for (size_t size = 1; size < frame.size; size++) {
        cop_cursor at = {frame.data, frame.data + size};
        cop_heard heard;
        assert_false(cop_hear(&at, &heard));
        assert_ptr_equal(at.at, frame.data);
    }
    cop_buffer_fini(&frame);
}

static void test_only_the_exact_size_is_valid(void **state)
{
    cop_buffer frame = {0};
    for (int kind = FIRST; kind <= LAST; kind++) {
        cop_heard heard = sample(&frame, (cop_message_kind)kind, 3);
        size_t bytes = (size_t)(heard.body.end - heard.body.at);
        size_t offset = (size_t)(heard.body.at - frame.data);
        memset(cop_buffer_reserve(&frame, 64), 0, 64);
        for (size_t size = 0; size <= bytes + 64; size++) {
            bool whole_rows =
                kind == COP_SAY_EVICTION_ROWS && size % sizeof(cop_evictions_row) == 0;
            heard.body = (cop_cursor){frame.data + offset, frame.data + offset + size};
            assert_int_equal(valid(&heard), size == bytes || whole_rows);
        }
    }
    cop_buffer_fini(&frame);
}

static void test_unknown_kinds_are_refused(void **state)
{
    cop_buffer frame = {0};
    const uint32_t kinds[] = {0, LAST + 1, 99, 1U << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        cop_heard heard = sample(&frame, COP_SAY_STOP, 0);
        assert_true(valid(&heard));
        heard.kind = (cop_message_kind)kinds[i];
        assert_false(valid(&heard));
        assert_string_equal(cop_message_name(heard.kind), "unknown");
    }
    for (int kind = FIRST; kind <= LAST; kind++)
        assert_string_not_equal(cop_message_name((cop_message_kind)kind), "unknown");
    cop_buffer_fini(&frame);
}

#define SUBMIT(field) offsetof(cop_say_submit, field)
#define OFFER(field)  offsetof(cop_say_offer, field)
#define PLAN(field)   offsetof(cop_plan, field)
#define ACCEPT(field) offsetof(cop_say_accept, field)
#define BLOCKS(field) offsetof(cop_say_blocks, field)
#define ENDED(field)  offsetof(cop_say_ended, field)

/* A sample of size n with some u32 set anew. Where a lie would also show in another field or in the
 * size, those are set to fit: each case breaks one rule. */
typedef struct {
    const char *what;
    cop_message_kind kind;
    uint32_t n;
    struct {
        size_t offset;
        uint32_t value;
    } set[3];
    uint32_t sets;
    bool valid;
} edited;

static const edited edits[] = {
    {"no prompt",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.prompt_tokens), 0}, {SUBMIT(request.output_tokens), 6}},
     2,
     false},
    {"no output",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.output_tokens), 0}, {SUBMIT(request.prompt_tokens), 6}},
     2,
     false},
    {"tokens of another split",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.prompt_tokens), 4}, {SUBMIT(request.output_tokens), 2}},
     2,
     true},
    {"prompt longer than the tokens",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.prompt_tokens), 4}},
     1,
     false},
    {"a sum that wraps",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.prompt_tokens), UINT32_MAX}, {SUBMIT(request.output_tokens), 7}},
     2,
     false},
    {"output not given", COP_SAY_SUBMIT, 3, {{SUBMIT(request.output_given), 0}}, 1, false},
    {"prompt alone",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.output_given), 0}, {SUBMIT(request.prompt_tokens), 6}},
     2,
     true},
    {"a bool of 2", COP_SAY_SUBMIT, 3, {{SUBMIT(request.output_given), 2}}, 1, false},
    {"tokens that are not there",
     COP_SAY_SUBMIT,
     3,
     {{SUBMIT(request.prompt_tokens), 4}, {SUBMIT(tokens), 7}},
     2,
     false},
    {"blocks of another size", COP_SAY_OFFER, 0, {{OFFER(block_tokens), 8}}, 1, false},
    {"no checksums", COP_SAY_OFFER, 4, {{OFFER(blocks), 6}, {OFFER(checksums), 0}}, 2, true},
    {"checksums of a few", COP_SAY_OFFER, 4, {{OFFER(checksums), 1}}, 1, false},
    {"some checksums", COP_SAY_OFFER, 4, {{OFFER(blocks), 5}, {OFFER(checksums), 2}}, 2, false},
    {"a size that wraps",
     COP_SAY_OFFER,
     4,
     {{OFFER(blocks), (1U << 28) + 6}, {OFFER(checksums), 0}},
     2,
     false},
    {"no such outcome", COP_SAY_OFFER, 4, {{OFFER(outcome), COP_TRANSFER_REFUSED + 1}}, 1, false},
    {"to itself", COP_SAY_PLAN_SEND, 0, {{PLAN(dst), 1}}, 1, false},
    {"from nobody", COP_SAY_PLAN_SEND, 0, {{PLAN(src), SAMPLE_WORKERS}}, 1, false},
    {"to nobody", COP_SAY_PLAN_RECEIVE, 0, {{PLAN(dst), SAMPLE_WORKERS}}, 1, false},
    {"nothing to move", COP_SAY_PLAN_RECEIVE, 0, {{PLAN(have_block), 6}}, 1, false},
    {"the last block", COP_SAY_PLAN_RECEIVE, 0, {{PLAN(have_block), 5}}, 1, true},
    {"no such reason", COP_SAY_PLAN_SEND, 0, {{PLAN(reason), COP_REASON_REPLICATE + 1}}, 1, false},
    {"an end that just fits",
     COP_SAY_ACCEPT,
     0,
     {{ACCEPT(from), UINT32_MAX - 1}, {ACCEPT(count), 1}},
     2,
     true},
    {"an end that wraps",
     COP_SAY_ACCEPT,
     0,
     {{ACCEPT(from), UINT32_MAX}, {ACCEPT(count), 1}},
     2,
     false},
    {"one hash too few", COP_SAY_INSERTED, 3, {{BLOCKS(count), 4}}, 1, false},
    {"one hash too many", COP_SAY_EVICTED, 3, {{BLOCKS(count), 2}}, 1, false},
    {"hashes that wrap", COP_SAY_EVICTED, 3, {{BLOCKS(count), (1U << 29) + 3}}, 1, false},
    {"no such outcome",
     COP_SAY_TRANSFER_ENDED,
     0,
     {{ENDED(outcome), COP_TRANSFER_REFUSED + 1}},
     1,
     false},
};

static void test_each_violation_is_refused(void **state)
{
    cop_buffer frame = {0};
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        const edited *edit = &edits[i];
        cop_heard heard = sample(&frame, edit->kind, edit->n);
        assert_true(valid(&heard));
        size_t body = (size_t)(heard.body.at - frame.data);
        for (uint32_t k = 0; k < edit->sets; k++)
            memcpy(frame.data + body + edit->set[k].offset, &edit->set[k].value, sizeof(uint32_t));
        if (valid(&heard) != edit->valid)
            fail_msg("%s: %s should %sbe valid", cop_message_name(edit->kind), edit->what,
                     edit->valid ? "" : "not ");
    }
    cop_buffer_fini(&frame);
}

/* A corpus of an older layout would still pass the fuzzer, and try nothing. */
static void test_the_corpus_is_of_this_layout(void **state)
{
    const char *folder = COP_SOURCE_DIR "/tests/fuzz/corpus/message";
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    bool seen[LAST + 1] = {false};
    for (struct dirent *entry; (entry = readdir(dir));) {
        _Alignas(8) uint8_t data[1 << 14];
        char path[4096];
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "bad_", 4) == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *in = fopen(path, "rb");
        assert_non_null(in);
        cop_cursor at = {data, data + fread(data, 1, sizeof data, in)};
        fclose(in);
        cop_heard heard;
        while (cop_hear(&at, &heard)) {
            if (!valid(&heard))
                fail_msg("%s: run message_corpus (tests/fuzz) again", path);
            seen[heard.kind] = true;
        }
        assert_ptr_equal(at.at, at.end);
    }
    closedir(dir);
    for (int kind = FIRST; kind <= LAST; kind++)
        assert_true(seen[kind]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_comes_back),
        cmocka_unit_test(test_a_frame_cut_short_shows),
        cmocka_unit_test(test_only_the_exact_size_is_valid),
        cmocka_unit_test(test_unknown_kinds_are_refused),
        cmocka_unit_test(test_each_violation_is_refused),
        cmocka_unit_test(test_the_corpus_is_of_this_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
