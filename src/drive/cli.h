/* The command line: `coppice COMMAND [CONFIG.yaml] [options]`. */
#ifndef COP_DRIVE_CLI_H
#define COP_DRIVE_CLI_H

#include "base/log.h"
#include "base/status.h"
#include "config/config.h"
#include "drive/generate.h"

#include <stdbool.h>

typedef struct {
    const char *command;  /* borrowed from argv, as the others */
    const char *words[2]; /* positional arguments after it */
    int word_count;
    bool quiet, help;
    cop_generate_arguments generate; /* of that command */
    cop_config cfg;                  /* file, then the options that set keys */
} cop_cli;

/* Reads the command line; loads the config file where the command takes one. */
cop_status cop_cli_parse(cop_cli *out, int argc, char **argv, cop_error *err);
void cop_cli_fini(cop_cli *cli);

/* Help of one command, or the list of all when `command` is NULL or unknown. */
void cop_cli_help(const char *command, FILE *out);

#endif
