#include "drive/cli.h"

#include "base/text.h"

#include <string.h>

typedef struct {
    const char *name, *arguments, *summary, *text;
    bool takes_config; /* the first word is a configuration file */
    int min_words, max_words;
} command;

static const command commands[] = {
    {"run", "CONFIG.yaml [-o OUT.h5] [--set key=value ...]",
     "replay a workload on a cluster of ranks, write the record",
     "Start it with mpirun; every rank is a worker with its own device and its own shard of the\n"
     "prefix cache, and rank 0 routes as well (cluster.frontend: dedicated gives it a rank).\n\n"
     "  mpirun -n 2 --bind-to none --mca mpi_yield_when_idle 1 \\\n"
     "      build/coppice run configs/quickstart.yaml -o results/quickstart.h5\n"
     "  python3 analysis/report.py results/quickstart.h5\n\n"
     "Ctrl-C closes the record and marks it incomplete. Exit status: 0 done, 2 bad input,\n"
     "130 interrupted, 1 anything else.\n",
     true, 1, 1},
    {"bench", "NAME [CONFIG.yaml] [--set key=value ...]",
     "measure one part, beside its bound: prefill decode index record trace transfer",
     "  coppice bench prefill  --set model.preset=qwen2.5-0.5b     against the matrix peak\n"
     "  coppice bench decode   --set model.preset=qwen2.5-0.5b     against read bandwidth\n"
     "  coppice bench index    --set workload.path=TRACE.jsonl     routing decisions a second\n"
     "  coppice bench record                                       rows a second, flush times\n"
     "  coppice bench trace    --set workload.path=TRACE.jsonl     MB/s of trace reading\n"
     "  mpirun -n 2 coppice bench transfer                         messages and KV blocks\n",
     false, 1, 2},
    {"trace", "info FILE [--set key=value ...]", "what is in a trace; its infinite-cache hit ratio",
     "Reads a Mooncake trace (JSON lines) and prints requests, lengths, distinct blocks and the\n"
     "hit ratio of an infinite cache, with the way it was counted. Of a file of conversations\n"
     "(ShareGPT JSON) it prints turns and text, and, where a tokenizer is named, tokens and "
     "hits:\n\n"
     "  coppice trace info sharegpt.json --set model.tokenizer=DIR/tokenizer.json\n\n"
     "The file tells which it is; --set workload.format=mooncake or sharegpt says so.\n",
     false, 2, 2},
    {"salvage", "IN.h5 OUT.h5", "make a plain file of the record of a killed run",
     "Every request that was flushed is kept. Never use bare h5clear on such a file: it truncates\n"
     "it.\n",
     false, 2, 2},
    {"config", "[CONFIG.yaml] [--set key=value ...]",
     "print the effective configuration, or check a file",
     "Without a file: every key with its default, range, unit and meaning. The output is itself a\n"
     "configuration.\n",
     true, 0, 1},
    {"info", "", "what this build is and can do: devices, presets, policies", "", false, 0, 0},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const command *find_command(const char *name)
{
    for (size_t i = 0; name && i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

void cop_cli_help(const char *name, FILE *out)
{
    const command *one = find_command(name);
    if (one) {
        fprintf(out, "usage: coppice %s %s\n\n%s.\n\n%s\n", one->name, one->arguments, one->summary,
                one->text);
        fputs("Options\n"
              "  --set key=value     override one key (any number of times)\n"
              "  -o FILE             the same as --set record.path=FILE\n"
              "  --skip-bad-lines    the same as --set workload.skip_bad_lines=true\n"
              "  --quiet             no progress, only warnings\n"
              "  --help              this text; `coppice config --help` lists every key\n",
              out);
        if (strcmp(name, "config") == 0) {
            fputs("\nKeys\n", out);
            cop_config_help(out, "");
        }
        return;
    }
    fputs("coppice: a testbed for distributed prompt (prefix-KV) caching\n\n"
          "usage: coppice COMMAND ...\n\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`coppice COMMAND --help` says more; ./experiments/quickstart.sh shows it at work.\n",
          out);
}

static cop_status unknown_command(const char *name, cop_error *err)
{
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    const char *near = cop_nearest(name, names, COMMANDS);
    if (near)
        return cop_fail(err, COP_ERR_INVALID, "unknown command '%s'; did you mean '%s'?", name,
                        near);
    return cop_fail(err, COP_ERR_INVALID, "unknown command '%s'; `coppice --help` lists them",
                    name);
}

/* -o FILE and --skip-bad-lines are short for two keys. */
static cop_status set_short(cop_config *cfg, const char *key, const char *value, const char *option,
                            cop_error *err)
{
    char assignment[4096];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    return cop_config_set(cfg, assignment, option, err);
}

static cop_status parse_option(cop_cli *cli, int argc, char **argv, int *at, cop_error *err)
{
    const char *option = argv[*at];
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
        cli->help = true;
        return COP_OK;
    }
    if (strcmp(option, "--quiet") == 0) {
        cli->quiet = true;
        return COP_OK;
    }
    if (strcmp(option, "--skip-bad-lines") == 0)
        return set_short(&cli->cfg, "workload.skip_bad_lines", "true", option, err);
    bool set = strcmp(option, "--set") == 0, output = strcmp(option, "-o") == 0;
    if (!set && !output)
        return cop_fail(err, COP_ERR_INVALID,
                        "unknown option '%s'; there are --set, -o, --skip-bad-lines, --quiet, "
                        "--help",
                        option);
    if (*at + 1 >= argc)
        return cop_fail(err, COP_ERR_INVALID, "%s needs a value", option);
    const char *value = argv[++*at];
    return set ? cop_config_set(&cli->cfg, value, "--set", err)
               : set_short(&cli->cfg, "record.path", value, option, err);
}

static cop_status parse_words(cop_cli *cli, int argc, char **argv, cop_error *err)
{
    const command *cmd = find_command(cli->command);
    for (int i = 2; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            i += strcmp(argv[i], "--set") == 0 || strcmp(argv[i], "-o") == 0;
            continue;
        }
        if (cli->word_count == cmd->max_words)
            return cop_fail(err, COP_ERR_INVALID, "coppice %s %s: unexpected '%s'", cmd->name,
                            cmd->arguments, argv[i]);
        cli->words[cli->word_count++] = argv[i];
    }
    if (cli->word_count < cmd->min_words && !cli->help)
        return cop_fail(err, COP_ERR_INVALID, "usage: coppice %s %s", cmd->name, cmd->arguments);
    return COP_OK;
}

/* The file first, whatever the order of the arguments: --set overrides it. */
static cop_status load(cop_cli *cli, int argc, char **argv, cop_error *err)
{
    cop_status status = parse_words(cli, argc, argv, err);
    const command *cmd = find_command(cli->command);
    const char *file = cmd->takes_config && cli->word_count ? cli->words[0] : NULL;
    if (strcmp(cli->command, "bench") == 0 && cli->word_count == 2)
        file = cli->words[1];
    if (status == COP_OK && file)
        status = cop_config_load(&cli->cfg, file, err);
    for (int i = 2; i < argc && status == COP_OK; i++)
        if (argv[i][0] == '-' && argv[i][1])
            status = parse_option(cli, argc, argv, &i, err);
    return status;
}

cop_status cop_cli_parse(cop_cli *out, int argc, char **argv, cop_error *err)
{
    *out = (cop_cli){0};
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        out->help = true;
        cop_config_default(&out->cfg);
        return COP_OK;
    }
    if (!find_command(argv[1]))
        return unknown_command(argv[1], err);
    out->command = argv[1];
    for (int i = 2; i < argc; i++)
        out->help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    cop_config_default(&out->cfg);
    cop_status status = out->help ? COP_OK : load(out, argc, argv, err);
    if (status != COP_OK)
        cop_config_fini(&out->cfg);
    return status;
}

void cop_cli_fini(cop_cli *cli)
{
    cop_config_fini(&cli->cfg);
}
