/* Any bytes as a configuration file and as an assignment. A refusal is one line and changes
 * nothing; what is accepted prints as a file that loads back to the same. */
#include "fuzz.h"

#include "base/alloc.h"
#include "base/check.h"
#include "config/config.h"
#include "config/load.h"

#include <stdlib.h>
#include <string.h>

static char *print(const cop_config *cfg, size_t *size)
{
    char *text;
    FILE *out = open_memstream(&text, size);
    COP_CHECK(out != NULL);
    cop_config_print(cfg, out);
    fclose(out);
    return text;
}

static void check_refusal(cop_status status, const cop_error *err)
{
    COP_CHECK(status == COP_ERR_INVALID || status == COP_ERR_IO);
    COP_CHECK(err->status == status);
    COP_CHECK(*err->text != '\0');
    COP_CHECK(strpbrk(err->text, "\r\n") == NULL);
}

static void check_round_trip(const cop_config *cfg)
{
    cop_config again;
    cop_config_default(&again);
    size_t size, size_again;
    char *text = print(cfg, &size);
    COP_CHECK(cop_config_load_text(&again, "printed", text, size, NULL) == COP_OK);
    const cop_key *keys;
    memcpy(again.origin, cfg->origin, cop_config_keys(&keys));
    char *text_again = print(&again, &size_again);
    COP_CHECK(size == size_again && memcmp(text, text_again, size) == 0);
    free(text);
    free(text_again);
    cop_config_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cop_config cfg;
    cop_error err;
    cop_config_default(&cfg);
    int64_t seed = cfg.seed;
    cop_status status = cop_config_load_text(&cfg, "fuzz.yaml", (const char *)data, size, &err);
    if (status == COP_OK) {
        check_round_trip(&cfg);
    } else {
        check_refusal(status, &err);
        COP_CHECK(cfg.seed == seed);
    }
    char *assignment = cop_strndup((const char *)data, size);
    status = cop_config_set(&cfg, assignment, "--set", &err);
    if (status == COP_OK)
        check_round_trip(&cfg);
    else
        check_refusal(status, &err);
    free(assignment);
    cop_config_fini(&cfg);
    return 0;
}
