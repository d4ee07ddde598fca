/* Reuse is exact: whatever part of a prompt comes from the cache, however it came there, the logits
 * of every new token are the bits that computing the whole prompt gives. For every precision, kind
 * of weights and kernel, every chunk size and number of threads, of a preset and of every checkpoint
 * in tests/data/checkpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coppice.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { PRESET_KINDS = 3, CHECKPOINT_KINDS = 1 }; /* of arithmetic: slow enough */
#else
enum { PRESET_KINDS = 7, CHECKPOINT_KINDS = 4 };
#endif
enum { PROMPT = 83, NEW = 6, CAPACITY = 192, FAMILIES = 5 };

static cop_error err;
static char file[64]; /* of a cache, in a folder of its own */

typedef struct {
    cop_model *model;
    uint32_t prompt[PROMPT], other[PROMPT], vocab;
    uint64_t cold; /* hash of the logits without a cache */
} subject;

static bool open_subject(subject *s, const cop_model_options *options)
{
    cop_model_info info;
    cop_status status = cop_model_open(&s->model, options, &err);
    if (status == COP_ERR_UNSUPPORTED)
        return false;
    if (status != COP_OK)
        fail_msg("%s", err.text);
    cop_model_describe(s->model, &info);
    s->vocab = info.vocab;
    for (uint32_t i = 0; i < PROMPT; i++) {
        s->prompt[i] = (i * 37 + 11) % s->vocab;
        s->other[i] = (i * 53 + 29) % s->vocab;
    }
    return true;
}

/* NULL: this machine or build lacks the kernels. */
static cop_cache *open_cache(const subject *s, uint32_t block_tokens, uint32_t chunk_tokens)
{
    cop_cache *cache;
    cop_cache_options options = {
        .capacity_tokens = CAPACITY, .block_tokens = block_tokens, .chunk_tokens = chunk_tokens};
    cop_status status = cop_cache_open(&cache, s->model, &options, &err);
    if (status == COP_ERR_UNSUPPORTED)
        return NULL;
    if (status != COP_OK)
        fail_msg("%s", err.text);
    return cache;
}

static uint64_t generate(cop_cache *cache, const subject *s, uint32_t cached, bool no_cache)
{
    cop_generate_result result;
    cop_generate_options options = {.tokens = s->prompt,
                                    .count = PROMPT,
                                    .max_new_tokens = NEW,
                                    .ignore_stops = true,
                                    .no_cache = no_cache};
    cop_status status = cop_generate(cache, &options, NULL, NULL, &result, &err);
    if (status != COP_OK)
        fail_msg("%s", err.text);
    assert_int_equal(result.cached_tokens, cached);
    assert_int_equal(result.new_tokens, NEW);
    assert_int_not_equal(result.logits_hash, 0);
    return result.logits_hash;
}

static void keep(cop_cache *cache, const uint32_t *tokens, size_t count)
{
    if (cop_cache_insert(cache, tokens, count, NULL, &err) != COP_OK)
        fail_msg("%s", err.text);
}

/* The first tokens of the prompt, then others: to be hit in part. */
static void keep_beginning(cop_cache *cache, const subject *s, uint32_t count)
{
    uint32_t tokens[PROMPT];
    memcpy(tokens, s->other, sizeof tokens);
    memcpy(tokens, s->prompt, count * sizeof *tokens);
    if (count < PROMPT && tokens[count] == s->prompt[count])
        tokens[count] = (tokens[count] + 1) % s->vocab;
    keep(cache, tokens, PROMPT);
}

static void check_every_way_to_a_hit(cop_cache *cache, const subject *s, uint32_t block_tokens)
{
    assert_true(generate(cache, s, 0, true) == s->cold);
    assert_true(generate(cache, s, 0, false) == s->cold);
    assert_true(generate(cache, s, PROMPT - 1, false) == s->cold);

    cop_cache_truncate(cache, s->prompt, 61);
    assert_true(generate(cache, s, 61, false) == s->cold);

    cop_cache_truncate(cache, NULL, 0);
    keep_beginning(cache, s, 41);
    assert_true(generate(cache, s, 41, false) == s->cold);

    /* Others take its blocks: some of the prompt is left, in whole blocks. */
    keep(cache, s->other, PROMPT);
    keep(cache, s->other + 1, PROMPT - 1);
    cop_cache_stats stats;
    cop_cache_read(cache, &stats);
    assert_true(stats.evicted_blocks > 0);
    uint32_t left = (uint32_t)cop_cache_match(cache, s->prompt, PROMPT - 1);
    assert_true(left < PROMPT - 1);
    assert_true(generate(cache, s, left, false) == s->cold);

    assert_int_equal(cop_cache_save(cache, file, &err), COP_OK);
    cop_cache_truncate(cache, NULL, 0);
    assert_int_equal(cop_cache_load(cache, file, &err), COP_OK);
    assert_true(generate(cache, s, PROMPT - 1, false) == s->cold);
}

/* A cache of its own for each: blocks as they come, blocks that no chunk meets, one token each. */
static bool check_settings(cop_model_options options, uint64_t *cold)
{
    static const uint32_t chunks[] = {1, 64, 7, 512}, sizes[] = {5, 1, 16, 16};
    subject s = {0};
    for (uint32_t threads = 1; threads <= 2; threads++) {
        options.threads = threads;
        if (!open_subject(&s, &options))
            return false;
        for (int i = 2 * (int)threads - 2; i < 2 * (int)threads; i++) {
            cop_cache *cache = open_cache(&s, sizes[i], chunks[i]);
            if (!cache) {
                cop_model_close(s.model);
                return false;
            }
            if (s.cold == 0)
                s.cold = generate(cache, &s, 0, true);
            check_every_way_to_a_hit(cache, &s, sizes[i]);
            cop_cache_close(cache);
        }
        cop_model_close(s.model);
    }
    *cold = s.cold;
    return true;
}

/* Of `kinds` of arithmetic, the first that are asked for. */
static void check_model(const char *path, const char *preset, uint32_t wanted)
{
    static const struct {
        const char *precision, *weights, *isa;
    } kinds[] = {{"bf16", "bf16", "auto"},    {"float32", "int8", "auto"},
                 {"bf16", "int8", "auto"},    {"float32", "bf16", "auto"},
                 {"bf16", "bf16", "avx2"},    {"bf16", "bf16", "baseline"},
                 {"bf16", "int8", "baseline"}};
    const char *name = path ? path : preset;
    uint32_t checked = 0;
    uint64_t cold[sizeof kinds / sizeof *kinds] = {0};
    assert_true(wanted <= sizeof kinds / sizeof *kinds);
    for (size_t i = 0; i < wanted; i++) {
        bool done = check_settings((cop_model_options){.path = path,
                                                       .preset = preset,
                                                       .seed = 9,
                                                       .precision = kinds[i].precision,
                                                       .weights = kinds[i].weights,
                                                       .isa = kinds[i].isa},
                                   &cold[i]);
        if (!done)
            print_message("%s, %s, %s: left out: %s\n", kinds[i].precision, kinds[i].weights,
                          kinds[i].isa, err.text);
        checked += done;
    }
    print_message("%s: %u kinds of arithmetic\n", name, checked);
    assert_true(checked >= (wanted < 4 ? wanted : 4)); /* the others need their machine */
    for (size_t i = 0; i < 4; i++)                     /* each kind is one: no option is ignored */
        for (size_t j = 0; j < i; j++)
            assert_true(cold[i] != cold[j] || cold[i] == 0);
}

static void test_preset(void **state)
{
    check_model(NULL, "tiny", PRESET_KINDS);
}

/* Runs `each` for every checkpoint of the repository, in order. Returns how many there are. */
static uint32_t for_checkpoints(void (*each)(const char *path))
{
    static const char folder[] = COP_SOURCE_DIR "/tests/data/checkpoints";
    struct dirent **entries;
    uint32_t count = 0;
    int n = scandir(folder, &entries, NULL, alphasort);
    if (n < 0)
        fail_msg("cannot read %s", folder);
    for (int i = 0; i < n; i++) {
        char path[4096], config[4200];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        snprintf(config, sizeof config, "%s/config.json", path);
        if (access(config, R_OK) == 0) {
            each(path);
            count++;
        }
        free(entries[i]);
    }
    free(entries);
    return count;
}

static void check_checkpoint(const char *path)
{
    check_model(path, NULL, CHECKPOINT_KINDS);
}

static void test_checkpoints(void **state)
{
    assert_true(for_checkpoints(check_checkpoint) >= FAMILIES);
}

/* Generates, saves, and says the hash of the logits: in a process of its own. */
static uint64_t generate_elsewhere(const cop_model_options *options)
{
    int ends[2];
    uint64_t hash = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        subject s = {0};
        cop_cache *cache = open_subject(&s, options) ? open_cache(&s, 16, 64) : NULL;
        hash = cache ? generate(cache, &s, 0, false) : 0;
        if (!cache || cop_cache_save(cache, file, &err) != COP_OK)
            hash = 0;
        cop_cache_close(cache);
        cop_model_close(s.model);
        _exit(write(ends[1], &hash, sizeof hash) != sizeof hash);
    }
    int status;
    assert_int_equal(read(ends[0], &hash, sizeof hash), sizeof hash);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ends[0]);
    close(ends[1]);
    return hash;
}

static void check_another_process(const char *path)
{
    subject s = {0};
    cop_model_options options = {.path = path, .preset = "tiny", .seed = 9, .threads = 1};
    s.cold = generate_elsewhere(&options);
    assert_true(s.cold != 0 && open_subject(&s, &options));
    cop_cache *cache = open_cache(&s, 16, 7);
    assert_int_equal(cop_cache_load(cache, file, &err), COP_OK);
    assert_true(generate(cache, &s, PROMPT - 1, false) == s.cold);
    cop_cache_close(cache);
    cop_model_close(s.model);
}

static void test_a_file_of_another_process(void **state)
{
    check_another_process(NULL);
    for_checkpoints(check_another_process);
}

int main(void)
{
    char folder[] = "/tmp/coppice_exact.XXXXXX";
    if (!mkdtemp(folder))
        return 1;
    snprintf(file, sizeof file, "%s/cache", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_of_another_process), /* forks before there are threads */
        cmocka_unit_test(test_preset),
        cmocka_unit_test(test_checkpoints),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file);
    rmdir(folder);
    return failed;
}
