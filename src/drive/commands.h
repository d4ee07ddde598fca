/* The commands of `coppice` that need no ranks and measure nothing; each prints to `out`. */
#ifndef COP_DRIVE_COMMANDS_H
#define COP_DRIVE_COMMANDS_H

#include "base/status.h"
#include "config/config.h"

#include <stdio.h>

/* `coppice info`: what this build is and can do. */
void cop_command_info(FILE *out);

/* `coppice salvage IN OUT`: see cop_record_salvage; prints the rows of each table. */
cop_status cop_command_salvage(const char *in_path, const char *out_path, FILE *out,
                               cop_error *err);

/* `coppice config`: checks the names that only their registries know, then prints the effective
 * configuration. */
cop_status cop_command_config(const cop_config *cfg, FILE *out, cop_error *err);

#endif
