/* Any bytes: the reader takes them or names the line that is wrong, and what it takes keeps every
 * promise of workload.h. With skip_bad_lines it takes at least as much. */
#include "base/check.h"
#include "workload/mooncake.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rows(const cop_mooncake *trace)
{
    uint64_t ids = 0;
    for (size_t i = 0; i < trace->row_count; i++) {
        const cop_mooncake_row *row = &trace->rows[i];
        COP_CHECK(row->first_id == ids);
        COP_CHECK(row->input_length >= 1);
        COP_CHECK(row->id_count == (row->input_length + 511) / 512);
        COP_CHECK(i == 0 || row->timestamp_ms >= row[-1].timestamp_ms);
        ids += row->id_count;
    }
    COP_CHECK(ids == trace->id_count && trace->row_count >= 1);
}

static void check_tokens(const cop_mooncake *trace)
{
    const cop_mooncake_row *row = &trace->rows[trace->row_count - 1];
    uint32_t count, *tokens = malloc(row->input_length * sizeof *tokens);
    cop_mooncake_tokens(trace, row, 1, 77, tokens, &count);
    COP_CHECK(count == row->input_length);
    for (uint32_t i = 0; i < count; i++)
        COP_CHECK(tokens[i] < 77);
    free(tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cop_mooncake strict, lenient;
    cop_error err;
    const char *text = (const char *)data;
    cop_status strictly = cop_mooncake_parse(&strict, "fuzz", text, size, 0, false, &err);
    COP_CHECK(strictly == COP_OK || strncmp(err.text, "fuzz:", 5) == 0);
    cop_status leniently = cop_mooncake_parse(&lenient, "fuzz", text, size, 0, true, &err);
    if (strictly == COP_OK) {
        check_rows(&strict);
        check_tokens(&strict);
        COP_CHECK(leniently == COP_OK && lenient.skipped == 0);
        COP_CHECK(lenient.row_count == strict.row_count && strict.bytes == size);
        cop_mooncake_fini(&strict);
    }
    if (leniently == COP_OK) {
        check_rows(&lenient);
        cop_mooncake_fini(&lenient);
    }
    return 0;
}
