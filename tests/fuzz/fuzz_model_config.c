/* Any bytes as a checkpoint's config.json. A refusal is one line and changes nothing; what is
 * accepted has sizes that can be multiplied and frequencies that are numbers. */
#include "fuzz.h"

#include "base/check.h"
#include "model/checkpoint_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_refusal(cop_status status, const cop_error *err)
{
    COP_CHECK(status == COP_ERR_INVALID || status == COP_ERR_UNSUPPORTED);
    COP_CHECK(err->status == status);
    COP_CHECK(*err->text != '\0');
    COP_CHECK(strpbrk(err->text, "\r\n") == NULL);
}

static void check_geometry(const cop_geometry *g)
{
    COP_CHECK(g->layers > 0 && g->layers <= 1024 && g->vocab > 0 && g->max_context > 0);
    COP_CHECK(g->hidden > 0 && g->hidden % 64 == 0 && g->ffn > 0 && g->ffn % 64 == 0);
    COP_CHECK(g->kv_heads > 0 && g->q_heads >= g->kv_heads && g->q_heads % g->kv_heads == 0);
    COP_CHECK(g->head_dim > 0 && g->head_dim % 2 == 0);
    const uint64_t widest[] = {g->vocab, g->ffn, (uint64_t)g->q_heads * g->head_dim};
    for (size_t i = 0; i < sizeof widest / sizeof *widest; i++)
        COP_CHECK(widest[i] * g->hidden < 1ULL << 45);
    COP_CHECK(g->rms_epsilon > 0);
    for (uint32_t i = 0; i < g->head_dim / 2; i++)
        COP_CHECK(isfinite(cop_geometry_rope_frequency(g, i)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cop_json *root;
    cop_error err;
    cop_status status = cop_json_parse(&root, (const char *)data, size, "fuzz.json", &err);
    if (status != COP_OK) {
        check_refusal(status, &err);
        return 0;
    }
    cop_checkpoint_config c = {.family = NULL};
    status = cop_checkpoint_config_parse(&c, root, "config.json", &err);
    if (status == COP_OK)
        check_geometry(&c.geometry);
    else
        check_refusal(status, &err);
    COP_CHECK((status == COP_OK) == (c.family != NULL));

    uint32_t *stops = NULL;
    size_t count = 0;
    status = cop_checkpoint_stops_parse(&stops, &count, root, 1000, "config.json", &err);
    if (status != COP_OK)
        check_refusal(status, &err);
    for (size_t i = 0; i < count; i++)
        COP_CHECK(stops[i] < 1000);
    free(stops);
    cop_json_free(root);
    return 0;
}
