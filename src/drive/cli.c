#include "drive/cli.h"

#include "base/text.h"
#include "drive/options.h"

#include <stdlib.h>
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
    {"generate", "--model DIR [--system FILE] [--prompt TEXT ...] [options]",
     "answer prompts with a checkpoint, reusing every cached prefix",
     "The first prompt computes the system text, those after it take it from the cache:\n\n"
     "  coppice generate --model Qwen2.5-0.5B-Instruct --chat --system system.txt \\\n"
     "      --prompt 'What is a cache?' --prompt 'And a prefix?' --cache-file kv.cache\n\n"
     "Answers go to stdout as they come, figures to stderr: prompt tokens, how many of them the\n"
     "cache had, time to first token (TTFT), tokens a second, and the speed-up over cold, for\n"
     "which the prompt is computed once more without the cache (--no-cold saves that time).\n\n"
     "With --chat the texts become messages of the model's chat template; special tokens spelled\n"
     "out in them are plain text. Each --prompt is a conversation of its own; without --prompt\n"
     "the lines of stdin are the turns of one conversation. Without --chat the model goes on from\n"
     "the text of --system with that of the prompt right behind it, tokenized as one, special\n"
     "tokens standing for themselves; every line of stdin is a prompt of its own.\n\n"
     "Keys that matter here: model.weights device.threads device.precision cache.capacity_blocks\n"
     "cache.enabled cache.eviction scheduler.chunk_tokens.\n\n"
     "Exit status: 0 done, 2 bad input (also a cache file of another model, which is left as it\n"
     "is), 130 interrupted, 1 anything else. Once prompts were asked, the cache is saved, also\n"
     "after an error or an interrupt; a second Ctrl-C ends it at once.\n",
     false, 0, 0},
    {"bench", "NAME [CONFIG.yaml] [--set key=value ...]",
     "measure one part, beside its bound: prefill decode prompt_cache quality index ...",
     "  coppice bench prefill  --set model.preset=qwen2.5-0.5b     against the matrix peak\n"
     "  coppice bench decode   --set model.preset=qwen2.5-0.5b     against read bandwidth\n"
     "  coppice bench tier     --set model.preset=qwen2.5-0.5b     KV blocks to host memory and "
     "back\n"
     "  coppice bench prompt_cache --set model.preset=small        TTFT, prefix cached and cold\n"
     "  coppice bench quality  --set bench.text=FILE               int8 weights beside BF16\n"
     "  coppice bench index    --set workload.path=TRACE.jsonl     routing decisions a second\n"
     "  coppice bench record                                       rows a second, flush times\n"
     "  coppice bench trace    --set workload.path=TRACE.jsonl     MB/s of trace reading\n"
     "  coppice bench tokenizer --set model.tokenizer=tokenizer.json --set bench.text=FILE\n"
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
        cop_options_help(one->name, out);
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

/* An argument that is an option. */
static bool is_option(const char *argument)
{
    return argument[0] == '-' && argument[1];
}

/* The option at argv[*at] and its value; *at moves to the last word of it. */
static cop_status take_option(const cop_option **out, const char **value, const char *name,
                              int argc, char **argv, int *at, cop_error *err)
{
    const char *word = strcmp(argv[*at], "-h") == 0 ? "--help" : argv[*at];
    cop_status status = cop_option_find(out, name, word, err);
    if (status != COP_OK)
        return status;
    *value = NULL;
    if (!cop_option_takes_value(*out))
        return COP_OK;
    if (*at + 1 >= argc)
        return cop_fail(err, COP_ERR_INVALID, "%s needs a value", word);
    *value = argv[++*at];
    return COP_OK;
}

/* Checks the names of the options and collects the other words. */
static cop_status parse_words(cop_cli *cli, const command *cmd, int argc, char **argv,
                              cop_error *err)
{
    for (int i = 2; i < argc; i++) {
        if (is_option(argv[i])) {
            const cop_option *option;
            const char *value;
            cop_status status = take_option(&option, &value, cmd->name, argc, argv, &i, err);
            if (status != COP_OK)
                return status;
            continue;
        }
        if (cli->word_count == cmd->max_words)
            return cop_fail(err, COP_ERR_INVALID, "coppice %s %s: unexpected '%s'", cmd->name,
                            cmd->arguments, argv[i]);
        cli->words[cli->word_count++] = argv[i];
    }
    if (cli->word_count < cmd->min_words)
        return cop_fail(err, COP_ERR_INVALID, "usage: coppice %s %s", cmd->name, cmd->arguments);
    return COP_OK;
}

/* The file first, whatever the order of the arguments: options override it. */
static cop_status load(cop_cli *cli, int argc, char **argv, cop_error *err)
{
    const command *cmd = find_command(cli->command);
    cop_status status = parse_words(cli, cmd, argc, argv, err);
    const char *file = cmd->takes_config && cli->word_count ? cli->words[0] : NULL;
    if (strcmp(cli->command, "bench") == 0 && cli->word_count == 2)
        file = cli->words[1];
    if (status == COP_OK && file)
        status = cop_config_load(&cli->cfg, file, err);
    for (int i = 2; i < argc && status == COP_OK; i++) {
        const cop_option *option;
        const char *value;
        if (!is_option(argv[i]))
            continue;
        status = take_option(&option, &value, cmd->name, argc, argv, &i, err);
        if (status == COP_OK)
            status = cop_option_apply(option, cli, value, err);
    }
    return status;
}

/* --help anywhere, whatever else is wrong with the line; but not where it is an option's value. */
static bool asks_for_help(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        const cop_option *option;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
        if (is_option(argv[i]) && cop_option_find(&option, name, argv[i], NULL) == COP_OK)
            i += cop_option_takes_value(option);
    }
    return false;
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
    out->help = asks_for_help(argv[1], argc, argv);
    out->generate.max_new_tokens = 128;
    cop_config_default(&out->cfg);
    cop_status status = out->help ? COP_OK : load(out, argc, argv, err);
    if (status != COP_OK)
        cop_cli_fini(out);
    return status;
}

void cop_cli_fini(cop_cli *cli)
{
    free(cli->generate.prompts);
    cop_config_fini(&cli->cfg);
}
