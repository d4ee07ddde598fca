#include "drive/provenance.h"

#include "build_info.h"
#include "model/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *cop_build_revision(void)
{
    return COP_BUILD_REVISION;
}

const char *cop_build_compiler(void)
{
    return COP_BUILD_COMPILER;
}

static void write_config(cop_record *record, const cop_config *cfg)
{
    static const char *const origins[] = {"default", "file", "command line"};
    const cop_key *keys;
    size_t count = cop_config_keys(&keys);
    for (size_t i = 0; i < count; i++) {
        char name[192], number[1024];
        const char *text = number;
        if (keys[i].type == COP_KEY_STRING || keys[i].type == COP_KEY_CHOICE)
            text = *(char *const *)((const char *)cfg + keys[i].offset);
        else
            cop_config_value(cfg, i, number, sizeof number);
        snprintf(name, sizeof name, "config.%s", keys[i].path);
        cop_record_text(record, name, text);
        snprintf(name, sizeof name, "config.%s.origin", keys[i].path);
        cop_record_text(record, name, origins[cfg->origin[i]]);
    }
}

void cop_provenance_write(cop_record *record, const cop_config *cfg, const char *mpi_version)
{
    char host[256] = "", start[64];
    gethostname(host, sizeof host - 1);
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(start, sizeof start, "%Y-%m-%dT%H:%M:%SZ", &utc);
    cop_record_text(record, "coppice_version", COP_BUILD_VERSION);
    cop_record_text(record, "git_revision", COP_BUILD_REVISION);
    cop_record_text(record, "compiler", COP_BUILD_COMPILER);
    cop_record_text(record, "flags", COP_BUILD_FLAGS);
    cop_record_text(record, "mpi", mpi_version);
    cop_record_text(record, "hdf5", cop_record_library());
    cop_record_text(record, "host", host);
    cop_record_text(record, "start_time", start);
    cop_record_int(record, "seed", cfg->seed);
    write_config(record, cfg);
}

cop_status cop_provenance_model(cop_record *record, const cop_weights *weights,
                                const cop_encoder *encoder, cop_error *err)
{
    uint64_t fingerprint;
    char hex[20];
    cop_status status = cop_weights_fingerprint(weights, &fingerprint, err);
    if (status != COP_OK)
        return status;
    const cop_geometry *g = cop_weights_geometry(weights);
    const cop_checkpoint *checkpoint = cop_weights_checkpoint(weights);
    const char *path = cop_weights_path(weights);
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)fingerprint);
    cop_record_text(record, "model", path ? path : g->name);
    cop_record_text(record, "model.family",
                    checkpoint ? cop_checkpoint_family(checkpoint) : "preset");
    cop_record_int(record, "model.parameters", (int64_t)cop_geometry_parameters(g));
    cop_record_text(record, "model.fingerprint", hex);
    if (encoder) {
        cop_record_text(record, "text.tokenizer", cop_encoder_path(encoder));
        cop_record_text(record, "text.template", cop_encoder_template(encoder));
        cop_record_int(record, "text.vocab", cop_encoder_vocab(encoder));
    }
    return COP_OK;
}
