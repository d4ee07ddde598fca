#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/text.h"
#include "config/config.h"
#include "config/load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VALUE_TEXT = 4096 };

static void assert_same_values(const cop_config *a, const cop_config *b)
{
    const cop_key *keys;
    size_t count = cop_config_keys(&keys);
    for (size_t i = 0; i < count; i++) {
        char x[VALUE_TEXT], y[VALUE_TEXT];
        cop_config_value(a, i, x, sizeof x);
        cop_config_value(b, i, y, sizeof y);
        if (strcmp(x, y) != 0)
            fail_msg("%s: %s and %s", keys[i].path, x, y);
    }
}

static char *print_to_text(const cop_config *cfg, size_t *size)
{
    char *text;
    FILE *out = open_memstream(&text, size);
    cop_config_print(cfg, out);
    fclose(out);
    return text;
}

static size_t index_of(const char *path)
{
    const cop_key *keys;
    size_t count = cop_config_keys(&keys);
    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].path, path) == 0)
            return i;
    fail_msg("no key %s", path);
    return 0;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* ---- Loading ---- */

static void load_text_ok(cop_config *cfg, const char *text)
{
    cop_error err;
    if (cop_config_load_text(cfg, "a.yaml", text, strlen(text), &err) != COP_OK)
        fail_msg("%s", err.text);
}

static void test_values_reach_their_fields(void **state)
{
    cop_config cfg;
    cop_config_default(&cfg);
    assert_int_equal(cfg.seed, 1);
    assert_string_equal(cfg.cache_eviction, "lru");
    load_text_ok(&cfg, "seed: +012\n"
                       "cache: {enabled: false, eviction: \"lfu\"}\n"
                       "transport:\n"
                       "  link:\n"
                       "    latency_us: 1.5e3\n"
                       "    bandwidth_mb_s: .5\n"
                       "device:\n" /* a section with nothing in it */
                       "record:\r\n"
                       "  path: 'it''s'\r\n"
                       "workload: {path: \"\", limit: 9223372036854775807}\n");
    assert_int_equal(cfg.seed, 12);
    assert_false(cfg.cache_enabled);
    assert_string_equal(cfg.cache_eviction, "lfu");
    assert_true(cfg.transport_link_latency_us == 1500);
    assert_true(cfg.transport_link_bandwidth_mb_s == 0.5);
    assert_string_equal(cfg.record_path, "it's");
    assert_string_equal(cfg.workload_path, "");
    assert_true(cfg.workload_limit == INT64_MAX);
    assert_string_equal(cfg.device_kind, "cpu");
    assert_int_equal(cfg.origin[index_of("seed")], 1);
    assert_int_equal(cfg.origin[index_of("device.kind")], 0);
    cop_config_fini(&cfg);
}

static void test_a_file_without_keys_changes_nothing(void **state)
{
    static const char *const texts[] = {"", "# nothing\n", "---\n...\n", "{}\n", "\n\n"};
    cop_config cfg, defaults;
    cop_config_default(&cfg);
    cop_config_default(&defaults);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        load_text_ok(&cfg, texts[i]);
    assert_same_values(&cfg, &defaults);
    cop_config_fini(&cfg);
    cop_config_fini(&defaults);
}

static void test_every_default_is_within_its_own_range(void **state)
{
    const cop_key *keys;
    size_t count = cop_config_keys(&keys);
    cop_config cfg;
    cop_config_default(&cfg);
    for (size_t i = 0; i < count; i++) {
        char value[VALUE_TEXT], assignment[2 * VALUE_TEXT];
        cop_error err;
        cop_config_value(&cfg, i, value, sizeof value);
        snprintf(assignment, sizeof assignment, "%s=%s", keys[i].path, value);
        if (cop_config_set(&cfg, assignment, "--set", &err) != COP_OK)
            fail_msg("%s", err.text);
        assert_int_equal(cfg.origin[i], 2);
        assert_true(strlen(keys[i].doc) > 5);
    }
    assert_true(count > 60);
    cop_config_fini(&cfg);
}

/* ---- Errors ---- */

typedef struct {
    const char *text, *message;
} error_case;

static const error_case load_errors[] = {
    /* keys */
    {"cache:\n  evicton: lru\n",
     "a.yaml:2:3: unknown key 'cache.evicton'; did you mean 'cache.eviction'?"},
    {"chache: {eviction: lru}\n", "a.yaml:1:1: unknown key 'chache'; did you mean 'cache'?"},
    {"Seed: 1\n", "a.yaml:1:1: unknown key 'Seed'; did you mean 'seed'?"},
    {"transport: {link: {latency_ms: 1}}",
     "a.yaml:1:20: unknown key 'transport.link.latency_ms'; did you mean "
     "'transport.link.latency_us'?"},
    {"router: {eviction: lru}",
     "a.yaml:1:10: unknown key 'router.eviction'; did you mean 'cache.eviction'?"},
    {"block_tokens: 16", "a.yaml:1:1: unknown key 'block_tokens'; did you mean "
                         "'cache.block_tokens'?"},
    {"cluster: {gpus: 8}",
     "a.yaml:1:11: unknown key 'cluster.gpus'; 'cluster' has: workers, frontend"},
    {"quux: 1",
     "a.yaml:1:1: unknown key 'quux'; the top level has: seed, cluster, model, device, cache, "
     "router, migration, transport, fault, scheduler, sampling, loop, workload, record, bench"},
    {"inclde: b.yaml", "a.yaml:1:1: unknown key 'inclde'; did you mean 'include'?"},
    {"cache: {include: b.yaml}",
     "a.yaml:1:9: unknown key 'cache.include'; 'cache' has: enabled, "
     "block_tokens, capacity_blocks, host_blocks, eviction, partial_blocks"},
    {"cache.eviction: lru",
     "a.yaml:1:1: keys nest in a file: 'cache.eviction' is written cache: {eviction: ...}"},
    {"transport: {link.latency_us: 1}",
     "a.yaml:1:13: keys nest in a file: 'link.latency_us' is written link: {latency_us: ...}"},
    {"seed: 1\ncache: {}\nseed: 2\n", "a.yaml:3:1: 'seed' is given twice, first in line 1"},
    {"cache: {eviction: lru}\ncache: {enabled: true}",
     "a.yaml:2:1: 'cache' is given twice, first in line 1"},
    {"cache:\n  eviction: lru\n  eviction: lru\n",
     "a.yaml:3:3: 'cache.eviction' is given twice, first in line 2"},
    /* types */
    {"cache: {capacity_blocks: many}",
     "a.yaml:1:26: cache.capacity_blocks: expected an integer, got 'many'"},
    {"seed: 1_000", "a.yaml:1:7: seed: expected an integer, got '1_000'"},
    {"seed: 1e6", "a.yaml:1:7: seed: expected an integer, got '1e6'"},
    {"seed: 1.0", "a.yaml:1:7: seed: expected an integer, got '1.0'"},
    {"seed: 0x10", "a.yaml:1:7: seed: expected an integer, got '0x10'"},
    {"seed: \"1\"", "a.yaml:1:7: seed: expected an integer, got the text '1'"},
    {"seed:", "a.yaml:1:1: seed: expected an integer, got nothing"},
    {"workload: {rate: fast}", "a.yaml:1:18: workload.rate: expected a number, got 'fast'"},
    {"workload: {rate: .inf}", "a.yaml:1:18: workload.rate: expected a number, got '.inf'"},
    {"workload: {rate: nan}", "a.yaml:1:18: workload.rate: expected a number, got 'nan'"},
    {"workload: {rate: 1e}", "a.yaml:1:18: workload.rate: expected a number, got '1e'"},
    {"cache: {enabled: yes}", "a.yaml:1:18: cache.enabled: expected true or false, got 'yes'"},
    {"cache: {enabled: True}", "a.yaml:1:18: cache.enabled: expected true or false, got 'True'"},
    {"cache: {eviction: }", "a.yaml:1:9: cache.eviction: expected text, got nothing; write \"\" "
                            "for an empty one"},
    {"cache: {eviction: null}", "a.yaml:1:19: cache.eviction: expected text, got null; write "
                                "\"null\" for this word"},
    {"cache: lru", "a.yaml:1:8: cache: expected a section of keys, got 'lru'"},
    {"cache: \"\"", "a.yaml:1:8: cache: expected a section of keys, got ''"},
    {"cache: [lru]", "a.yaml:1:8: cache: expected a section of keys, got a list"},
    {"seed: {a: 1}", "a.yaml:1:7: seed: expected one value, got a section of keys"},
    {"seed: [1, 2]", "a.yaml:1:7: seed: expected one value, got a list"},
    {"lru", "a.yaml:1:1: top level: expected keys and values, as in 'seed: 1', got 'lru'"},
    {"- lru", "a.yaml:1:1: top level: expected keys and values, as in 'seed: 1', got a list"},
    /* ranges and choices */
    {"cache: {capacity_blocks: -1}",
     "a.yaml:1:26: cache.capacity_blocks: -1 is out of range: 0 to 536870912 blocks"},
    {"seed: -1", "a.yaml:1:7: seed: -1 is out of range: 0 or more"},
    {"seed: 9223372036854775808",
     "a.yaml:1:7: seed: 9223372036854775808 is out of range: 0 or more"},
    {"migration: {timeout_ms: 0.5}",
     "a.yaml:1:25: migration.timeout_ms: 0.5 is out of range: 1 to 10000000 ms"},
    {"sampling: {top_p: 1e999}", "a.yaml:1:19: sampling.top_p: 1e999 is out of range: 0.01 to 1"},
    {"device: {kind: cdua}",
     "a.yaml:1:16: device.kind: 'cdua' is not one of cpu, cuda; did you mean 'cuda'?"},
    {"loop: {idle: nap}", "a.yaml:1:14: loop.idle: 'nap' is not one of spin, yield, sleep"},
    /* syntax */
    {"cache:\n\teviction: lru\n", "a.yaml:2:1: a tab: indent with spaces"},
    {"seed: 1 \x01", "a.yaml:1:9: byte 0x01 is not a printable character"},
    {"seed: 1\r", "a.yaml:1:8: byte 0x0d is not a printable character"},
    {"seed: [1\n", "a.yaml:2:1: flow sequence without a closing bracket"},
    {"seed: 'x", "a.yaml:1:8: single-quoted scalar without closing quote"},
    {"a: b: c", "a.yaml:1:5: invalid nested block mapping on the same line"},
    {"seed: &x 1", "a.yaml:1:10: anchors and aliases (& and *) are not supported; use include"},
    {"seed: *x", "a.yaml:1:8: anchors and aliases (& and *) are not supported; use include"},
    {"seed: !!int 1", "a.yaml:1:13: tags (!) are not supported; quote the text"},
    {"? [a]\n: 1", "a.yaml:1:3: a key must be a name, not a list or a mapping"},
    {"seed: 1\n---\nseed: 2", "a.yaml:2:1: a second document: one file is one configuration"},
    {"seed: 1\n# \xff\n", "a.yaml:2:3: byte 0xff is not UTF-8 text"},
    {"record: {path: \"\\0\"}", "a.yaml:1:16: an escape gives a character that no text can hold"},
    /* include */
    {"include:", "a.yaml:1:1: include: expected the path of a file, or a list of them, got ''"},
    {"include: {a: 1}", "a.yaml:1:10: include: expected the path of a file, or a list of them, "
                        "got a section of keys"},
    {"include: [[a]]", "a.yaml:1:11: include: expected the path of a file, or a list of them, "
                       "got a list"},
    {"seed: 1\ninclude: nowhere.yaml",
     "a.yaml:2:10: include: nowhere.yaml: No such file or directory"},
    {"include: \"a\\nb\"", "a.yaml:1:10: include: expected the path of a file, or a list of them, "
                           "got 'a b'"},
    {"include: /dev/null", "a.yaml:1:10: include: /dev/null: not a regular file"},
};

/* After each error the configuration must be as before, keys that stood before the error too. */
static void test_load_errors_say_where_and_what(void **state)
{
    cop_config cfg, before;
    cop_config_default(&cfg);
    cop_config_default(&before);
    for (size_t i = 0; i < sizeof load_errors / sizeof *load_errors; i++) {
        const error_case *c = &load_errors[i];
        cop_error err = {0};
        cop_status status = cop_config_load_text(&cfg, "a.yaml", c->text, strlen(c->text), &err);
        assert_string_equal(err.text, c->message);
        assert_int_equal(status, COP_ERR_INVALID);
        assert_int_equal(err.status, status);
        assert_int_equal(cop_config_load_text(&cfg, "a.yaml", c->text, strlen(c->text), NULL),
                         status);
    }
    static const char half[] = "seed: 5\ncache: {eviction: fifo, enabled: 3}\n";
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", half, sizeof half - 1, NULL),
                     COP_ERR_INVALID);
    assert_same_values(&cfg, &before);
    assert_int_equal(cfg.origin[index_of("seed")], 0);
    cop_config_fini(&cfg);
    cop_config_fini(&before);
}

static void test_deep_and_long_text_is_refused(void **state)
{
    cop_config cfg;
    cop_error err;
    cop_config_default(&cfg);
    char deep[200];
    memset(deep, '[', 40);
    memset(deep + 40, ']', 40);
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", deep, 80, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "a.yaml:1:33: nested too deeply");

    char text[400], key[151];
    memset(key, 'k', 150);
    key[150] = '\0';
    snprintf(text, sizeof text, "%s: 1", key);
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", text, strlen(text), &err),
                     COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "unknown key 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
                                     "kkkkkkkkkkkk...'"));
    snprintf(text, sizeof text, "seed: \"%s\\n\\u00e9\"", key);
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", text, strlen(text), &err),
                     COP_ERR_INVALID);
    assert_null(strchr(err.text, '\n'));

    static char big[(1 << 16) + 1];
    memset(big, '\n', sizeof big);
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", big, 4097, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "a.yaml: more than 4096 lines");
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", big, sizeof big, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "a.yaml: more than 65536 bytes");
    assert_int_equal(cop_config_load_text(&cfg, "a.yaml", big, 4096, &err), COP_OK);
    memset(big, 'x', 1013);
    memcpy(big, "record.path=", 12);
    big[1013] = '\0';
    assert_int_equal(cop_config_set(&cfg, big, "--set", &err), COP_ERR_INVALID);
    assert_string_equal(err.text,
                        "--set: record.path: 1001 bytes of text are too many; at most 1000");
    big[1012] = '\0';
    assert_int_equal(cop_config_set(&cfg, big, "--set", &err), COP_OK);
    cop_config_fini(&cfg);
}

/* ---- Assignments ---- */

static void test_assignments_are_checked_alike(void **state)
{
    static const error_case cases[] = {
        {"cache.evicton=lfu", "--set: unknown key 'cache.evicton'; did you mean 'cache.eviction'?"},
        {"cahce.evicton=lfu", "--set: unknown key 'cahce.evicton'; did you mean 'cache.eviction'?"},
        {"cache.eviction.x=1",
         "--set: unknown key 'cache.eviction.x'; 'cache.eviction' has no keys below it"},
        {"cache=1", "--set: 'cache' is a section; its keys are: enabled, block_tokens, "
                    "capacity_blocks, host_blocks, eviction, partial_blocks"},
        {"include=b.yaml",
         "--set: unknown key 'include'; the top level has: seed, cluster, model, device, cache, "
         "router, migration, transport, fault, scheduler, sampling, loop, workload, record, bench"},
        {"cache.eviction", "--set: 'cache.eviction' has no value: write path=value"},
        {"cache.capacity_blocks=many",
         "--set: cache.capacity_blocks: expected an integer, got 'many'"},
        {"cache.capacity_blocks=-1",
         "--set: cache.capacity_blocks: -1 is out of range: 0 to 536870912 blocks"},
        {"cache.capacity_blocks=",
         "--set: cache.capacity_blocks: expected an integer, got nothing"},
        {"cache.capacity_blocks='64'",
         "--set: cache.capacity_blocks: expected an integer, got the text '64'"},
        {"workload.loop=opne",
         "--set: workload.loop: 'opne' is not one of open, closed; did you mean 'open'?"},
        {"record.path=\"x", "--set: record.path: \"x begins with a quote but is no text in quotes"},
        {"record.path='a': b",
         "--set: record.path: 'a': b begins with a quote but is no text in quotes"},
        {"record.path=\xff", "--set: record.path: the value is not UTF-8 text"},
    };
    cop_config cfg, before;
    cop_config_default(&cfg);
    cop_config_default(&before);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cop_error err = {0};
        assert_int_equal(cop_config_set(&cfg, cases[i].text, "--set", &err), COP_ERR_INVALID);
        assert_string_equal(err.text, cases[i].message);
        assert_int_equal(cop_config_set(&cfg, cases[i].text, "--set", NULL), COP_ERR_INVALID);
    }
    assert_same_values(&cfg, &before);
    cop_config_fini(&cfg);
    cop_config_fini(&before);
}

static void test_assignments_take_the_value_as_it_stands(void **state)
{
    static const error_case cases[] = {
        {"record.path=runs/a.h5", "runs/a.h5"},
        {"record.path='it''s'", "it's"},
        {"record.path=\"a\\tb\"", "a\tb"},
        {"record.path=a: b # c", "a: b # c"},
        {"record.path=x=y", "x=y"},
        {"record.path=", ""},
        {"record.path=\"null\"", "null"},
        {"record.path=[1]", "[1]"},
        {"record.path=caf\xc3\xa9", "caf\xc3\xa9"},
    };
    cop_config cfg;
    cop_config_default(&cfg);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(cop_config_set(&cfg, cases[i].text, "--set", NULL), COP_OK);
        assert_string_equal(cfg.record_path, cases[i].message);
    }
    cop_config_fini(&cfg);
}

/* ---- Printing ---- */

static void test_printed_defaults_load_back(void **state)
{
    cop_config cfg, again;
    cop_config_default(&cfg);
    cop_config_default(&again);
    const cop_key *keys;
    size_t size, count = cop_config_keys(&keys);
    char *text = print_to_text(&cfg, &size);
    load_text_ok(&again, text);
    assert_same_values(&cfg, &again);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(again.origin[i], 1); /* every key was there */
    assert_non_null(strstr(text, "\ncache:\n"));
    assert_non_null(strstr(text, "  capacity_blocks: 4096  # default 4096; 0 to 536870912 blocks"));
    free(text);
    cop_config_fini(&cfg);
    cop_config_fini(&again);
}

/* Random text of well-formed UTF-8, rich in what YAML gives a meaning. */
static void random_text(cop_rng *rng, char *text, size_t size)
{
    static const char special[] = "'\"\\:#-[]{}&*!|>%@`, ~\n\t.\r\x01\x7f";
    size_t n = 0, letters = cop_rng_below(rng, 12);
    for (size_t i = 0; i < letters && n + 5 < size; i++) {
        uint32_t c = (uint32_t)cop_rng_below(rng, 0x10ffff) + 1;
        switch (cop_rng_below(rng, 4)) {
        case 0:
            text[n++] = special[cop_rng_below(rng, sizeof special - 1)];
            break;
        case 1:
            text[n++] = (char)('a' + cop_rng_below(rng, 26));
            break;
        case 2:
            c = (uint32_t)cop_rng_below(rng, 0x3000) + 0x80;
            /* fall through */
        default:
            if (c < 0x800) {
                c = c < 0x80 ? c + 0x80 : c;
                text[n++] = (char)(0xc0 | c >> 6);
            } else if (c < 0x10000) {
                c = c >= 0xd800 && c < 0xe000 ? c - 0x1000 : c;
                text[n++] = (char)(0xe0 | c >> 12);
                text[n++] = (char)(0x80 | (c >> 6 & 0x3f));
            } else {
                text[n++] = (char)(0xf0 | c >> 18);
                text[n++] = (char)(0x80 | (c >> 12 & 0x3f));
                text[n++] = (char)(0x80 | (c >> 6 & 0x3f));
            }
            text[n++] = (char)(0x80 | (c & 0x3f));
        }
    }
    text[n] = '\0';
}

static void test_random_values_print_and_load_back(void **state)
{
    enum { SEED = 11, ROUNDS = 400 };
    print_message("seed %d\n", SEED);
    cop_rng rng;
    cop_rng_init(&rng, SEED, 0);
    cop_config cfg, again;
    cop_config_default(&cfg);
    cop_config_default(&again);
    for (int round = 0; round < ROUNDS; round++) {
        free(cfg.record_path);
        cfg.record_path = malloc(128);
        random_text(&rng, cfg.record_path, 128);
        cfg.workload_rate = 1e-6 + cop_rng_exponential(&rng, 1) * 1e4;
        cfg.seed = (int64_t)(cop_rng_u64(&rng) >> (1 + cop_rng_below(&rng, 63)));
        size_t size;
        char *text = print_to_text(&cfg, &size), assignment[VALUE_TEXT + 16] = "record.path=";
        load_text_ok(&again, text);
        assert_string_equal(again.record_path, cfg.record_path);
        assert_true(again.workload_rate == cfg.workload_rate);
        assert_true(again.seed == cfg.seed);
        cop_config_value(&cfg, index_of("record.path"), assignment + 12, VALUE_TEXT);
        assert_int_equal(cop_config_set(&again, "record.path=x", "--set", NULL), COP_OK);
        assert_int_equal(cop_config_set(&again, assignment, "--set", NULL), COP_OK);
        assert_string_equal(again.record_path, cfg.record_path);
        free(text);
    }
    cop_config_fini(&cfg);
    cop_config_fini(&again);
}

static void test_value_is_cut_to_its_room_and_says_its_length(void **state)
{
    cop_config cfg;
    cop_config_default(&cfg);
    size_t path = index_of("record.path"), policy = index_of("router.policy");
    char text[8];
    assert_int_equal(cop_config_value(&cfg, path, text, sizeof text), 2);
    assert_string_equal(text, "\"\"");
    assert_int_equal(cop_config_value(&cfg, policy, text, sizeof text), strlen("longest_prefix"));
    assert_string_equal(text, "longest");
    assert_int_equal(cop_config_set(&cfg, "record.path=a b c d e f g", "--set", NULL), COP_OK);
    assert_int_equal(cop_config_value(&cfg, path, text, sizeof text), 15);
    assert_string_equal(text, "\"a b c ");
    assert_int_equal(cop_config_value(&cfg, path, NULL, 0), 15);
    cop_config_fini(&cfg);
}

static void test_help_lists_the_keys_of_a_prefix(void **state)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    cop_config_help(out, "transport.");
    fclose(out);
    assert_string_equal(text,
                        "transport.kv                   mpi  mpi|nccl\n"
                        "    what moves KV blocks\n"
                        "transport.staging_blocks       64   2 to 65536 blocks\n"
                        "    mpi with device cuda: window of pinned host memory through which "
                        "blocks go, in two halves\n"
                        "transport.timeout_s            30   0.1 to 1000000 s\n"
                        "    nccl: a transfer that makes no progress for so long ends the "
                        "run\n"
                        "transport.link.latency_us      0    0 to 10000000 us\n"
                        "    link model: added to every transfer\n"
                        "transport.link.bandwidth_mb_s  0    0 to 10000000 MB/s\n"
                        "    link model: each sender's outgoing bandwidth; 0: as fast as MPI "
                        "goes\n");
    free(text);
    const cop_key *keys;
    size_t count = cop_config_keys(&keys), lines = 0;
    out = open_memstream(&text, &size);
    cop_config_help(out, NULL);
    fclose(out);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= 100);
        lines += line[0] != ' ';
    }
    assert_int_equal(lines, count);
    free(text);
}

/* ---- Includes ---- */

/* A folder of its own under the build, and back, for tests that need files. */
static int enter_folder(void **state)
{
    static char folder[] = COP_BUILD_DIR "/tests/config-XXXXXX";
    static char before[4096];
    *state = before;
    return getcwd(before, sizeof before) && mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    char folder[4096];
    if (!getcwd(folder, sizeof folder) || chdir(*state) != 0)
        return -1;
    char command[4200];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static void test_includes_override_in_order(void **state)
{
    assert_int_equal(mkdir("parts", 0777), 0);
    assert_int_equal(mkdir("parts/deep", 0777), 0);
    write_file("parts/deep/base.yaml", "seed: 1\ncache: {block_tokens: 1, capacity_blocks: 100}\n"
                                       "bench: {repeats: 1}\nscheduler: {max_batch: 1}\n");
    write_file("parts/one.yaml", "include: deep/base.yaml\nseed: 2\ncache: {block_tokens: 2}\n"
                                 "bench: {repeats: 2}\n");
    write_file("parts/two.yaml", "seed: 3\ncache: {block_tokens: 3}\n");
    write_file("whole.yaml", "seed: 4\ninclude: [parts/one.yaml, parts/two.yaml]\n");
    cop_config cfg;
    cop_error err;
    cop_config_default(&cfg);
    if (cop_config_load(&cfg, "whole.yaml", &err) != COP_OK)
        fail_msg("%s", err.text);
    assert_int_equal(cfg.seed, 4);               /* the includer, though it stands first */
    assert_int_equal(cfg.cache_block_tokens, 3); /* the later include */
    assert_int_equal(cfg.bench_repeats, 2);      /* the earlier one over what it includes */
    assert_int_equal(cfg.scheduler_max_batch, 1);
    assert_int_equal(cfg.cache_capacity_blocks, 100);
    write_file("parts/two.yaml", "seed: 3\ncache: {block_tokens: 3, capcity_blocks: 3}\n");
    assert_int_equal(cop_config_load(&cfg, "whole.yaml", &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "parts/two.yaml:2:26: unknown key 'cache.capcity_blocks'; did "
                                  "you mean 'cache.capacity_blocks'?");
    cop_config_fini(&cfg);
}

static void assert_load_fails(const char *path, cop_status status, const char *message)
{
    cop_config cfg;
    cop_error err = {0};
    cop_config_default(&cfg);
    assert_int_equal(cop_config_load(&cfg, path, &err), status);
    assert_string_equal(err.text, message);
    cop_config_fini(&cfg);
}

static void test_include_cycles_are_named(void **state)
{
    write_file("self.yaml", "include: ./self.yaml\n");
    assert_load_fails("self.yaml", COP_ERR_INVALID,
                      "self.yaml:1:10: include: self.yaml includes itself");
    write_file("a.yaml", "include: b.yaml\n");
    write_file("b.yaml", "seed: 1\ninclude:\n  - a.yaml\n");
    assert_load_fails("a.yaml", COP_ERR_INVALID,
                      "b.yaml:3:5: include: a.yaml includes itself through b.yaml");
    write_file("x.yaml", "include: a.yaml\n");
    write_file("b.yaml", "include: x.yaml\n");
    assert_load_fails("a.yaml", COP_ERR_INVALID,
                      "x.yaml:1:10: include: a.yaml includes itself through b.yaml, x.yaml");
}

static void test_include_depth_and_number_are_bounded(void **state)
{
    for (int i = 0; i < 20; i++) {
        char name[32], text[64];
        snprintf(name, sizeof name, "chain%d.yaml", i);
        snprintf(text, sizeof text, "include: chain%d.yaml\n", i + 1);
        write_file(name, text);
        snprintf(name, sizeof name, "fan%d.yaml", i);
        snprintf(text, sizeof text, "include: [fan%d.yaml, fan%d.yaml]\n", i + 1, i + 1);
        write_file(name, i < 10 ? text : "seed: 1\n");
    }
    assert_load_fails("chain0.yaml", COP_ERR_INVALID,
                      "chain16.yaml:1:10: include: more than 16 files deep");
    assert_load_fails("fan5.yaml", COP_OK, "");
    cop_config cfg;
    cop_error err = {0};
    cop_config_default(&cfg);
    assert_int_equal(cop_config_load(&cfg, "fan0.yaml", &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "include: more than 256 files"));
    cop_config_fini(&cfg);
}

static void test_unreadable_files_are_named(void **state)
{
    assert_load_fails("none.yaml", COP_ERR_INVALID, "none.yaml: No such file or directory");
    assert_load_fails(".", COP_ERR_INVALID, ".: not a regular file");
    FILE *file = fopen("big.yaml", "w");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), 2 << 20), 0);
    fclose(file);
    assert_load_fails("big.yaml", COP_ERR_INVALID, "big.yaml: more than 65536 bytes");
}

/* ---- Shipped files ---- */

static int load_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int loaded = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            loaded += load_folder(path);
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        cop_config cfg;
        cop_error err;
        cop_config_default(&cfg);
        if (cop_config_load(&cfg, path, &err) != COP_OK)
            fail_msg("%s", err.text);
        cop_config_fini(&cfg);
        loaded++;
    }
    closedir(dir);
    return loaded;
}

static void test_every_shipped_file_loads(void **state)
{
    assert_true(load_folder(COP_SOURCE_DIR "/configs") >= 4);
    cop_config cfg;
    cop_config_default(&cfg);
    assert_int_equal(cop_config_load(&cfg, COP_SOURCE_DIR "/configs/quickstart.yaml", NULL),
                     COP_OK);
    assert_string_equal(cfg.router_policy, "longest_prefix");
    assert_string_equal(cfg.workload_format, "generator");
    assert_true(cfg.workload_rate == 3); /* where the part that it includes says 2 */
    assert_int_equal(cop_config_load(&cfg, COP_SOURCE_DIR "/configs/mooncake_cpu.yaml", NULL),
                     COP_OK);
    assert_string_equal(cfg.workload_format, "mooncake");
    assert_int_equal(cfg.workload_scale, 32);
    cop_config_fini(&cfg);
}

/* ---- Nearest name ---- */

static void test_nearest_name(void **state)
{
    static const char *const names[] = {"lru", "fifo", "lfu", "longest_prefix", "round_robin"};
    static const error_case cases[] = {
        {"lrru", "lru"},    {"lfo", "lfu"},
        {"FIFO", "fifo"},   {"longest-prefix", "longest_prefix"},
        {"fio", "fifo"},    {"long", "longest_prefix"},
        {"lur", "lru"},     {"rond_robbin", "round_robin"},
        {"s3fifo", "fifo"}, {"random", NULL},
        {"", NULL},         {"zz", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *near = cop_nearest(cases[i].text, names, sizeof names / sizeof *names);
        if (cases[i].message)
            assert_string_equal(near, cases[i].message);
        else
            assert_null(near);
    }
    char longest[200];
    memset(longest, 'l', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(cop_nearest(longest, names, 5));
    assert_null(cop_nearest("lru", names, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_reach_their_fields),
        cmocka_unit_test(test_a_file_without_keys_changes_nothing),
        cmocka_unit_test(test_every_default_is_within_its_own_range),
        cmocka_unit_test(test_load_errors_say_where_and_what),
        cmocka_unit_test(test_deep_and_long_text_is_refused),
        cmocka_unit_test(test_assignments_are_checked_alike),
        cmocka_unit_test(test_assignments_take_the_value_as_it_stands),
        cmocka_unit_test(test_printed_defaults_load_back),
        cmocka_unit_test(test_random_values_print_and_load_back),
        cmocka_unit_test(test_value_is_cut_to_its_room_and_says_its_length),
        cmocka_unit_test(test_help_lists_the_keys_of_a_prefix),
        cmocka_unit_test(test_includes_override_in_order),
        cmocka_unit_test(test_include_cycles_are_named),
        cmocka_unit_test(test_include_depth_and_number_are_bounded),
        cmocka_unit_test(test_unreadable_files_are_named),
        cmocka_unit_test(test_every_shipped_file_loads),
        cmocka_unit_test(test_nearest_name),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
