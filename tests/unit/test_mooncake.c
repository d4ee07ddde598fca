#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workload/mooncake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOOD \
    "{\"timestamp\": 5, \"input_length\": 600, \"output_length\": 9, \"hash_ids\": [1, 2]}\n"
#define GOOD_IDS  "\"hash_ids\": [1, 2]"
#define GOOD_HEAD "\"timestamp\": 5, \"input_length\": 600, \"output_length\": 9"

static cop_status parse(cop_mooncake *out, const char *text, bool skip, cop_error *err)
{
    /* An exact copy, so that a sanitizer sees a read past the end. */
    size_t bytes = strlen(text);
    char *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, text, bytes);
    cop_status status = cop_mooncake_parse(out, "t.jsonl", copy, bytes, 0, skip, err);
    free(copy);
    return status;
}

typedef struct {
    const char *text, *error;
} malformed_case;

static const malformed_case malformed_cases[] = {
    {"", "t.jsonl: no request in it: it is empty"},
    {"\n\n", "t.jsonl: no request in it: it is empty"},
    {"hello\n", "t.jsonl:1: expected '{' to begin a request, found 'hello'"},
    {"\xef\xbb\xbf{}\n", "t.jsonl:1: expected '{' to begin a request, found byte 0xef"},
    {"{}\n", "t.jsonl:1: expected a field name in double quotes, found '}'"},
    {"{timestamp: 5}\n", "t.jsonl:1: expected a field name in double quotes, found 'timestamp'"},
    {"{\"timestamp: 5}\n",
     "t.jsonl:1: expected '\"' to end a field name, found the end of the line"},
    {"{\"timestamp\" 5}\n", "t.jsonl:1: expected ':' after a field name, found '5'"},
    {"{\"timestamp\": \"5\"}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found '\"'"},
    {"{\"timestamp\": 5.5}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found '5.5'"},
    {"{\"timestamp\": -5}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found '-5'"},
    {"{\"timestamp\": 05}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found '05'"},
    {"{\"timestamp\": 1e3}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found '1e3'"},
    {"{\"timestamp\": 9007199254740992}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found "
     "'9007199254740992'"},
    {"{\"timestamp\": null}\n",
     "t.jsonl:1: expected an integer from 0 to 9007199254740991 in 'timestamp', found 'null'"},
    {"{\"input_length\": 4294967296}\n",
     "t.jsonl:1: expected an integer from 0 to 134217728 in 'input_length', found '4294967296'"},
    {"{\"output_length\": 134217729}\n",
     "t.jsonl:1: expected an integer from 0 to 134217728 in 'output_length', found '134217729'"},
    {"{\"hash_ids\": 7}\n", "t.jsonl:1: expected '[' to begin 'hash_ids', found '7'"},
    {"{\"hash_ids\": [7 8]}\n", "t.jsonl:1: expected ',' or ']' in 'hash_ids', found '8'"},
    {"{\"hash_ids\": [7,]}\n",
     "t.jsonl:1: expected an integer from 0 to 18446744073709551615 in 'hash_ids', found ']'"},
    {"{\"hash_ids\": [18446744073709551616]}\n",
     "t.jsonl:1: expected an integer from 0 to 18446744073709551615 in 'hash_ids', found "
     "'18446744073709551616'"},
    {"{\"hash_ids\": [100000000000000000000000000000]}\n",
     "t.jsonl:1: expected an integer from 0 to 18446744073709551615 in 'hash_ids', found "
     "'100000000000000000000000...'"},
    {"{\"hash_ids\": [\"a\"]}\n",
     "t.jsonl:1: expected an integer from 0 to 18446744073709551615 in 'hash_ids', found '\"'"},
    {"{\"inputlength\": 4}\n",
     "t.jsonl:1: unknown field 'inputlength'; did you mean 'input_length'?"},
    {"{\"hash_id\": []}\n", "t.jsonl:1: unknown field 'hash_id'; did you mean 'hash_ids'?"},
    {"{\"session\": 4}\n", "t.jsonl:1: unknown field 'session'; there are timestamp, input_length, "
                           "output_length, hash_ids"},
    {"{\"a\x1b[1m\": 4}\n", "t.jsonl:1: unknown field 'a?[1m'; there are timestamp, input_length, "
                            "output_length, hash_ids"},
    {"{\"timestamp\": 5, \"timestamp\": 5}\n", "t.jsonl:1: field 'timestamp' is there twice"},
    {"{" GOOD_HEAD "}\n", "t.jsonl:1: field 'hash_ids' is missing"},
    {"{\"timestamp\": 5, \"output_length\": 9, " GOOD_IDS "}\n",
     "t.jsonl:1: field 'input_length' is missing"},
    {"{" GOOD_HEAD " " GOOD_IDS "}\n", "t.jsonl:1: expected ',' or '}' after a field, found '\"'"},
    {"{" GOOD_HEAD ", " GOOD_IDS "} x\n",
     "t.jsonl:1: expected the end of the line after '}', found 'x'"},
    {"{" GOOD_HEAD ", " GOOD_IDS "},\n",
     "t.jsonl:1: expected the end of the line after '}', found ','"},
    {"{\"timestamp\": 5, \"input_length\": 0, \"output_length\": 9, \"hash_ids\": []}\n",
     "t.jsonl:1: input_length is 0: a prompt has at least one token"},
    {"{" GOOD_HEAD ", \"hash_ids\": []}\n",
     "t.jsonl:1: hash_ids has 0 ids, input_length 600 needs 2 (512 tokens each)"},
    {"{" GOOD_HEAD ", \"hash_ids\": [1, 2, 3]}\n",
     "t.jsonl:1: hash_ids has 3 ids, input_length 600 needs 2 (512 tokens each)"},
    {GOOD "{\"timestamp\": 4, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1]}\n",
     "t.jsonl:2: timestamp 4 is before 5, that of the request before it"},
    {GOOD "\n \r\n" GOOD, "t.jsonl:2: blank line in the middle of the trace"},
    {GOOD GOOD "{\"timestamp\": 5, \"input_len",
     "t.jsonl:3: expected '\"' to end a field name, found the end of the file: it is cut short"},
    {GOOD "{\"timestamp\": 5, \"input_length\": 600, \"output_length\": 9, \"hash_ids\": [1, ",
     "t.jsonl:2: expected an integer from 0 to 18446744073709551615 in 'hash_ids', found the end "
     "of the file: it is cut short"},
    {GOOD "{" GOOD_HEAD ", " GOOD_IDS,
     "t.jsonl:2: expected ',' or '}' after a field, found the end of the file: it is cut short"},
};

static void test_every_malformed_line_is_named(void **state)
{
    for (size_t i = 0; i < sizeof malformed_cases / sizeof *malformed_cases; i++) {
        cop_mooncake trace;
        cop_error err;
        cop_status status = parse(&trace, malformed_cases[i].text, false, &err);
        assert_int_not_equal(status, COP_OK);
        assert_string_equal(err.text, malformed_cases[i].error);
        assert_int_equal(cop_status_exit(status), 2);
        bool of_a_line =
            strstr(err.text, "t.jsonl:") != NULL && err.text[7] == ':' && err.text[8] != ' ';
        assert_int_equal(status, of_a_line ? COP_ERR_CORRUPT : COP_ERR_INVALID);
    }
}

/* Each malformed text between good lines: only the good ones are kept, and each bad line counts. */
static void test_skip_mode_counts_bad_lines(void **state)
{
    for (size_t i = 0; i < sizeof malformed_cases / sizeof *malformed_cases; i++) {
        char text[2048];
        const char *bad = malformed_cases[i].text;
        size_t bad_lines = 0, good_lines = 0;
        for (const char *p = bad; *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : p + strlen(p))
            strncmp(p, GOOD, strlen(GOOD)) == 0 ? good_lines++ : bad_lines++;
        bool cut = *bad && bad[strlen(bad) - 1] != '\n';
        snprintf(text, sizeof text, "%s%s%s%s", GOOD, bad, cut ? "\n" : "", GOOD);
        cop_mooncake trace;
        cop_error err;
        assert_int_equal(parse(&trace, text, true, &err), COP_OK);
        assert_int_equal(trace.skipped, bad_lines);
        assert_int_equal(trace.row_count, good_lines + 2);
        assert_int_equal(trace.id_count, 2 * trace.row_count);
        for (size_t r = 0; r < trace.row_count; r++)
            assert_int_equal(trace.rows[r].first_id, 2 * r);
        cop_mooncake_fini(&trace);
    }
    cop_mooncake trace;
    cop_error err;
    assert_int_equal(parse(&trace, "a\nb\n", true, &err), COP_ERR_CORRUPT);
    assert_string_equal(err.text, "t.jsonl: none of its 2 lines is a request");
}

static void assert_one_good_row(const char *text)
{
    cop_mooncake trace;
    cop_error err;
    cop_status status = parse(&trace, text, false, &err);
    if (status != COP_OK)
        fail_msg("%s in: %s", err.text, text);
    assert_int_equal(trace.row_count, 1);
    const cop_mooncake_row *row = trace.rows;
    assert_int_equal(row->timestamp_ms, 5);
    assert_int_equal(row->input_length, 600);
    assert_int_equal(row->output_length, 9);
    assert_int_equal(row->id_count, 2);
    assert_int_equal(trace.ids[0], 1);
    assert_int_equal(trace.ids[1], 2);
    assert_int_equal(trace.bytes, strlen(text));
    cop_mooncake_fini(&trace);
}

static void test_accepted_shapes(void **state)
{
    assert_one_good_row(GOOD);
    assert_one_good_row("{" GOOD_HEAD ", " GOOD_IDS "}"); /* no newline at the end */
    assert_one_good_row("{" GOOD_HEAD ", " GOOD_IDS "}\r\n");
    assert_one_good_row("{" GOOD_HEAD ", " GOOD_IDS "}\n\n \r\n\t");
    assert_one_good_row("{" GOOD_IDS ", \"output_length\": 9, \"timestamp\": 5, "
                        "\"input_length\": 600}\n");
    assert_one_good_row("{\"timestamp\":5,\"input_length\":600,\"output_length\":9,"
                        "\"hash_ids\":[1,2]}\n");
    assert_one_good_row(" { \"timestamp\" :\t5 , \"input_length\" : 600 , \"output_length\" : 9 , "
                        "\"hash_ids\" : [ 1 , 2 ] } \n");
}

static void test_extremes_of_the_ranges(void **state)
{
    const char *text = "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 0, "
                       "\"hash_ids\": [18446744073709551615]}\n"
                       "{\"timestamp\": 9007199254740991, \"input_length\": 512, "
                       "\"output_length\": 134217728, \"hash_ids\": [0]}\n";
    cop_mooncake trace;
    cop_error err;
    assert_int_equal(parse(&trace, text, false, &err), COP_OK);
    assert_true(trace.ids[0] == UINT64_MAX);
    assert_int_equal(trace.rows[1].timestamp_ms, 9007199254740991);
    assert_int_equal(trace.rows[1].output_length, 134217728);
    cop_mooncake_fini(&trace);
}

static void assert_read_fails(const char *path, cop_status expected, const char *text)
{
    cop_mooncake trace;
    cop_error err;
    assert_int_equal(cop_mooncake_read(&trace, path, 0, false, &err), expected);
    assert_string_equal(err.text, text);
    assert_int_equal(cop_status_exit(err.status), 2);
}

static void test_bad_paths_are_named(void **state)
{
    assert_read_fails("/nowhere/x.jsonl", COP_ERR_INVALID,
                      "cannot open trace '/nowhere/x.jsonl': No such file or directory");
    assert_read_fails("/tmp", COP_ERR_INVALID, "cannot read trace '/tmp': it is a directory");
    assert_read_fails("/dev/null", COP_ERR_INVALID, "/dev/null: no request in it: it is empty");
    assert_read_fails("", COP_ERR_INVALID, "workload.path is empty: it must name a Mooncake trace");
    assert_read_fails(NULL, COP_ERR_INVALID,
                      "workload.path is empty: it must name a Mooncake trace");
}

/* A trace of several read buffers, one line alone longer than a buffer, the last without newline.
 */
static char *long_trace(size_t *bytes, size_t *rows)
{
    enum { LONG_IDS = 60000, SHORT_ROWS = 8000 };
    char *text = malloc((size_t)4 << 20), *p = text;
    *rows = SHORT_ROWS + 1;
    for (int i = 0; i < SHORT_ROWS; i++) {
        p += sprintf(p,
                     "%s{\"timestamp\": %d, \"input_length\": 513, \"output_length\": %d, "
                     "\"hash_ids\": [%d, %d]}",
                     i ? "\n" : "", i, i, i, i + 1);
        if (i != SHORT_ROWS / 2)
            continue;
        p += sprintf(p,
                     "\n{\"timestamp\": %d, \"input_length\": %d, \"output_length\": 1, "
                     "\"hash_ids\": [0",
                     i, LONG_IDS * COP_MOONCAKE_BLOCK);
        for (int id = 1; id < LONG_IDS; id++)
            p += sprintf(p, ", %d", id);
        p += sprintf(p, "]}");
    }
    *bytes = (size_t)(p - text);
    return text;
}

static void test_reading_in_pieces_equals_parsing_at_once(void **state)
{
    size_t bytes, rows;
    char *text = long_trace(&bytes, &rows), path[] = "/tmp/coppice-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    close(fd);
    for (uint64_t limit = 0; limit <= rows + 1; limit += 1000) {
        cop_mooncake a, b;
        cop_error err;
        assert_int_equal(cop_mooncake_parse(&a, path, text, bytes, limit, false, &err), COP_OK);
        assert_int_equal(cop_mooncake_read(&b, path, limit, false, &err), COP_OK);
        assert_int_equal(a.row_count, limit && limit < rows ? limit : rows);
        assert_int_equal(b.row_count, a.row_count);
        assert_int_equal(b.id_count, a.id_count);
        assert_int_equal(b.bytes, a.bytes);
        assert_memory_equal(a.rows, b.rows, a.row_count * sizeof *a.rows);
        assert_memory_equal(a.ids, b.ids, a.id_count * sizeof *a.ids);
        if (!limit)
            assert_int_equal(a.bytes, bytes);
        cop_mooncake_fini(&a);
        cop_mooncake_fini(&b);
    }
    unlink(path);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_malformed_line_is_named),
        cmocka_unit_test(test_skip_mode_counts_bad_lines),
        cmocka_unit_test(test_accepted_shapes),
        cmocka_unit_test(test_extremes_of_the_ranges),
        cmocka_unit_test(test_bad_paths_are_named),
        cmocka_unit_test(test_reading_in_pieces_equals_parsing_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
