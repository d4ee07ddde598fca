#include "drive/options.h"

#include "base/alloc.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    ASSIGNMENT, /* --set */
    KEY,        /* short for a key; a flag sets it to true */
    FLAG,       /* a bool of cop_cli */
    TEXT,       /* a string of cop_cli */
    COUNT,      /* a uint32_t of cop_cli, >= 1 */
    PROMPT,
    PROMPT_FILE
} option_kind;

struct cop_option {
    const char *name, *value; /* value: its word in the help; NULL: takes none */
    option_kind kind;
    const char *key; /* of KEY */
    size_t offset;   /* of FLAG, TEXT, COUNT */
    const char *help;
};

static const cop_option common[] = {
    {"--set", "KEY=VALUE", ASSIGNMENT, NULL, 0, "override one key (any number of times)"},
    {"--quiet", NULL, FLAG, NULL, offsetof(cop_cli, quiet), "no progress, only warnings"},
    {"--help", NULL, FLAG, NULL, offsetof(cop_cli, help),
     "this text; `coppice config --help` lists every key"},
    {0},
};

static const cop_option of_runs[] = {
    {"-o", "FILE", KEY, "record.path", 0, NULL},
    {"--skip-bad-lines", NULL, KEY, "workload.skip_bad_lines", 0, NULL},
    {0},
};

#define OWN(field) offsetof(cop_cli, generate.field)

static const cop_option of_generate[] = {
    {"--model", "DIR", KEY, "model.path", 0, NULL},
    {"--system", "FILE", TEXT, NULL, OWN(system),
     "what every prompt begins with (the cached part)"},
    {"--prompt", "TEXT", PROMPT, NULL, 0, "a question (any number of times)"},
    {"--prompt-file", "FILE", PROMPT_FILE, NULL, 0, "the same, from a file"},
    {"--chat", NULL, FLAG, NULL, OWN(chat), "system and prompts in the model's chat template"},
    {"--max-new-tokens", "N", COUNT, NULL, OWN(max_new_tokens), "length of an answer (128)"},
    {"--temperature", "T", KEY, "sampling.temperature", 0, NULL},
    {"--top-p", "P", KEY, "sampling.top_p", 0, NULL},
    {"--seed", "N", KEY, "seed", 0, NULL},
    {"--cache-file", "FILE", TEXT, NULL, OWN(cache_file), "restore the cache, save it at the end"},
    {"--no-cold", NULL, FLAG, NULL, OWN(no_cold), "do not measure what no cache would cost"},
    {"--json", NULL, FLAG, NULL, OWN(json), "a JSON object for each prompt, with its figures"},
    {0},
};

/* The command's own, then the common ones. */
static void tables_of(const char *command, const cop_option *tables[2])
{
    tables[0] = strcmp(command, "generate") == 0 ? of_generate : of_runs;
    tables[1] = common;
}

cop_status cop_option_find(const cop_option **out, const char *command, const char *name,
                           cop_error *err)
{
    enum { MOST = sizeof of_generate / sizeof *of_generate + sizeof common / sizeof *common };
    const cop_option *tables[2];
    const char *names[MOST];
    size_t count = 0;
    tables_of(command, tables);
    for (int t = 0; t < 2; t++) {
        for (const cop_option *o = tables[t]; o->name; o++) {
            if (strcmp(o->name, name) == 0) {
                *out = o;
                return COP_OK;
            }
            names[count++] = o->name;
        }
    }
    return cop_unknown_name(err, "unknown option", name, names, count);
}

bool cop_option_takes_value(const cop_option *option)
{
    return option->value;
}

static cop_status set_key(const cop_option *option, cop_cli *cli, const char *value, cop_error *err)
{
    size_t bytes = strlen(option->key) + strlen(value) + 2;
    char *assignment = cop_malloc(bytes);
    snprintf(assignment, bytes, "%s=%s", option->key, value);
    cop_status status = cop_config_set(&cli->cfg, assignment, option->name, err);
    free(assignment);
    return status;
}

static cop_status set_count(const cop_option *option, uint32_t *field, const char *value,
                            cop_error *err)
{
    enum { MOST = 1 << 20 };
    char *end;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (end == value || *end || errno || number < 1 || number > MOST)
        return cop_fail(err, COP_ERR_INVALID, "%s: expected a number from 1 to %d, got '%s'",
                        option->name, MOST, value);
    *field = (uint32_t)number;
    return COP_OK;
}

static void add_prompt(cop_generate_arguments *g, const char *text, bool file)
{
    COP_GROW(g->prompts, g->prompt_capacity, g->prompt_count + 1);
    g->prompts[g->prompt_count++] = (cop_generate_prompt){text, file};
}

cop_status cop_option_apply(const cop_option *option, cop_cli *cli, const char *value,
                            cop_error *err)
{
    void *field = (char *)cli + option->offset;
    switch (option->kind) {
    case ASSIGNMENT:
        return cop_config_set(&cli->cfg, value, option->name, err);
    case KEY:
        return set_key(option, cli, value ? value : "true", err);
    case FLAG:
        *(bool *)field = true;
        break;
    case TEXT:
        *(const char **)field = value;
        break;
    case COUNT:
        return set_count(option, field, value, err);
    case PROMPT:
    case PROMPT_FILE:
        add_prompt(&cli->generate, value, option->kind == PROMPT_FILE);
        break;
    }
    return COP_OK;
}

void cop_options_help(const char *command, FILE *out)
{
    const cop_option *tables[2];
    tables_of(command, tables);
    fputs("Options\n", out);
    for (int t = 0; t < 2; t++) {
        for (const cop_option *o = tables[t]; o->name; o++) {
            char left[40];
            snprintf(left, sizeof left, "%s %s", o->name, o->value ? o->value : "");
            if (o->key)
                fprintf(out, "  %-20s the same as --set %s=%s\n", left, o->key,
                        o->value ? o->value : "true");
            else
                fprintf(out, "  %-20s %s\n", left, o->help);
        }
    }
}
