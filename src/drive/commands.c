#include "drive/commands.h"

#include "core/evict/evict.h"
#include "core/migrate/migrate.h"
#include "core/route/route.h"
#include "core/router.h"
#include "drive/provenance.h"
#include "drive/setup.h"
#include "model/geometry.h"
#include "record/record.h"

void cop_command_info(FILE *out)
{
    fprintf(out, "coppice %s\ncompiler   %s\nrecord     %s, schema %d\n", cop_build_revision(),
            cop_build_compiler(), cop_record_library(), COP_RECORD_SCHEMA);
    const cop_device_ops *cuda;
    cop_error err;
    bool found = cop_device_find("cuda", &cuda, &err) == COP_OK;
    fprintf(out, "devices    cpu%s\n", found ? ", cuda (plugin coppice-cuda.so)" : "");
    if (!found)
        fprintf(out, "           %s\n", err.text);
    fprintf(out, "presets   ");
    for (size_t i = 0; cop_geometry_at(i); i++)
        fprintf(out, " %s", cop_geometry_at(i)->name);
    fprintf(out, "\nrouting   ");
    for (size_t i = 0; cop_route_policy_name(i); i++)
        fprintf(out, " %s", cop_route_policy_name(i));
    fprintf(out, "\nmigration ");
    for (size_t i = 0; cop_migrate_policy_name(i); i++)
        fprintf(out, " %s", cop_migrate_policy_name(i));
    fprintf(out, "\neviction  ");
    for (size_t i = 0; cop_evict_at(i); i++)
        fprintf(out, " %s", cop_evict_at(i)->name);
    fprintf(out, "\n");
}

cop_status cop_command_salvage(const char *in_path, const char *out_path, FILE *out, cop_error *err)
{
    uint64_t rows[COP_TABLES];
    cop_status status = cop_record_salvage(in_path, out_path, rows, err);
    for (int i = 0; status == COP_OK && i < COP_TABLES; i++)
        fprintf(out, "%-12s %llu rows\n", cop_table_name((cop_table)i),
                (unsigned long long)rows[i]);
    return status;
}

static cop_status check_names(const cop_config *cfg, cop_error *err)
{
    cop_weights *weights;
    const cop_evict_ops *evict;
    const cop_route_ops *route;
    const cop_migrate_ops *migrate;
    cop_status status = cop_setup_weights(&weights, cfg, err);
    if (status != COP_OK)
        return status;
    cop_weights_close(weights);
    if (status == COP_OK)
        status = cop_evict_find(cfg->cache_eviction, &evict, err);
    if (status == COP_OK)
        status = cop_route_find(cfg->router_policy, &route, err);
    if (status == COP_OK)
        status = cop_migrate_find(cfg->migration_policy, &migrate, err);
    return status;
}

cop_status cop_command_config(const cop_config *cfg, FILE *out, cop_error *err)
{
    cop_status status = check_names(cfg, err);
    if (status == COP_OK)
        cop_config_print(cfg, out);
    return status;
}
