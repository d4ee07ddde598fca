/* Finds what a plugin offers. A plugin is a shared library beside the program (or beside libcoppice),
 * opened when first asked for and never closed, so that the program starts where the libraries that
 * the plugin needs do not exist. */
#ifndef COP_BASE_PLUGIN_H
#define COP_BASE_PLUGIN_H

#include "base/status.h"

#include <stdint.h>

/* `file` is looked for, in this order: at the path in the environment variable `override`, if that
 * is set; in the folder of the program or library that this code is in; in ../lib/coppice from there;
 * where the dynamic linker looks. *out: the address of `symbol`, valid for ever: a struct that begins
 * with its version, a uint32_t.
 * COP_ERR_UNSUPPORTED, with the reason, if there is no such file, it cannot be opened, lacks the
 * symbol, or has another version of it. */
cop_status cop_plugin_find(const char *file, const char *override, const char *symbol,
                           uint32_t version, const void **out, cop_error *err);

#endif
