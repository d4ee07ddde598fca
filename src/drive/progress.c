#include "drive/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void cop_progress_start(cop_progress *p, const cop_log *log, uint64_t total)
{
    memset(p, 0, sizeof *p);
    p->log = log;
    p->total = total;
    p->terminal = log->out && isatty(fileno(log->out));
    p->next_ns = COP_NS_PER_S;
}

void cop_progress_first_token(cop_progress *p, int64_t ttft_ns, uint32_t prompt_tokens,
                              uint32_t hit_tokens)
{
    cop_histogram_add(&p->ttft_ns, (uint64_t)ttft_ns);
    p->prompt_tokens += prompt_tokens;
    p->hit_tokens += hit_tokens;
}

void cop_progress_finished(cop_progress *p)
{
    p->finished++;
}

void cop_progress_rejected(cop_progress *p, uint64_t request, const char *reason)
{
    enum { SAID = 3 };
    if (p->rejected < SAID) {
        if (p->terminal)
            fputs("\r\033[K", p->log->out);
        cop_log_warn(p->log, "request %llu rejected: %s%s", (unsigned long long)request, reason,
                     p->rejected + 1 == SAID ? "; more will only be counted" : "");
    }
    p->rejected++;
}

void cop_progress_transfer(cop_progress *p, bool done)
{
    p->transfers += done;
    p->transfers_failed += !done;
}

static void describe(const cop_progress *p, int64_t now_ns, char *text, size_t size)
{
    uint64_t done = p->finished + p->rejected;
    double seconds = (double)now_ns / COP_NS_PER_S, rate = (double)done / seconds;
    double eta = rate > 0 ? (double)(p->total - done) / rate : 0;
    snprintf(text, size,
             "%llu/%llu requests, %.1f/s, %.0f s left, hit %.1f %%, TTFT p50 %.1f ms p99 %.1f ms",
             (unsigned long long)done, (unsigned long long)p->total, rate, eta,
             p->prompt_tokens ? 100.0 * (double)p->hit_tokens / (double)p->prompt_tokens : 0,
             (double)cop_histogram_quantile(&p->ttft_ns, 0.5) / 1e6,
             (double)cop_histogram_quantile(&p->ttft_ns, 0.99) / 1e6);
}

void cop_progress_show(cop_progress *p, int64_t now_ns)
{
    if (now_ns < p->next_ns || !p->log->out || p->log->quiet)
        return;
    char text[256];
    describe(p, now_ns, text, sizeof text);
    if (p->terminal) {
        fprintf(p->log->out, "\r\033[K%s", text);
        fflush(p->log->out);
        p->next_ns = now_ns + COP_NS_PER_S / 5;
    } else {
        cop_log_info(p->log, "%s", text);
        p->next_ns = now_ns + 5 * (int64_t)COP_NS_PER_S;
    }
}

void cop_progress_end(cop_progress *p, int64_t now_ns, const char *path, bool completed)
{
    if (p->terminal && !p->log->quiet)
        fputs("\r\033[K", p->log->out);
    cop_log_info(p->log,
                 "%s: %llu of %llu requests in %.1f s (%llu rejected), %llu of %llu prompt tokens "
                 "from the cache, %llu transfers (%llu failed)%s",
                 path, (unsigned long long)(p->finished + p->rejected),
                 (unsigned long long)p->total, (double)now_ns / COP_NS_PER_S,
                 (unsigned long long)p->rejected, (unsigned long long)p->hit_tokens,
                 (unsigned long long)p->prompt_tokens, (unsigned long long)p->transfers,
                 (unsigned long long)p->transfers_failed, completed ? "" : "; incomplete");
}
