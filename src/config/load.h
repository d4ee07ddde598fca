/* Inside config: loading from memory, so that the parser can be fuzzed and tested without files. */
#ifndef COP_CONFIG_LOAD_H
#define COP_CONFIG_LOAD_H

#include "config/config.h"

/* As cop_config_load for a file `name` that holds `text`; includes are relative to `name`. */
cop_status cop_config_load_text(cop_config *cfg, const char *name, const char *text, size_t size,
                                cop_error *err);

#endif
