/* Runs a fuzzer where there is no libFuzzer: every file of a corpus as it is, then so many mutants
 * of them. Mutant i depends on the seed and i alone.
 *
 *     fuzz_config CORPUS ITERATIONS [SEED]      fuzz_config FILE      (one input, to look into it)
 *
 * An input that kills the program, or holds it for longer than TIMEOUT_S, is left in the file
 * crash-NAME of the working directory. */
#include "fuzz.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INPUT_BYTES = 1 << 16, CORPUS_FILES = 1024, TIMEOUT_S = 20, DEFAULT_SEED = 1 };

typedef struct {
    uint8_t *data;
    size_t size;
    char *path;
} input;

typedef struct {
    input files[CORPUS_FILES];
    size_t count;
} corpus;

/* ---- The input that must not be lost ----
 * Only a handler reads these, so they cannot be passed. */

static const uint8_t *running_data;
static size_t running_size;
static char crash_path[256];

static void keep_input(void)
{
    if (!running_data)
        return;
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return;
    ssize_t written = write(fd, running_data, running_size);
    static const char message[] = "\nfuzz: the input that did it is in ";
    written += write(STDERR_FILENO, message, sizeof message - 1);
    written += write(STDERR_FILENO, crash_path, strlen(crash_path));
    written += write(STDERR_FILENO, "\n", 1);
    (void)written;
    close(fd);
}

static void on_signal(int signal_number)
{
    keep_input();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* There when a sanitizer is linked in, which ends the program without a signal. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void catch_death(const char *program)
{
    const char *slash = strrchr(program, '/');
    snprintf(crash_path, sizeof crash_path, "crash-%s", slash ? slash + 1 : program);
    static const int deadly[] = {SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
    bool sanitized = __sanitizer_set_death_callback != NULL;
    if (sanitized)
        __sanitizer_set_death_callback(keep_input);
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        if (!sanitized || deadly[i] == SIGABRT || deadly[i] == SIGALRM)
            signal(deadly[i], on_signal);
}

/* On a copy of exactly the size, so that a sanitizer sees a read behind the end. */
static void run_one(const uint8_t *data, size_t size)
{
    uint8_t *exact = cop_malloc(size ? size : 1);
    memcpy(exact, data, size);
    running_data = exact;
    running_size = size;
    alarm(TIMEOUT_S);
    LLVMFuzzerTestOneInput(exact, size);
    alarm(0);
    running_data = NULL;
    free(exact);
}

/* ---- Corpus ---- */

static bool read_input(input *in, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    in->data = cop_malloc(INPUT_BYTES);
    in->size = fread(in->data, 1, INPUT_BYTES, file);
    in->path = cop_strdup(path);
    fclose(file);
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const input *)a)->path, ((const input *)b)->path);
}

static bool read_corpus(corpus *c, const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return false;
    for (struct dirent *entry; c->count < CORPUS_FILES && (entry = readdir(dir));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            c->count += read_input(&c->files[c->count], path);
    }
    closedir(dir);
    qsort(c->files, c->count, sizeof *c->files, by_path);
    return c->count > 0;
}

static void free_corpus(corpus *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->files[i].data);
        free(c->files[i].path);
    }
}

/* ---- Mutants ---- */

static void insert(input *in, size_t at, const uint8_t *bytes, size_t n)
{
    if (n > INPUT_BYTES - in->size)
        n = INPUT_BYTES - in->size;
    memmove(in->data + at + n, in->data + at, in->size - at);
    memcpy(in->data + at, bytes, n);
    in->size += n;
}

static void erase(input *in, size_t at, size_t n)
{
    memmove(in->data + at, in->data + at + n, in->size - at - n);
    in->size -= n;
}

/* A random piece of a random file: the corpus is its own dictionary. */
static void insert_piece(input *in, size_t at, const corpus *c, cop_rng *rng)
{
    const input *from = &c->files[cop_rng_below(rng, c->count)];
    if (from->size == 0)
        return;
    uint8_t piece[256];
    size_t start = cop_rng_below(rng, from->size);
    size_t most = cop_rng_below(rng, 4) ? 16 : sizeof piece;
    size_t n = 1 + cop_rng_below(rng, most);
    if (n > from->size - start)
        n = from->size - start;
    memcpy(piece, from->data + start, n);
    insert(in, at, piece, n);
}

static void mutate(input *in, const corpus *c, cop_rng *rng)
{
    static const uint8_t edges[] = {0,   1,   0x7f, 0x80, 0xff, '\n', '\t', ' ', '"', '\'',
                                    ':', '-', '{',  '[',  '}',  ']',  ',',  '0', '9', '.'};
    size_t at = cop_rng_below(rng, in->size + 1);
    size_t left = in->size - at;
    uint8_t byte = edges[cop_rng_below(rng, sizeof edges)];
    switch (cop_rng_below(rng, 8)) {
    case 0:
        if (left)
            in->data[at] ^= (uint8_t)(1U << cop_rng_below(rng, 8));
        break;
    case 1:
        if (left)
            in->data[at] = byte;
        break;
    case 2:
        insert(in, at, &byte, 1);
        break;
    case 3:
        erase(in, at, cop_rng_below(rng, (left < 8 ? left : 8) + 1));
        break;
    case 4:
        erase(in, at, cop_rng_below(rng, left + 1));
        break;
    case 5:
        for (size_t n = cop_rng_below(rng, 64); n > 0; n--)
            insert(in, at, &byte, 1);
        break;
    default:
        insert_piece(in, at, c, rng);
    }
}

static void run_mutants(const corpus *c, uint64_t iterations, uint64_t seed)
{
    input mutant = {.data = cop_malloc(INPUT_BYTES)};
    for (uint64_t i = 0; i < iterations; i++) {
        cop_rng rng;
        cop_rng_init(&rng, seed, i);
        const input *origin = &c->files[cop_rng_below(&rng, c->count)];
        memcpy(mutant.data, origin->data, origin->size);
        mutant.size = origin->size;
        for (uint64_t n = 1 + cop_rng_below(&rng, 6); n > 0; n--)
            mutate(&mutant, c, &rng);
        run_one(mutant.data, mutant.size);
    }
    free(mutant.data);
}

int main(int argc, char **argv)
{
    static corpus c;
    struct stat st;
    if (argc < 2 || argc > 4 || stat(argv[1], &st) != 0) {
        fprintf(stderr, "usage: %s CORPUS ITERATIONS [SEED] | FILE\n", argv[0]);
        return 2;
    }
    catch_death(argv[0]);
    bool folder = S_ISDIR(st.st_mode);
    if (folder ? !read_corpus(&c, argv[1]) : !read_input(&c.files[c.count++], argv[1])) {
        fprintf(stderr, "%s: nothing to read in %s\n", argv[0], argv[1]);
        return 2;
    }
    uint64_t iterations = folder && argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : DEFAULT_SEED;
    printf("%zu files, %llu mutants, seed %llu\n", c.count, (unsigned long long)iterations,
           (unsigned long long)seed);
    fflush(stdout);
    for (size_t i = 0; i < c.count; i++)
        run_one(c.files[i].data, c.files[i].size);
    run_mutants(&c, iterations, seed);
    free_corpus(&c);
    return 0;
}
