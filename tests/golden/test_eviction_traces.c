/* What each eviction policy throws out on one scripted trace, as text: evict_<policy>.txt. The
 * difference of the lines is the failure message. COP_UPDATE_GOLDEN=1 writes the files anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "core/block_pool.h"
#include "core/evict/evict.h"
#include "core/prefix_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 16, BLOCK_TOKENS = 4, LONGEST = 64 };

/* Requests in order: the tenant and the prompt; a letter is a token. */
static const struct {
    uint64_t tenant;
    const char *prompt;
} script[] = {
    {1, "you are a helpful"}, {1, "you are a pirate"},  {2, "you are a helpful"},
    {1, "you are a helpful"}, {1, "you are a helper"},  {1, "you are a pirate"},
    {2, "once upon a time"},  {1, "you are a pirate"},  {1, "translate this"},
    {1, "you are a helpful"}, {1, "translate that"},    {2, "once upon a time"},
    {1, "translate this"},    {1, "you are a helpful"}, {1, "summarise it, please"},
    {2, "once upon a time"},
};

typedef struct {
    cop_tree *tree;
    cop_pool pool;
    int64_t now_ns;
    cop_buffer text;
} cache;

__attribute__((format(printf, 2, 3))) static void say(cache *c, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    assert_in_range(length, 0, sizeof line - 1);
    cop_buffer_put(&c->text, line, (size_t)length);
}

static uint32_t free_block(cache *c)
{
    cop_evicted e;
    while (c->pool.free_count == 0) {
        assert_true(cop_tree_evict(c->tree, c->now_ns, &e));
        say(c, "    out: block %u, %u of %u tokens, uses %u, age %lld, idle %lld, key %llu\n",
            e.block, e.tokens, e.depth_tokens, e.uses, (long long)e.age_ns, (long long)e.idle_ns,
            (unsigned long long)e.key);
        cop_pool_give(&c->pool, e.block);
    }
    return cop_pool_take(&c->pool);
}

/* As a worker does: match, hold the path, compute and enter the rest, use the whole path once. */
static void serve(cache *c, uint64_t tenant, const char *prompt)
{
    uint32_t tokens[LONGEST], count = (uint32_t)strlen(prompt), superseded;
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (unsigned char)prompt[i];
    uint32_t root = cop_tree_root(c->tree, tenant);
    cop_match match = cop_tree_match(c->tree, root, tokens, count);
    say(c, "%lld: tenant %llu '%s': %u hit\n", (long long)c->now_ns, (unsigned long long)tenant,
        prompt, match.blocks * BLOCK_TOKENS + match.partial_tokens);
    uint32_t node = match.node;
    cop_tree_pin(c->tree, node);
    for (uint32_t at = match.blocks * BLOCK_TOKENS; at < count; at += BLOCK_TOKENS) {
        uint32_t block = free_block(c),
                 size = count - at < BLOCK_TOKENS ? count - at : BLOCK_TOKENS;
        uint32_t entered =
            cop_tree_insert(c->tree, node, tokens + at, size, block, 0, c->now_ns, &superseded);
        if (entered != block)
            cop_pool_give(&c->pool, block);
        if (superseded != COP_NO_BLOCK)
            cop_pool_give(&c->pool, superseded);
        cop_tree_pin(c->tree, entered);
        cop_tree_unpin(c->tree, node);
        node = entered;
    }
    cop_tree_touch(c->tree, node, c->now_ns);
    cop_tree_unpin(c->tree, node);
    cop_tree_check(c->tree);
    c->now_ns += 10;
}

static void compare(const char *path, const cop_buffer *text)
{
    char *golden = NULL;
    size_t size = 0;
    FILE *file;
    if (getenv("COP_UPDATE_GOLDEN")) {
        file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text->data, 1, text->size, file), text->size);
        assert_int_equal(fclose(file), 0);
    }
    file = fopen(path, "r");
    if (!file)
        fail_msg("%s is missing: COP_UPDATE_GOLDEN=1 writes it", path);
    ssize_t length = getdelim(&golden, &size, '\0', file);
    fclose(file);
    char *now = strndup((const char *)text->data, text->size);
    char *rest = golden, *rest_now = now;
    for (int line = 1; length >= 0 && (*rest || *rest_now); line++) {
        int width = (int)strcspn(rest, "\n"), width_now = (int)strcspn(rest_now, "\n");
        if (width != width_now || memcmp(rest, rest_now, (size_t)width) != 0)
            fail_msg("%s:%d\n  was '%.*s'\n  is  '%.*s'", path, line, width, rest, width_now,
                     rest_now);
        rest += width + (rest[width] == '\n');
        rest_now += width_now + (rest_now[width_now] == '\n');
    }
    assert_string_equal(now, golden);
    free(now);
    free(golden);
}

static void test_victims_of_every_policy(void **state)
{
    const cop_evict_ops *policy;
    size_t i;
    for (i = 0; (policy = cop_evict_at(i)); i++) {
        cache c = {0};
        cop_error err;
        cop_tree_options options = {
            .block_tokens = BLOCK_TOKENS, .capacity_blocks = CAPACITY, .eviction = policy->name};
        assert_int_equal(cop_tree_open(&c.tree, &options, &err), COP_OK);
        cop_pool_init(&c.pool, CAPACITY);
        for (size_t j = 0; j < sizeof script / sizeof *script; j++)
            serve(&c, script[j].tenant, script[j].prompt);
        char path[512];
        snprintf(path, sizeof path, COP_SOURCE_DIR "/tests/golden/evict_%s.txt", policy->name);
        compare(path, &c.text);
        cop_buffer_fini(&c.text);
        cop_pool_fini(&c.pool);
        cop_tree_close(c.tree);
    }
    assert_true(i >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_victims_of_every_policy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
