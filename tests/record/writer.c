/* The writing end of the record checks.
 *
 *     record_writer whole PATH ROWS        a completed record; says when it begins to close
 *     record_writer endless PATH SEED      appends and flushes for ever; after each flush a line of
 *                                          row counts, one for each table, on stdout
 *     record_writer salvage IN OUT         prints the rows of each table
 */
#include "base/rng.h"
#include "pattern.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static cop_status open_record(cop_record **record, const char *path, cop_error *err)
{
    cop_status status = cop_record_open(record, path, err);
    if (status != COP_OK)
        return status;
    cop_record_text(*record, "config", "cluster:\n  workers: 2  # \xc3\xa9t\xc3\xa9\n");
    cop_record_text(*record, "empty", "");
    cop_record_int(*record, "seed", -7);
    cop_record_float(*record, "clock_error_ns", 0.125);
    return cop_record_start(*record, err);
}

static cop_status whole(const char *path, uint64_t rows, cop_error *err)
{
    cop_record *record;
    cop_status status = open_record(&record, path, err);
    if (status == COP_OK) {
        status = pattern_append_all(record, rows, err);
        if (status == COP_OK)
            status = cop_record_flush(record, err);
        puts("closing");
        fflush(stdout);
        cop_record_int(record, "decision_digest", 42);
        cop_record_int(record, "seed", 8);
        cop_status closed = cop_record_close(record, true, status == COP_OK ? err : NULL);
        status = status == COP_OK ? closed : status;
    }
    return status;
}

static cop_status endless(const char *path, uint64_t seed, cop_error *err)
{
    cop_rng rng;
    cop_rng_init(&rng, seed, 0);
    cop_record *record;
    cop_status status = open_record(&record, path, err);
    while (status == COP_OK) {
        cop_table table = (cop_table)cop_rng_below(&rng, COP_TABLES);
        for (uint64_t n = cop_rng_below(&rng, 400); n > 0 && status == COP_OK; n--)
            status = pattern_append(record, table, err);
        if (status != COP_OK || cop_rng_below(&rng, 3))
            continue;
        status = cop_record_flush(record, err);
        for (int t = 0; t < COP_TABLES && status == COP_OK; t++)
            printf("%" PRIu64 "%c", cop_record_rows(record, (cop_table)t),
                   t + 1 < COP_TABLES ? ' ' : '\n');
        fflush(stdout);
    }
    return status;
}

static cop_status salvage(const char *in, const char *out, cop_error *err)
{
    uint64_t rows[COP_TABLES];
    cop_status status = cop_record_salvage(in, out, rows, err);
    for (int t = 0; t < COP_TABLES && status == COP_OK; t++)
        printf("%" PRIu64 "%c", rows[t], t + 1 < COP_TABLES ? ' ' : '\n');
    return status;
}

int main(int argc, char **argv)
{
    cop_error err;
    cop_status status = COP_ERR_INVALID;
    if (argc != 4)
        cop_fail(&err, status, "usage: record_writer whole|endless|salvage PATH ARGUMENT");
    else if (strcmp(argv[1], "whole") == 0)
        status = whole(argv[2], strtoull(argv[3], NULL, 10), &err);
    else if (strcmp(argv[1], "endless") == 0)
        status = endless(argv[2], strtoull(argv[3], NULL, 10), &err);
    else
        status = salvage(argv[2], argv[3], &err);
    if (status != COP_OK)
        fprintf(stderr, "record_writer: %s\n", err.text);
    return cop_status_exit(status);
}
