/* `coppice generate`: text from a checkpoint, prompts answered one after the other, each reusing
 * the longest prefix that the cache holds. Made of the public library (coppice.h) alone. */
#ifndef COP_DRIVE_GENERATE_H
#define COP_DRIVE_GENERATE_H

#include "base/log.h"
#include "base/status.h"
#include "config/config.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
    const char *text; /* the prompt, or the path of a file that is one; borrowed */
    bool file;
} cop_generate_prompt;

/* What the command line says beside the keys of the configuration; strings are borrowed. */
typedef struct {
    const char *system, *cache_file;      /* paths; NULL: none */
    cop_generate_prompt *prompts;         /* owned */
    size_t prompt_count, prompt_capacity; /* no prompt: lines of `in` */
    uint32_t max_new_tokens;              /* >= 1 */
    bool chat, no_cold, json;
} cop_generate_arguments;

/* Answers go to `out` as they come, figures to the log. Without prompts every line of `in` is one;
 * with `chat` these lines are the turns of one conversation. An interrupt ends the answer at its
 * next token and returns COP_ERR_INTERRUPTED. However it ends, a cache file that could be read (or
 * was not there) is replaced by what the cache then holds. */
cop_status cop_command_generate(const cop_generate_arguments *arguments, const cop_config *cfg,
                                const cop_log *log, const volatile sig_atomic_t *interrupted,
                                FILE *in, FILE *out, cop_error *err);

#endif
