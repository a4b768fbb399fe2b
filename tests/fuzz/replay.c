/* SPDX-License-Identifier: MIT */
/* The main of fuzz targets that are built without libFuzzer: feeds each file of the corpus to the
 * target once, so that every input that ever mattered is run by every `make check`, under the
 * sanitizers too.
 *
 *     fuzz_x [FILE or DIR]...      without arguments: $TN_SRCDIR/tests/fuzz/corpus/<x>
 *
 * Files are given besides in every shorter length up to 256 bytes and with single bits turned, which
 * finds most reads past the end without a fuzzer at hand. */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t files, runs;

/* A copy of exact size, so that the sanitizer sees a read past the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);

    if (!exact)
        abort();
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    runs++;
}

static void run_variants(uint8_t *data, size_t size)
{
    run(data, size);
    for (size_t n = 0; n < size && n < 256; n++)
        run(data, n);
    for (size_t i = 0; i < size && i < 256; i++) {
        uint8_t bit = (uint8_t)(1u << (i & 7));
        data[i] ^= bit;
        run(data, size);
        data[i] ^= bit;
    }
}

static bool run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    tn_buf buf = {0};
    uint8_t piece[4096];
    size_t n;

    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
        tn_buf_put(&buf, piece, n);
    fclose(f);
    tn_buf_reserve(&buf, 1);
    files++;
    run_variants(buf.p, buf.n);
    tn_buf_done(&buf);
    return true;
}

static bool run_path(const char *path)
{
    struct dirent **names;
    struct stat st;
    bool ok = true;
    int n;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return run_file(path);
    n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[4096];
        if (names[i]->d_name[0] != '.') {
            snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
            ok &= run_file(file);
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return ok;
}

int main(int argc, char **argv)
{
    const char *base = strrchr(argv[0], '/'), *root = getenv("TN_SRCDIR");
    char dir[4096];
    bool ok = true;

    base = base ? base + 1 : argv[0];
    if (strncmp(base, "fuzz_", 5) == 0)
        base += 5;
    snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", root ? root : ".", base);
    if (argc < 2)
        ok = run_path(dir);
    for (int i = 1; i < argc; i++)
        ok &= run_path(argv[i]);
    if (files == 0) {
        fprintf(stderr, "%s: no corpus\n", argc < 2 ? dir : argv[1]);
        ok = false;
    }
    printf("%zu corpus files, %zu runs\n", files, runs);
    return ok ? 0 : 1;
}
