/* Any bytes as a safetensors file, as they are and with the header's length put right, so that
 * mutants get past it. A refusal is one line; of what is accepted, the tensors divide the data among
 * themselves. */
#include "fuzz.h"

#include "base/alloc.h"
#include "base/check.h"
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

static void check_refusal(cop_status status, const cop_error *err)
{
    COP_CHECK(status == COP_ERR_INVALID);
    COP_CHECK(err->status == status);
    COP_CHECK(*err->text != '\0');
    COP_CHECK(strpbrk(err->text, "\r\n") == NULL);
}

static void check_tensors(const cop_safetensors *file, const uint8_t *bytes, size_t size)
{
    uint64_t header = 0, total = 0;
    memcpy(&header, bytes, sizeof header);
    COP_CHECK(header <= size - 8);
    const uint8_t *data = bytes + 8 + header, *end = bytes + size;
    for (size_t i = 0; i < cop_safetensors_count(file); i++) {
        const cop_safetensor *t = cop_safetensors_at(file, i);
        COP_CHECK(t->data >= data && t->bytes <= (uint64_t)(end - t->data));
        COP_CHECK(t->dims <= COP_SAFETENSORS_DIMS);
        COP_CHECK(i == 0 || strcmp(cop_safetensors_at(file, i - 1)->name, t->name) < 0);
        COP_CHECK(cop_safetensors_find(file, t->name) == t);
        total += t->bytes;
    }
    COP_CHECK(total == (uint64_t)(end - data));
}

static void parse(const uint8_t *bytes, size_t size)
{
    cop_safetensors *file;
    cop_error err;
    cop_status status = cop_safetensors_parse(&file, bytes, size, "fuzz.safetensors", &err);
    if (status != COP_OK) {
        check_refusal(status, &err);
        return;
    }
    check_tensors(file, bytes, size);
    cop_safetensors_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse(data, size);
    size_t end = size;
    while (end > 8 && data[end - 1] != '}')
        end--;
    if (end > 8) {
        const uint64_t header = end - 8;
        uint8_t *copy = cop_malloc(size);
        memcpy(copy, data, size);
        memcpy(copy, &header, sizeof header);
        parse(copy, size);
        free(copy);
    }
    return 0;
}
