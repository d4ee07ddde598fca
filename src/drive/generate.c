#include "drive/generate.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/conversation.h"
#include "coppice.h"
#include "drive/outcome.h"
#include "drive/setup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const cop_generate_arguments *arguments;
    const cop_config *cfg;
    const cop_log *log;
    const volatile sig_atomic_t *interrupted;
    FILE *out;
    cop_model *model;
    cop_cache *cache;
    char *system;      /* its text; NULL: none */
    cop_tokens prompt; /* of the question at hand */
    cop_buffer text;   /* of the answer so far */
    cop_tokens answer; /* its tokens */
    size_t asked;      /* prompts so far */
    int output_error;  /* errno of a write to `out` that failed; 0: none did */
} session;

/* ---- Texts ---- */

/* What a buffer holds, zero-terminated; to be freed. */
static char *copy_text(const cop_buffer *text)
{
    return text->size ? cop_strndup((const char *)text->data, text->size) : cop_strdup("");
}

/* A whole text file, zero-terminated; to be freed. */
static cop_status read_text(char **out, const char *path, cop_error *err)
{
    enum { PIECE = 1 << 16, MOST = 64 << 20 };
    cop_buffer text = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return cop_fail(err, COP_ERR_INVALID, "%s: %s", path, strerror(errno));
    size_t got;
    errno = 0;
    do {
        got = fread(cop_buffer_reserve(&text, PIECE), 1, PIECE, file);
        text.size -= PIECE - got;
    } while (got > 0 && text.size <= MOST);
    cop_status status = COP_OK;
    const uint8_t *zero = text.size ? memchr(text.data, 0, text.size) : NULL;
    if (ferror(file))
        status = cop_fail(err, COP_ERR_INVALID, "%s: %s", path, strerror(errno));
    else if (text.size > MOST)
        status = cop_fail(err, COP_ERR_INVALID, "%s: more than %d MB of text", path, MOST >> 20);
    else if (zero)
        status = cop_fail(err, COP_ERR_INVALID, "%s: a zero byte at %td: this is no text", path,
                          zero - text.data);
    fclose(file);
    if (status == COP_OK)
        *out = copy_text(&text);
    cop_buffer_fini(&text);
    return status;
}

/* System and prompt as one text. */
static cop_status tokenize_raw(session *s, const char *prompt, size_t *count, cop_error *err)
{
    cop_buffer all = {0};
    if (s->system)
        cop_buffer_put(&all, s->system, strlen(s->system));
    cop_buffer_put(&all, prompt, strlen(prompt));
    cop_status status =
        cop_tokenize(s->model, (const char *)all.data, all.size, COP_TEXT_SPECIAL | COP_TEXT_BEGIN,
                     s->prompt.ids, s->prompt.capacity, count, err);
    cop_buffer_fini(&all);
    return status;
}

/* Of the question: turns[n - 1], after those before it. */
static cop_status tokenize(session *s, const char *const *turns, size_t n, cop_error *err)
{
    for (;;) {
        size_t count = 0;
        cop_status status = s->arguments->chat
                                ? cop_tokenize_chat(s->model, s->system, turns, n, s->prompt.ids,
                                                    s->prompt.capacity, &count, err)
                                : tokenize_raw(s, turns[n - 1], &count, err);
        if (status != COP_OK)
            return status;
        s->prompt.count = count;
        if (count <= s->prompt.capacity)
            return COP_OK;
        COP_GROW(s->prompt.ids, s->prompt.capacity, count);
    }
}

/* ---- Answers ---- */

/* False once nobody reads on. */
static bool write_out(session *s, const char *text, size_t bytes)
{
    if (!s->output_error && (fwrite(text, 1, bytes, s->out) != bytes || fflush(s->out) != 0))
        s->output_error = errno;
    return !s->output_error;
}

static bool on_token(void *ctx, uint32_t token, const char *text, size_t bytes)
{
    session *s = ctx;
    COP_GROW(s->answer.ids, s->answer.capacity, s->answer.count + 1);
    s->answer.ids[s->answer.count++] = token;
    cop_buffer_put(&s->text, text, bytes);
    return (s->arguments->json || write_out(s, text, bytes)) && !*s->interrupted;
}

static cop_generate_options options_of(const session *s)
{
    return (cop_generate_options){
        .tokens = s->prompt.ids,
        .count = s->prompt.count,
        .max_new_tokens = s->arguments->max_new_tokens,
        .temperature = (float)s->cfg->sampling_temperature,
        .top_p = (float)s->cfg->sampling_top_p,
        .seed = (uint64_t)s->cfg->seed,
        .no_cache = !s->cfg->cache_enabled,
    };
}

/* TTFT of the prompt without the cache. */
static cop_status measure_cold(session *s, int64_t *ns, cop_error *err)
{
    cop_generate_options options = options_of(s);
    cop_generate_result result;
    options.no_cache = true;
    options.max_new_tokens = 1;
    cop_status status = cop_generate(s->cache, &options, NULL, NULL, &result, err);
    if (status == COP_OK)
        *ns = result.ttft_ns;
    return status;
}

/* In a full pool the twin would evict what it is compared with. */
static bool has_room_for_cold(const session *s)
{
    cop_cache_stats stats;
    cop_cache_read(s->cache, &stats);
    size_t needed = (s->prompt.count + stats.block_tokens - 1) / stats.block_tokens;
    return stats.capacity_blocks - stats.used_blocks >= needed;
}

/* Figures of the answer, on whichever stream they belong. */
static cop_status report(session *s, cop_outcome *outcome, cop_error *err)
{
    if (outcome->result.cached_tokens && !s->arguments->no_cold && has_room_for_cold(s)) {
        cop_status status = measure_cold(s, &outcome->cold_ns, err);
        if (status != COP_OK)
            return status;
    }
    outcome->text = (const char *)s->text.data;
    outcome->bytes = s->text.size;
    outcome->tokens = s->answer.ids;
    if (s->arguments->json) {
        cop_outcome_json(outcome, s->out);
        write_out(s, "", 0);
    } else {
        cop_outcome_log(outcome, s->log);
    }
    return COP_OK;
}

/* Asks turns[n - 1]; its answer is then in s->text, which lasts to the next question. */
static cop_status ask(session *s, const char *const *turns, size_t n, cop_error *err)
{
    cop_outcome outcome = {.number = ++s->asked};
    if (*s->interrupted)
        return cop_fail(err, COP_ERR_INTERRUPTED, "interrupted");
    s->text.size = s->answer.count = 0;
    cop_status status = tokenize(s, turns, n, err);
    if (status == COP_OK) {
        cop_generate_options options = options_of(s);
        status = cop_generate(s->cache, &options, on_token, s, &outcome.result, err);
    }
    if (status != COP_OK)
        return cop_fail_prefix(err, "prompt %zu", s->asked);
    if (!s->arguments->json)
        write_out(s, "\n", 1);
    if (!*s->interrupted && !s->output_error)
        status = report(s, &outcome, err);
    if (s->output_error)
        return cop_fail(err, COP_ERR_IO, "cannot write the answer: %s", strerror(s->output_error));
    return *s->interrupted ? cop_fail(err, COP_ERR_INTERRUPTED, "interrupted") : status;
}

/* ---- Where prompts come from ---- */

static cop_status ask_all(session *s, char *const *prompts, size_t count, cop_error *err)
{
    cop_status status = COP_OK;
    for (size_t i = 0; i < count && status == COP_OK; i++)
        status = ask(s, &(const char *){prompts[i]}, 1, err);
    return status;
}

/* The next line that is not empty, without its end; NULL at the end of the file or an interrupt. */
static char *next_line(session *s, FILE *in)
{
    bool terminal = isatty(fileno(in)) && isatty(STDERR_FILENO);
    char *line = NULL;
    size_t size = 0;
    for (;;) {
        if (terminal)
            fputs("> ", stderr);
        ssize_t bytes = *s->interrupted ? -1 : getline(&line, &size, in);
        while (bytes > 0 && (line[bytes - 1] == '\n' || line[bytes - 1] == '\r'))
            line[--bytes] = '\0';
        if (bytes > 0)
            return line;
        if (bytes < 0) {
            if (terminal)
                fputc('\n', stderr);
            free(line);
            return NULL;
        }
    }
}

/* Every line: a turn of one conversation, or without --chat a prompt of its own. */
static cop_status ask_lines(session *s, FILE *in, cop_error *err)
{
    char **turns = NULL;
    size_t count = 0, capacity = 0;
    cop_status status = COP_OK;
    for (char *line; status == COP_OK && (line = next_line(s, in));) {
        COP_GROW(turns, capacity, count + 2);
        turns[count++] = line;
        status = ask(s, (const char *const *)turns, count, err);
        turns[count++] = copy_text(&s->text);
        while (!s->arguments->chat && count > 0)
            free(turns[--count]);
    }
    if (status == COP_OK && *s->interrupted)
        status = cop_fail(err, COP_ERR_INTERRUPTED, "interrupted");
    else if (status == COP_OK && ferror(in))
        status = cop_fail(err, COP_ERR_IO, "stdin: %s", strerror(errno));
    while (count > 0)
        free(turns[--count]);
    free(turns);
    return status;
}

/* Prompts of the command line as texts. */
static cop_status load_prompts(char **out, const cop_generate_arguments *a, cop_error *err)
{
    for (size_t i = 0; i < a->prompt_count; i++) {
        const char *text = a->prompts[i].text;
        cop_status status = COP_OK;
        if (a->prompts[i].file)
            status = read_text(&out[i], text, err);
        else
            out[i] = cop_strdup(text);
        if (status == COP_OK && !out[i][0])
            status = cop_fail(err, COP_ERR_INVALID, "prompt %zu is empty", i + 1);
        if (status != COP_OK)
            return status;
    }
    return COP_OK;
}

/* ---- The cache file ---- */

static void tell_cache(const session *s, const char *what)
{
    cop_cache_stats stats;
    cop_cache_read(s->cache, &stats);
    cop_log_info(s->log, "%s: %s %u blocks of %u tokens, %.1f MB", s->arguments->cache_file, what,
                 stats.cached_blocks, stats.block_tokens,
                 (double)stats.cached_blocks * (double)stats.block_bytes / 1e6);
}

/* A save makes a new file, whether there is an old one or not: that it cannot is told before the
 * work, not after it. */
static cop_status check_folder(const char *path, cop_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? cop_strndup(path, (size_t)(slash - path) + 1) : cop_strdup(".");
    cop_status status = COP_OK;
    if (access(folder, W_OK | X_OK) != 0)
        status = cop_fail(err, COP_ERR_INVALID, "%s: cannot be written: %s", path, strerror(errno));
    free(folder);
    return status;
}

/* A file that is not there yet is an empty cache. */
static cop_status restore(session *s, cop_error *err)
{
    const char *path = s->arguments->cache_file;
    if (access(path, F_OK) != 0)
        return COP_OK;
    cop_status status = cop_cache_load(s->cache, path, err);
    if (status == COP_OK)
        tell_cache(s, "restored");
    return status;
}

/* Keeps the first error. A device that failed has left an empty cache: the old file is better. */
static cop_status save(session *s, cop_status status, cop_error *err)
{
    cop_error failure;
    if (status == COP_ERR_DEVICE)
        return status;
    if (cop_cache_save(s->cache, s->arguments->cache_file, &failure) == COP_OK) {
        tell_cache(s, "saved");
        return status;
    }
    if (status == COP_OK)
        return cop_fail(err, failure.status, "%s", failure.text);
    cop_log_warn(s->log, "%s", failure.text);
    return status;
}

/* ---- The command ---- */

static cop_status open_model(session *s, cop_error *err)
{
    cop_model_options model;
    cop_cache_options cache;
    cop_model_info info;
    if (!s->cfg->model_path[0])
        return cop_fail(err, COP_ERR_INVALID,
                        "generate needs --model DIR, a checkpoint folder with its tokenizer.json; "
                        "`coppice bench prompt_cache` shows the cache without one");
    cop_status status = cop_setup_library(&model, &cache, s->cfg, err);
    if (status == COP_OK)
        status = cop_model_open(&s->model, &model, err);
    if (status != COP_OK)
        return status;
    cop_model_describe(s->model, &info);
    if (!info.has_tokenizer)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "%s: has no tokenizer.json to read prompts with",
                        s->cfg->model_path);
    status = cop_cache_open(&s->cache, s->model, &cache, err);
    if (status != COP_OK)
        return status;
    cop_model_describe(s->model, &info); /* the device is known now */
    cop_log_info(s->log, "%s (%s, %.1f M parameters), %s", info.name, info.family,
                 (double)info.parameters / 1e6, info.device);
    return COP_OK;
}

static void session_fini(session *s)
{
    cop_cache_close(s->cache);
    cop_model_close(s->model);
    free(s->system);
    free(s->prompt.ids);
    free(s->answer.ids);
    cop_buffer_fini(&s->text);
}

cop_status cop_command_generate(const cop_generate_arguments *arguments, const cop_config *cfg,
                                const cop_log *log, const volatile sig_atomic_t *interrupted,
                                FILE *in, FILE *out, cop_error *err)
{
    session s = {
        .arguments = arguments, .cfg = cfg, .log = log, .interrupted = interrupted, .out = out};
    size_t count = arguments->prompt_count;
    char **prompts = cop_calloc(count + 1, sizeof *prompts);
    cop_status status = load_prompts(prompts, arguments, err);
    if (status == COP_OK && arguments->system)
        status = read_text(&s.system, arguments->system, err);
    if (status == COP_OK && arguments->cache_file)
        status = check_folder(arguments->cache_file, err);
    if (status == COP_OK)
        status = open_model(&s, err);
    if (status == COP_OK && arguments->cache_file)
        status = restore(&s, err);
    if (status == COP_OK) {
        status = count ? ask_all(&s, prompts, count, err) : ask_lines(&s, in, err);
        if (arguments->cache_file)
            status = save(&s, status, err);
    }
    session_fini(&s);
    for (size_t i = 0; i < count; i++)
        free(prompts[i]);
    free(prompts);
    return status;
}
