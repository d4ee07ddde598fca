#include "drive/bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/rng.h"
#include "record/record.h"
#include "record/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* /requests gets bench.rows rows, the others an eighth of it, in appends of BATCH_ROWS. Flush times
 * are taken apart, each after the rows that record.flush_ms brings at REQUESTS_PER_S if every
 * request left one row in every table. The bound is write() of the same bytes to a file beside the
 * record; both go to the page cache, as a flush promises to outlive a kill, not a power cut. */
enum { BATCH_ROWS = 256, POOL_BATCHES = 16, FLUSHES = 500, REQUESTS_PER_S = 2000 };

typedef struct {
    const char *path;
    char *plain_path;
    int plain;
    FILE *out;
    cop_record *record; /* NULL once closed */
    uint64_t rows, flush_rows;
    char *pool[COP_TABLES]; /* POOL_BATCHES batches of plausible rows, appended in turn */
} bench;

static void fill_column(char *to, const cop_column *column, uint64_t row, cop_rng *rng)
{
    int64_t i64 = (int64_t)(row * 500000 + cop_rng_below(rng, 100000000));
    uint64_t u64 = row;
    int32_t i32 = (int32_t)cop_rng_below(rng, 8);
    uint32_t u32 = (uint32_t)cop_rng_below(rng, 4096);
    double f64 = cop_rng_exponential(rng, 1e7);
    uint8_t u8 = (uint8_t)cop_rng_below(rng, 4);
    const void *values[] = {
        [COP_COLUMN_i64] = &i64, [COP_COLUMN_u64] = &u64, [COP_COLUMN_i32] = &i32,
        [COP_COLUMN_u32] = &u32, [COP_COLUMN_f64] = &f64, [COP_COLUMN_u8] = &u8,
    };
    memcpy(to + column->offset, values[column->type], column->bytes);
}

static char *make_pool(const cop_schema *schema, cop_rng *rng)
{
    char *pool = cop_calloc((size_t)BATCH_ROWS * POOL_BATCHES, schema->row_bytes);
    for (uint64_t row = 0; row < (uint64_t)BATCH_ROWS * POOL_BATCHES; row++) {
        for (uint32_t c = 0; c < schema->column_count; c++)
            fill_column(pool + row * schema->row_bytes, &schema->columns[c], row, rng);
    }
    return pool;
}

static cop_status write_plain(bench *b, const void *bytes, size_t count, cop_error *err)
{
    const char *at = bytes;
    while (count > 0) {
        ssize_t n = write(b->plain, at, count);
        if (n < 0 && errno != EINTR)
            return cop_fail(err, errno == ENOSPC ? COP_ERR_NO_SPACE : COP_ERR_IO, "%s: %s",
                            b->plain_path, strerror(errno));
        at += n < 0 ? 0 : n;
        count -= n < 0 ? 0 : (size_t)n;
    }
    return COP_OK;
}

/* Rows to the record, or to the plain file. */
static cop_status put_rows(bench *b, cop_table table, uint64_t rows, bool plain, cop_error *err)
{
    size_t row_bytes = cop_schema_of(table)->row_bytes;
    cop_status status = COP_OK;
    for (uint64_t at = 0; at < rows && status == COP_OK; at += BATCH_ROWS) {
        size_t count = rows - at < BATCH_ROWS ? rows - at : BATCH_ROWS;
        const char *batch =
            b->pool[table] + at / BATCH_ROWS % POOL_BATCHES * BATCH_ROWS * row_bytes;
        status = plain ? write_plain(b, batch, count * row_bytes, err)
                       : cop_record_append(b->record, table, batch, count, err);
    }
    return status;
}

static double seconds_since(int64_t start_ns)
{
    return (double)(cop_clock_ns() - start_ns) / COP_NS_PER_S;
}

static cop_status bench_table(bench *b, cop_table table, cop_error *err)
{
    const cop_schema *schema = cop_schema_of(table);
    uint64_t rows = table == COP_TABLE_requests ? b->rows : (b->rows + 7) / 8;
    int64_t start_ns = cop_clock_ns();
    cop_status status = put_rows(b, table, rows, false, err);
    if (status == COP_OK)
        status = cop_record_flush(b->record, err);
    double record_s = seconds_since(start_ns);
    start_ns = cop_clock_ns();
    if (status == COP_OK)
        status = put_rows(b, table, rows, true, err);
    double plain_s = seconds_since(start_ns);
    if (status != COP_OK)
        return status;
    if (ftruncate(b->plain, 0) < 0 || lseek(b->plain, 0, SEEK_SET) < 0)
        return cop_fail(err, COP_ERR_IO, "%s: %s", b->plain_path, strerror(errno));
    double mb = (double)(rows * schema->row_bytes) / 1e6;
    fprintf(b->out, "%-11s %6zu %10" PRIu64 " %12.0f %10.0f %14.0f %9.2f\n", schema->name,
            schema->row_bytes, rows, (double)rows / record_s, mb / record_s, mb / plain_s,
            plain_s / record_s);
    return COP_OK;
}

static cop_status time_flush(bench *b, cop_histogram *flushes, cop_histogram *writes,
                             cop_error *err)
{
    cop_status status = COP_OK;
    for (int t = 0; t < COP_TABLES && status == COP_OK; t++)
        status = put_rows(b, (cop_table)t, b->flush_rows, false, err);
    int64_t start_ns = cop_clock_ns();
    if (status == COP_OK)
        status = cop_record_flush(b->record, err);
    cop_histogram_add(flushes, (uint64_t)(cop_clock_ns() - start_ns));
    start_ns = cop_clock_ns();
    for (int t = 0; t < COP_TABLES && status == COP_OK; t++)
        status = put_rows(b, (cop_table)t, b->flush_rows, true, err);
    cop_histogram_add(writes, (uint64_t)(cop_clock_ns() - start_ns));
    return status;
}

static void print_times(FILE *out, const char *what, const cop_histogram *h)
{
    fprintf(out, "%-24s p50 %8.1f us   p99 %8.1f us   max %8.1f us\n", what,
            (double)cop_histogram_quantile(h, 0.5) / COP_NS_PER_US,
            (double)cop_histogram_quantile(h, 0.99) / COP_NS_PER_US,
            (double)h->max / COP_NS_PER_US);
}

static cop_status bench_flush(bench *b, cop_error *err)
{
    cop_histogram *h = cop_calloc(2, sizeof *h);
    cop_status status = COP_OK;
    for (int i = 0; i < FLUSHES && status == COP_OK; i++)
        status = time_flush(b, &h[0], &h[1], err);
    if (status == COP_OK) {
        fprintf(b->out, "%d flushes, each after %" PRIu64 " rows in every table\n", FLUSHES,
                b->flush_rows);
        print_times(b->out, "  flush", &h[0]);
        print_times(b->out, "  write() of those rows", &h[1]);
    }
    free(h);
    return status;
}

static uint64_t record_bytes(const bench *b)
{
    uint64_t bytes = 0;
    for (int t = 0; t < COP_TABLES; t++)
        bytes += cop_record_rows(b->record, (cop_table)t) * cop_schema_of((cop_table)t)->row_bytes;
    return bytes;
}

static cop_status bench_close(bench *b, cop_error *err)
{
    double mb = (double)record_bytes(b) / 1e6;
    int64_t start_ns = cop_clock_ns();
    cop_status status = cop_record_close(b->record, true, err);
    double close_s = seconds_since(start_ns);
    b->record = NULL;
    struct stat st;
    if (status != COP_OK)
        return status;
    if (stat(b->path, &st) < 0)
        return cop_fail(err, COP_ERR_IO, "%s: %s", b->path, strerror(errno));
    uint64_t packed = (uint64_t)st.st_size;
    size_t row_bytes = cop_schema_of(COP_TABLE_requests)->row_bytes;
    start_ns = cop_clock_ns();
    status = put_rows(b, COP_TABLE_requests, packed / row_bytes, true, err);
    if (status == COP_OK && fsync(b->plain) < 0)
        status = cop_fail(err, COP_ERR_IO, "%s: %s", b->plain_path, strerror(errno));
    double plain_s = seconds_since(start_ns);
    if (status == COP_OK)
        fprintf(b->out,
                "close: %.0f MB repacked to %.0f MB in %.2f s, %.0f MB/s; write() and fsync of "
                "%.0f MB: %.2f s\n",
                mb, (double)packed / 1e6, close_s, mb / close_s, (double)packed / 1e6, plain_s);
    return status;
}

static cop_status run(bench *b, cop_error *err)
{
    cop_status status = cop_record_start(b->record, err);
    if (status != COP_OK)
        return status;
    fprintf(b->out, "%s, appends of %d rows, unfiltered, page cache: %s\n", cop_record_library(),
            BATCH_ROWS, b->path);
    fprintf(b->out, "%-11s %6s %10s %12s %10s %14s %9s\n", "table", "bytes", "rows", "rows/s",
            "MB/s", "write() MB/s", "of bound");
    for (int t = 0; t < COP_TABLES && status == COP_OK; t++)
        status = bench_table(b, (cop_table)t, err);
    if (status == COP_OK)
        status = bench_flush(b, err);
    return status == COP_OK ? bench_close(b, err) : status;
}

static cop_status with_files(bench *b, cop_error *err)
{
    cop_status status = cop_record_open(&b->record, b->path, err);
    if (status != COP_OK)
        return status;
    size_t size = strlen(b->path) + sizeof ".plain";
    b->plain_path = cop_malloc(size);
    snprintf(b->plain_path, size, "%s.plain", b->path);
    b->plain = open(b->plain_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (b->plain < 0)
        status = cop_fail(err, COP_ERR_IO, "%s: %s", b->plain_path, strerror(errno));
    else
        status = run(b, err);
    cop_record_abandon(b->record, NULL); /* NULL unless something failed */
    if (b->plain >= 0) {
        close(b->plain);
        unlink(b->plain_path);
    }
    free(b->plain_path);
    return status;
}

static cop_status temporary_path(char *path, size_t size, cop_error *err)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/coppice-bench-XXXXXX.h5", folder && *folder ? folder : "/tmp");
    int fd = mkstemps(path, 3);
    if (fd < 0)
        return cop_fail(err, COP_ERR_IO, "%s: %s", path, strerror(errno));
    close(fd);
    return COP_OK;
}

cop_status cop_bench_record(const cop_config *cfg, FILE *out, cop_error *err)
{
    char temporary[4096];
    bool given = cfg->record_path[0] != '\0';
    cop_status status = given ? COP_OK : temporary_path(temporary, sizeof temporary, err);
    if (status != COP_OK)
        return status;
    bench b = {.path = given ? cfg->record_path : temporary,
               .plain = -1,
               .out = out,
               .rows = (uint64_t)cfg->bench_rows,
               .flush_rows = (uint64_t)(cfg->record_flush_ms * REQUESTS_PER_S / 1000)};
    cop_rng rng;
    cop_rng_init(&rng, (uint64_t)cfg->seed, 0);
    for (int t = 0; t < COP_TABLES; t++)
        b.pool[t] = make_pool(cop_schema_of((cop_table)t), &rng);
    status = with_files(&b, err);
    for (int t = 0; t < COP_TABLES; t++)
        free(b.pool[t]);
    if (!given)
        unlink(temporary);
    return status;
}
