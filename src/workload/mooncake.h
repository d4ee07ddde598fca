/* Inside the Mooncake reader: from bytes to rows. Public functions are in workload.h.
 *
 *     file --read in pieces--> whole lines --cop_mooncake_scan_line--> rows, ids
 *
 * The scanner knows one schema and stops by itself at the newline that ends every line, because a
 * newline is legal nowhere else: no bound is tested per byte. Whoever calls it provides it. */
#ifndef COP_WORKLOAD_MOONCAKE_H
#define COP_WORKLOAD_MOONCAKE_H

#include "workload/workload.h"

enum {
    COP_MOONCAKE_MAX_TOKENS = 1 << 27, /* of one request; its tokens are allocated when popped */
    COP_MOONCAKE_MAX_LINE = 16 << 20,  /* bytes */
    COP_MOONCAKE_PROBLEM = 256
};

typedef struct {
    bool ends_file; /* in: the file ends here, its newline is ours */
    bool no_memory; /* out: the problem is not the line's */
    char problem[COP_MOONCAKE_PROBLEM];
} cop_mooncake_scan;

/* Scans the line at `text`, which ends with '\n', checks it, and appends its row to `trace`.
 * Returns the start of the next line; NULL (with scan->problem set, trace as before) if malformed.
 */
const char *cop_mooncake_scan_line(cop_mooncake_scan *scan, cop_mooncake *trace, const char *text);

/* As cop_mooncake_read, from memory. text: char[bytes], no terminator needed; `name` stands for the
 * file in messages. */
cop_status cop_mooncake_parse(cop_mooncake *out, const char *name, const char *text, size_t bytes,
                              uint64_t limit, bool skip_bad_lines, cop_error *err);

#endif
