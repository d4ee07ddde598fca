#define _GNU_SOURCE /* memrchr */

#include "workload/mooncake.h"

#include "base/alloc.h"
#include "workload/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    cop_mooncake trace;
    const char *name;
    uint64_t limit, line; /* line: number of the last one looked at */
    uint64_t blank_lines; /* just before the next line */
    bool skip_bad_lines;
} reader;

static bool is_full(const reader *r)
{
    return r->limit && r->trace.row_count >= r->limit;
}

/* Blank lines are fine at the end of a file, and only there: this line comes after some. */
static cop_status end_blank_lines(reader *r, cop_error *err)
{
    if (r->blank_lines && !r->skip_bad_lines)
        return cop_fail(err, COP_ERR_CORRUPT, "%s:%llu: blank line in the middle of the trace",
                        r->name, (unsigned long long)(r->line - r->blank_lines));
    r->trace.skipped += r->blank_lines;
    r->blank_lines = 0;
    return COP_OK;
}

/* Takes the line at *text, which ends with '\n', and moves *text behind it. */
static cop_status take_line(reader *r, const char **text, bool ends_file, cop_error *err)
{
    const char *p = *text;
    while (*p == ' ' || *p == '\t' || *p == '\r')
        p++;
    r->line++;
    if (*p == '\n') {
        r->blank_lines++;
        *text = p + 1;
        return COP_OK;
    }
    cop_status status = end_blank_lines(r, err);
    if (status != COP_OK)
        return status;
    cop_mooncake_scan scan;
    scan.ends_file = ends_file;
    scan.no_memory = false;
    *text = cop_mooncake_scan_line(&scan, &r->trace, p);
    if (*text)
        return COP_OK;
    if (scan.no_memory || !r->skip_bad_lines)
        return cop_fail(err, scan.no_memory ? COP_ERR_NO_MEMORY : COP_ERR_CORRUPT, "%s:%llu: %s",
                        r->name, (unsigned long long)r->line, scan.problem);
    r->trace.skipped++;
    *text = (const char *)rawmemchr(p, '\n') + 1;
    return COP_OK;
}

/* Takes whole lines: end[-1] is a newline. */
static cop_status take_lines(reader *r, const char *text, const char *end, bool ends_file,
                             cop_error *err)
{
    const char *start = text;
    cop_status status = COP_OK;
    while (status == COP_OK && text < end && !is_full(r))
        status = take_line(r, &text, ends_file, err);
    if (status == COP_OK)
        r->trace.bytes += (size_t)(text - start);
    return status;
}

/* The last line of a file that has no newline of its own. */
static cop_status take_last_line(reader *r, const char *text, size_t bytes, cop_error *err)
{
    if (bytes == 0 || is_full(r))
        return COP_OK;
    char *line = cop_malloc(bytes + 1);
    memcpy(line, text, bytes);
    line[bytes] = '\n';
    cop_status status = take_lines(r, line, line + bytes + 1, true, err);
    r->trace.bytes -= status == COP_OK;
    free(line);
    return status;
}

/* Hands the trace over, or says why there is none. */
static cop_status end_reading(reader *r, cop_status status, cop_mooncake *out, cop_error *err)
{
    if (status == COP_OK && r->trace.row_count == 0)
        status = r->trace.skipped
                     ? cop_fail(err, COP_ERR_CORRUPT, "%s: none of its %llu lines is a request",
                                r->name, (unsigned long long)r->trace.skipped)
                     : cop_fail(err, COP_ERR_INVALID, "%s: no request in it: it is empty", r->name);
    if (status == COP_OK)
        *out = r->trace;
    else
        cop_mooncake_fini(&r->trace);
    return status;
}

cop_status cop_mooncake_parse(cop_mooncake *out, const char *name, const char *text, size_t bytes,
                              uint64_t limit, bool skip_bad_lines, cop_error *err)
{
    reader r = {.name = name, .limit = limit, .skip_bad_lines = skip_bad_lines};
    const char *newline = bytes ? memrchr(text, '\n', bytes) : NULL;
    size_t whole = newline ? (size_t)(newline + 1 - text) : 0;
    cop_status status = take_lines(&r, text, text + whole, false, err);
    if (status == COP_OK)
        status = take_last_line(&r, text + whole, bytes - whole, err);
    return end_reading(&r, status, out, err);
}

/* Reads piece after piece; what follows the last newline of a piece moves to the front of the
 * next. The buffer stays in the cache, and grows only for a line longer than itself. */
static cop_status read_lines(reader *r, int fd, cop_error *err)
{
    size_t capacity = (size_t)256 << 10, used = 0;
    char *buffer = cop_malloc(capacity);
    cop_status status = COP_OK;
    while (status == COP_OK && !is_full(r)) {
        if (used == capacity)
            buffer = cop_realloc(buffer, capacity *= 2);
        ssize_t got = read(fd, buffer + used, capacity - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = cop_fail(err, COP_ERR_IO, "%s: %s", r->name, strerror(errno));
        if (got == 0)
            status = take_last_line(r, buffer, used, err);
        if (got <= 0)
            break;
        char *newline = memrchr(buffer + used, '\n', (size_t)got);
        used += (size_t)got;
        if (newline) {
            status = take_lines(r, buffer, newline + 1, false, err);
            used -= (size_t)(newline + 1 - buffer);
            memmove(buffer, newline + 1, used);
        } else if (used > COP_MOONCAKE_MAX_LINE) {
            status = cop_fail(err, COP_ERR_CORRUPT, "%s:%llu: line is longer than %d MiB", r->name,
                              (unsigned long long)r->line + 1, COP_MOONCAKE_MAX_LINE >> 20);
        }
    }
    free(buffer);
    return status;
}

cop_status cop_mooncake_read(cop_mooncake *out, const char *path, uint64_t limit,
                             bool skip_bad_lines, cop_error *err)
{
    if (!path || !*path)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.path is empty: it must name a Mooncake trace");
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cop_fail(err, COP_ERR_INVALID, "cannot open trace '%s': %s", path, strerror(errno));
    reader r = {.name = path, .limit = limit, .skip_bad_lines = skip_bad_lines};
    cop_status status;
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode))
        status = cop_fail(err, COP_ERR_INVALID, "cannot read trace '%s': it is a directory", path);
    else
        status = read_lines(&r, fd, err);
    close(fd);
    return end_reading(&r, status, out, err);
}

void cop_mooncake_fini(cop_mooncake *trace)
{
    free(trace->rows);
    free(trace->ids);
    *trace = (cop_mooncake){0};
}

void cop_mooncake_tokens(const cop_mooncake *trace, const cop_mooncake_row *row, uint32_t scale,
                         uint32_t vocab, uint32_t *tokens, uint32_t *count)
{
    uint32_t per_block = COP_MOONCAKE_BLOCK / scale, total = row->input_length / scale;
    total = total ? total : 1;
    for (uint32_t done = 0, block = 0; done < total; block++) {
        uint32_t n = total - done < per_block ? total - done : per_block;
        uint64_t key = cop_splitmix64(trace->ids[row->first_id + block]);
        cop_text_fill(tokens + done, n, key, vocab);
        done += n;
    }
    *count = total;
}
