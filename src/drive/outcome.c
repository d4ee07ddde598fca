#include "drive/outcome.h"

#include "base/clock.h"

#include <inttypes.h>

static double ms(int64_t ns)
{
    return (double)ns / COP_NS_PER_MS;
}

/* Of the tokens after the first; 0: there are none. */
static double tokens_per_second(const cop_generate_result *r)
{
    int64_t ns = r->total_ns - r->ttft_ns;
    return r->new_tokens > 1 && ns > 0 ? (r->new_tokens - 1) * (double)COP_NS_PER_S / (double)ns
                                       : 0;
}

static double speedup(const cop_outcome *o)
{
    return (double)o->cold_ns / (double)o->result.ttft_ns;
}

void cop_outcome_log(const cop_outcome *o, const cop_log *log)
{
    const cop_generate_result *r = &o->result;
    char cold[64] = "", rate[64] = "";
    if (o->cold_ns)
        snprintf(cold, sizeof cold, " (cold %.1f ms, %.1fx)", ms(o->cold_ns), speedup(o));
    else if (!r->cached_tokens)
        snprintf(cold, sizeof cold, " (cold)");
    if (tokens_per_second(r) > 0)
        snprintf(rate, sizeof rate, ", %.1f tokens/s", tokens_per_second(r));
    cop_log_info(log, "prompt %zu: %u tokens, %u cached, TTFT %.1f ms%s, %u new token%s%s",
                 o->number, r->prompt_tokens, r->cached_tokens, ms(r->ttft_ns), cold, r->new_tokens,
                 r->new_tokens == 1 ? "" : "s", rate);
}

/* RFC 8259, 7: what must be escaped, is. */
static void put_string(const char *text, size_t bytes, FILE *out)
{
    putc('"', out);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            putc(c, out);
    }
    putc('"', out);
}

static void put_figure(const char *name, double value, FILE *out)
{
    if (value > 0)
        fprintf(out, ", \"%s\": %.3f", name, value);
    else
        fprintf(out, ", \"%s\": null", name);
}

void cop_outcome_json(const cop_outcome *o, FILE *out)
{
    const cop_generate_result *r = &o->result;
    fprintf(out, "{\"prompt\": %zu, \"text\": ", o->number);
    put_string(o->text, o->bytes, out);
    fputs(", \"tokens\": [", out);
    for (uint32_t i = 0; i < r->new_tokens; i++)
        fprintf(out, "%s%" PRIu32, i ? ", " : "", o->tokens[i]);
    fprintf(out,
            "], \"prompt_tokens\": %u, \"cached_tokens\": %u, \"computed_tokens\": %u, "
            "\"new_tokens\": %u, \"stopped\": %s, \"ttft_ms\": %.3f",
            r->prompt_tokens, r->cached_tokens, r->computed_tokens, r->new_tokens,
            r->stopped ? "true" : "false", ms(r->ttft_ns));
    put_figure("cold_ttft_ms", ms(o->cold_ns), out);
    put_figure("speedup", o->cold_ns ? speedup(o) : 0, out);
    put_figure("tokens_per_second", tokens_per_second(r), out);
    fprintf(out, ", \"logits_hash\": \"%016" PRIx64 "\"}\n", r->logits_hash);
}
