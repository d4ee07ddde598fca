/* Copies of the fixtures in tests/data/checkpoints, to break something in. Every helper fails the
 * running test (cmocka) if it cannot do its work. */
#ifndef COP_TESTS_CHECKPOINT_FOLDER_H
#define COP_TESTS_CHECKPOINT_FOLDER_H

#include "base/alloc.h"
#include "base/file_map.h"
#include "model/checkpoint.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIXTURES COP_SOURCE_DIR "/tests/data/checkpoints/"

typedef struct {
    char path[64];
} folder;

static inline void path_in(char *out, size_t bytes, const char *dir, const char *file)
{
    assert_true(snprintf(out, bytes, "%s/%s", dir, file) < (int)bytes);
}

static inline void write_file(const char *dir, const char *file, const void *data, size_t bytes)
{
    char path[512];
    path_in(path, sizeof path, dir, file);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *dir, const char *file, const char *text)
{
    write_file(dir, file, text, strlen(text));
}

/* Owned by the caller. */
static inline uint8_t *read_file(const char *dir, const char *file, size_t *bytes)
{
    char path[512];
    cop_file_map map;
    path_in(path, sizeof path, dir, file);
    assert_int_equal(cop_file_map_open(&map, path, NULL), COP_OK);
    uint8_t *copy = cop_malloc(map.size + 1);
    memcpy(copy, map.data, map.size);
    *bytes = map.size;
    cop_file_map_close(&map);
    return copy;
}

static inline void copy_file(const char *from, const char *file, const char *to)
{
    size_t bytes;
    uint8_t *data = read_file(from, file, &bytes);
    write_file(to, file, data, bytes);
    free(data);
}

static inline folder make_folder(void)
{
    folder f = {.path = "/tmp/coppice-checkpoint-XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    return f;
}

static inline folder copy_of(const char *fixture)
{
    folder f = make_folder();
    char from[256];
    snprintf(from, sizeof from, "%s%s", FIXTURES, fixture);
    DIR *dir = opendir(from);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && strncmp(entry->d_name, "reference.", 10) != 0)
            copy_file(from, entry->d_name, f.path);
    closedir(dir);
    return f;
}

static inline void remove_folder(const folder *f)
{
    DIR *dir = opendir(f->path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[512];
        path_in(path, sizeof path, f->path, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    closedir(dir);
    assert_int_equal(rmdir(f->path), 0);
}

static inline void remove_file(const folder *f, const char *file)
{
    char path[512];
    path_in(path, sizeof path, f->path, file);
    assert_int_equal(unlink(path), 0);
}

/* Replaces the first `from` in a file by `to`, which is no longer and is filled up with spaces:
 * nothing moves. */
static inline void edit(const folder *f, const char *file, const char *from, const char *to)
{
    size_t bytes;
    uint8_t *data = read_file(f->path, file, &bytes);
    const size_t length = strlen(from);
    uint8_t *at = data;
    while (at + length <= data + bytes && memcmp(at, from, length) != 0)
        at++;
    assert_true(at + length <= data + bytes);
    assert_true(strlen(to) <= length);
    memset(at, ' ', length);
    memcpy(at, to, strlen(to));
    write_file(f->path, file, data, bytes);
    free(data);
}

static inline cop_checkpoint *open_folder(const char *path)
{
    cop_checkpoint *c;
    cop_error err = {.text = ""};
    if (cop_checkpoint_open(&c, path, &err) != COP_OK)
        fail_msg("%s", err.text);
    return c;
}

static inline cop_checkpoint *open_fixture(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", FIXTURES, name);
    return open_folder(path);
}

#endif
