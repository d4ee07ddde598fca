/* The tokenizer, one core: a text (bench.text) to tokens and back, beside what nothing that reads
 * every byte, or finds every word with PCRE2, can be faster than.
 *
 * cold: no word is known, each must be merged once; warm: every word that fits the cache is known.
 * The regex is Qwen2's, whatever the tokenizer's own is. In 10^6 bytes of text a second; see
 * bench_rate.h. */
#include "base/alloc.h"
#include "base/clock.h"
#include "drive/bench.h"
#include "drive/bench_rate.h"
#include "drive/setup.h"
#include "tokenizer/regex.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

static const int64_t repetition_ns = 200 * COP_NS_PER_MS;

static const char qwen2_regex[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

typedef struct {
    cop_tokenizer *tokenizer;
    cop_regex *regex;
    cop_buffer repaired; /* the text: U+FFFD where the file is ill-formed, as the regex wants it */
    const char *text;
    size_t bytes;
    cop_tokens tokens;
    size_t lines, words; /* set by the passes */
    char *decoded;
    size_t decoded_capacity;
} reading;

static cop_status pass_bytes(void *subject, cop_error *err)
{
    reading *s = subject;
    const char *p = s->text, *end = s->text + s->bytes;
    s->lines = 0;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        s->lines++;
        p++;
    }
    return COP_OK;
}

static cop_status pass_regex(void *subject, cop_error *err)
{
    reading *s = subject;
    size_t begin = 0, end = 0;
    s->words = 0;
    cop_status status = COP_OK;
    while (status == COP_OK && end < s->bytes && begin != COP_NO_MATCH) {
        status = cop_regex_find(s->regex, s->text, s->bytes, end, &begin, &end, err);
        s->words++;
    }
    return status;
}

static cop_status pass_warm(void *subject, cop_error *err)
{
    reading *s = subject;
    s->tokens.count = 0;
    return cop_tokenizer_encode(s->tokenizer, s->text, s->bytes, COP_ENCODE_ADDED, &s->tokens, err);
}

static cop_status pass_cold(void *subject, cop_error *err)
{
    reading *s = subject;
    cop_tokenizer_forget(s->tokenizer);
    return pass_warm(s, err);
}

static cop_status pass_lines(void *subject, cop_error *err)
{
    reading *s = subject;
    const char *p = s->text, *end = s->text + s->bytes;
    cop_status status = COP_OK;
    s->tokens.count = 0;
    while (p < end && status == COP_OK) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline + 1 : end;
        status = cop_tokenizer_encode(s->tokenizer, p, (size_t)(stop - p), COP_ENCODE_ADDED,
                                      &s->tokens, err);
        p = stop;
    }
    return status;
}

static cop_status pass_decode(void *subject, cop_error *err)
{
    reading *s = subject;
    cop_decoder decoder;
    cop_decoder_init(&decoder, s->tokenizer, true);
    for (size_t i = 0; i < s->tokens.count; i++) {
        size_t n = cop_decoder_push(&decoder, s->tokens.ids[i], s->decoded, s->decoded_capacity);
        if (n > s->decoded_capacity) {
            COP_GROW(s->decoded, s->decoded_capacity, n);
            cop_decoder_push(&decoder, s->tokens.ids[i], s->decoded, s->decoded_capacity);
        }
    }
    return COP_OK;
}

static cop_status print_rows(reading *s, const cop_config *cfg, FILE *out, cop_error *err)
{
    static const struct {
        const char *name;
        cop_bench_pass run;
    } rows[] = {{"bytes alone (memchr)", pass_bytes},
                {"regex alone (PCRE2)", pass_regex},
                {"encode, warm, by lines", pass_lines},
                {"encode, cold", pass_cold},
                {"encode, warm", pass_warm},
                {"decode", pass_decode}};
    enum { ROWS = sizeof rows / sizeof *rows };
    double mb_s[ROWS];
    const cop_bench_rate_options options = {s->bytes, (size_t)cfg->bench_repeats, repetition_ns};
    cop_status status = COP_OK;
    for (int i = 0; i < ROWS && status == COP_OK; i++)
        status = cop_bench_rate(&options, rows[i].run, s, &mb_s[i], err);
    if (status != COP_OK)
        return status;
    double bytes = (double)s->bytes, tokens = (double)s->tokens.count;
    fprintf(out, "%s: %zu bytes, %zu lines, %zu words, %zu tokens; median of %lld\n",
            cfg->bench_text, s->bytes, s->lines, s->words, s->tokens.count,
            (long long)cfg->bench_repeats);
    fprintf(out, "%-24s %10s %12s %10s\n", "", "MB/s", "Mtokens/s", "of regex");
    for (int i = 0; i < ROWS; i++)
        fprintf(out, "%-24s %10.1f %12.2f %10.3f\n", rows[i].name, mb_s[i],
                mb_s[i] / bytes * tokens, mb_s[i] / mb_s[1]);
    return COP_OK;
}

static cop_status read_text(reading *s, const cop_config *cfg, cop_error *err)
{
    cop_file_map file;
    cop_status status = cop_setup_text(&file, cfg, err);
    if (status != COP_OK)
        return status;
    cop_utf8_repair(file.data, file.size, &s->repaired);
    cop_file_map_close(&file);
    s->text = (const char *)s->repaired.data;
    s->bytes = s->repaired.size;
    if (s->bytes == 0)
        return cop_fail(err, COP_ERR_INVALID, "%s: is empty", cfg->bench_text);
    return COP_OK;
}

static cop_status open_reading(reading *s, const cop_config *cfg, cop_error *err)
{
    const char *path = cop_setup_tokenizer(cfg);
    if (!*path || !*cfg->bench_text)
        return cop_fail(err, COP_ERR_INVALID,
                        "bench tokenizer needs model.tokenizer (or model.path) and bench.text");
    cop_status status = read_text(s, cfg, err);
    if (status == COP_OK)
        status = cop_tokenizer_open(&s->tokenizer, path, err);
    if (status == COP_OK)
        status =
            cop_regex_open(&s->regex, qwen2_regex, sizeof qwen2_regex - 1, false, "bench", err);
    return status;
}

cop_status cop_bench_tokenizer(const cop_config *cfg, FILE *out, cop_error *err)
{
    reading s = {0};
    cop_status status = open_reading(&s, cfg, err);
    if (status == COP_OK)
        status = print_rows(&s, cfg, out, err);
    cop_tokenizer_close(s.tokenizer);
    cop_regex_close(s.regex);
    cop_buffer_fini(&s.repaired);
    free(s.tokens.ids);
    free(s.decoded);
    return status;
}
