/* The program: reads the command line, runs one command, turns its status into an exit status.
 * The only place that exits, prints errors or ends the MPI job. */
#include "base/alloc.h"
#include "base/text.h"
#include "config/config.h"
#include "drive/bench.h"
#include "drive/cli.h"
#include "drive/cluster.h"
#include "drive/commands.h"
#include "drive/generate.h"
#include "transport/transport.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

/* flags: SA_RESETHAND: the second Ctrl-C kills. */
static void catch_signals(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a full disk is an error to report, not a death */
    signal(SIGPIPE, SIG_IGN);
}

/* Before MPI starts every rank would complain about the same bad input: only the first of each host
 * does, as hosts may have different files. */
static bool first_of_the_host(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    return !rank || atoi(rank) == 0;
}

static void complain(const cop_error *err)
{
    if (err->status != COP_OK && err->text[0])
        fprintf(stderr, "coppice: %s\n", err->text);
}

/* Commands that need every rank of the job. */
static cop_status run_on_ranks(cop_cli *cli, int argc, char **argv, cop_error *err)
{
    cop_bus *bus;
    cop_status status = cop_bus_open(&bus, &argc, &argv, err);
    if (status != COP_OK)
        return status;
    catch_signals(0); /* after MPI_Init, which may set its own */
    cop_log log = {.out = stderr, .rank = -1, .quiet = cli->quiet};
    if (cop_bus_rank(bus) != 0)
        log = (cop_log){.out = stderr, .rank = cop_bus_rank(bus), .quiet = true};
    bool running = strcmp(cli->command, "run") == 0;
    bool together = false;
    status = running ? cop_cluster_run(bus, &cli->cfg, &log, &interrupted, &together, err)
                     : cop_bench_transfer(bus, &cli->cfg, stdout, err);
    if (status == COP_OK || (together && !interrupted)) {
        complain(err);
        err->text[0] = '\0';
        cop_bus_close(bus);
        return status;
    }
    if (!interrupted || cop_bus_rank(bus) == 0)
        complain(err);
    fflush(NULL);
    err->text[0] = '\0';
    /* An interrupt reaches every rank, and mpirun kills all when one has gone: rank 0, which has a
     * record to close, goes first. */
    if (interrupted && cop_bus_rank(bus) != 0)
        sleep(5);
    if (interrupted)
        _exit(cop_status_exit(COP_ERR_INTERRUPTED));
    cop_bus_abort(bus, cop_status_exit(status));
}

static cop_status run_bench(cop_cli *cli, int argc, char **argv, cop_error *err)
{
    static const struct {
        const char *name;
        cop_status (*run)(const cop_config *, FILE *, cop_error *);
    } benches[] = {
        {"prefill", cop_bench_prefill},
        {"decode", cop_bench_decode},
        {"tier", cop_bench_tier},
        {"index", cop_bench_index},
        {"record", cop_bench_record},
        {"trace", cop_bench_trace},
        {"tokenizer", cop_bench_tokenizer},
        {"prompt_cache", cop_bench_prompt_cache},
        {"quality", cop_bench_quality},
    };
    enum { BENCHES = sizeof benches / sizeof benches[0] };
    const char *names[BENCHES + 1] = {[BENCHES] = "transfer"};
    for (size_t i = 0; i < BENCHES; i++) {
        names[i] = benches[i].name;
        if (strcmp(benches[i].name, cli->words[0]) == 0)
            return benches[i].run(&cli->cfg, stdout, err);
    }
    if (strcmp(cli->words[0], "transfer") == 0)
        return run_on_ranks(cli, argc, argv, err);
    return cop_unknown_name(err, "unknown bench", cli->words[0], names, BENCHES + 1);
}

static cop_status run_generate(cop_cli *cli, cop_error *err)
{
    cop_log log = {.out = stderr, .rank = -1, .quiet = cli->quiet};
    catch_signals((int)SA_RESETHAND);
    return cop_command_generate(&cli->generate, &cli->cfg, &log, &interrupted, stdin, stdout, err);
}

static cop_status run_trace(cop_cli *cli, cop_error *err)
{
    if (strcmp(cli->words[0], "info") != 0)
        return cop_fail(err, COP_ERR_INVALID, "unknown word '%s'; usage: coppice trace info FILE",
                        cli->words[0]);
    free(cli->cfg.workload_path);
    cli->cfg.workload_path = cop_strdup(cli->words[1]);
    return cop_trace_info(&cli->cfg, stdout, err);
}

static cop_status run_command(cop_cli *cli, int argc, char **argv, cop_error *err)
{
    if (strcmp(cli->command, "run") == 0)
        return run_on_ranks(cli, argc, argv, err);
    if (strcmp(cli->command, "bench") == 0)
        return run_bench(cli, argc, argv, err);
    if (strcmp(cli->command, "generate") == 0)
        return run_generate(cli, err);
    if (strcmp(cli->command, "trace") == 0)
        return run_trace(cli, err);
    if (strcmp(cli->command, "salvage") == 0)
        return cop_command_salvage(cli->words[0], cli->words[1], stdout, err);
    if (strcmp(cli->command, "config") == 0)
        return cop_command_config(&cli->cfg, stdout, err);
    cop_command_info(stdout);
    return COP_OK;
}

int main(int argc, char **argv)
{
    cop_cli cli;
    cop_error err = {0};
    cop_status status = cop_cli_parse(&cli, argc, argv, &err);
    if (status == COP_OK) {
        if (cli.help)
            cop_cli_help(cli.command, stdout);
        else
            status = run_command(&cli, argc, argv, &err);
        cop_cli_fini(&cli);
    }
    if (status != COP_OK && first_of_the_host())
        complain(&err);
    return cop_status_exit(status);
}
