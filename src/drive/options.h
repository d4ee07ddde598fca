/* Options of the command line. Each is short for a key of the configuration (--model DIR says
 * --set model.path=DIR), or says something that is the command's own. */
#ifndef COP_DRIVE_OPTIONS_H
#define COP_DRIVE_OPTIONS_H

#include "drive/cli.h"

typedef struct cop_option cop_option;

/* The option of `command` by that name. COP_ERR_INVALID with the nearest name. */
cop_status cop_option_find(const cop_option **out, const char *command, const char *name,
                           cop_error *err);
bool cop_option_takes_value(const cop_option *option);
/* Into *cli; `value` is NULL for an option that takes none, and kept where it is text. */
cop_status cop_option_apply(const cop_option *option, cop_cli *cli, const char *value,
                            cop_error *err);
/* Every option of `command`, aligned. */
void cop_options_help(const char *command, FILE *out);

#endif
