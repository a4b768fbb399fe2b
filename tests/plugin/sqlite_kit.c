/* SPDX-License-Identifier: MIT */
/* persistence/sqlite and its file: opened twice, damaged at any byte, not a database, read-only, on a full
 * disk, killed while rows move from the journal into the tables, looked at by other SQLite programs.
 *
 *   sqlite_kit PLUGIN.so [CASE]... */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "tools/check/kit.h"

#define T 5u

static const char *plugin_so;

static const char *db_path(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%.500s/x.db", kit_dir());
    return path;
}

static void exec_sql(const char *sql)
{
    sqlite3 *db = NULL;
    char *why = NULL;
    KIT_EQUAL(sqlite3_open(db_path(), &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        kit_fail(__FILE__, __LINE__, "%s: %s", sql, why);
    sqlite3_close(db);
}

static int64_t ask_sql(const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    KIT_EQUAL(sqlite3_open_v2(db_path(), &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    KIT_EQUAL(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    KIT_EQUAL(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

static void expect_refusal(const char *want)
{
    const char *why = kit_try_open();
    if (!why)
        kit_fail(__FILE__, __LINE__, "it opened, wanted: %s", want);
    if (!strstr(why, want) || !strstr(why, "kit.yaml:4:"))
        kit_fail(__FILE__, __LINE__, "said \"%s\", wanted \"%s\"", why, want);
}

static char *text_of(uint32_t i)
{
    return tn_arena_printf(kit_arena(), "row %u %0*u", i, (int)(i * 37 % 500), i);
}

static void fill(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        kit_put(kit_key(T, i % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", i)), text_of(i));
}

/* Every row right, or missing/refused as `lost` allows. */
static void check_rows(uint32_t from, uint32_t to, bool lost)
{
    for (uint32_t i = from; i < to; i++) {
        tn_row row;
        tn_status status =
            kit_get(kit_key(T, i % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", i)), &row);
        if (status == TN_OK && tn_blob_eq(row.value, kit_text(text_of(i))))
            continue;
        if (status == TN_OK || !lost)
            kit_fail(__FILE__, __LINE__, "row %u: %s %s", i, tn_status_name(status),
                     kit_error()->text);
    }
}

/* ---- opening ------------------------------------------------------------------------------------ */

static void second_opener(void)
{
    int fds[2];
    char byte;
    KIT_CHECK(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        kit_open();
        KIT_CHECK(write(fds[1], "x", 1) == 1);
        pause();
    }
    KIT_CHECK(read(fds[0], &byte, 1) == 1);
    char want[64];
    snprintf(want, sizeof want, "is in use by another server (pid %d)", (int)pid);
    expect_refusal(want);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    kit_open(); /* the lock ended with its holder */
    kit_close();
}

static void not_ours(void)
{
    FILE *f = fopen(db_path(), "w");
    for (int i = 0; i < 400; i++)
        fputs("this is no database at all. ", f);
    fclose(f);
    expect_refusal("is not an SQLite database");
    unlink(db_path());
    exec_sql("CREATE TABLE songs(title)");
    expect_refusal("is an SQLite database of another program");
    unlink(db_path());
    kit_open();
    kit_close();
    exec_sql("PRAGMA user_version=99");
    expect_refusal("has schema version 99, this plugin knows up to 2");
}

static void unreachable_paths(void)
{
    char stanza[64];
    snprintf(stanza, sizeof stanza, "path: \"%%D/no/such/folder/x.db\"");
    kit_configure(plugin_so, stanza);
    expect_refusal("No such file or directory");
    kit_configure(plugin_so, "path: \"%D\"");
    const char *why = kit_try_open();
    KIT_CHECK(why && strstr(why, "cannot open"));
    kit_configure(plugin_so, "readers: 1");
    why = kit_try_open();
    KIT_CHECK(why && strstr(why, "path") && strstr(why, "fix:"));
    kit_configure(plugin_so, "path: \"%D/x.db\"\npageSize: 1000");
    why = kit_try_open();
    KIT_CHECK(why && strstr(why, "kit.yaml:6:") && strstr(why, "power of two"));
    kit_configure(plugin_so, "path: \"%D/x.db\"\ncacheBytes: 12");
    why = kit_try_open();
    KIT_CHECK(why && strstr(why, "kit.yaml:6:") && strstr(why, "is not within"));
}

static void read_only_file(void)
{
    if (geteuid() == 0) { /* root writes everywhere: as somebody else, in a child's own skin */
        kit_open();
        kit_close();
        chmod(kit_dir(), 0777);
        chmod(db_path(), 0444);
        char lock[640];
        snprintf(lock, sizeof lock, "%s.lock", db_path());
        chmod(lock, 0666);
        KIT_CHECK(setegid(65534) == 0 && seteuid(65534) == 0);
        if (eaccess(plugin_so, R_OK) != 0) {
            printf("  left out: this tree lies where only root may look\n");
            return;
        }
    } else {
        kit_open();
        kit_close();
        chmod(db_path(), 0444);
    }
    expect_refusal("is read-only for this user");
}

/* ---- what the file holds ------------------------------------------------------------------------ */

static void clean_close_leaves_all_in_the_tables(void)
{
    kit_open();
    fill(0, 300);
    for (uint32_t i = 0; i < 300; i += 3)
        kit_delete(kit_key(T, i % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", i)));
    kit_close();
    char wal[640];
    snprintf(wal, sizeof wal, "%s-wal", db_path());
    KIT_CHECK(access(wal, F_OK) != 0);
    KIT_CHECK(ask_sql("SELECT count(*) FROM kv") < 40); /* leaves of several rows */
    KIT_EQUAL(ask_sql("SELECT value FROM meta WHERE name='clean'"), 1);
    KIT_EQUAL(ask_sql("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"), 1);
    char copy[4096];
    snprintf(copy, sizeof copy, "cp '%s' '%s.copy' && mv '%s.copy' '%s'", db_path(), db_path(),
             db_path(), db_path());
    KIT_EQUAL(system(copy), 0);
    kit_open();
    for (uint32_t i = 0; i < 300; i++) {
        tn_row row;
        tn_status status =
            kit_get(kit_key(T, i % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", i)), &row);
        KIT_EQUAL(status, i % 3 ? TN_OK : TN_ENOTFOUND);
    }
    kit_close();
}

/* A child writes and dies at once: what is in the journal and the log only. */
static void write_and_die(uint32_t from, uint32_t to)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        kit_open();
        fill(from, to);
        kill(getpid(), SIGKILL);
    }
    int status;
    waitpid(pid, &status, 0);
    KIT_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void read_and_close(uint32_t to, bool lost)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const char *why = kit_try_open();
        if (why && !lost)
            kit_fail(__FILE__, __LINE__, "%s", why);
        if (!why) {
            check_rows(0, to, lost);
            kit_close();
        }
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    KIT_EQUAL(status, 0);
}

static void journal_is_replayed(void)
{
    uint32_t n = 0;
    for (int round = 0; round < 6; round++) {
        write_and_die(n, n + 60);
        n += 60;
        if (round % 2)
            read_and_close(n, false);
    }
    read_and_close(n, false);
}

/* tests/plugin/format1.db.gz: pages of 512 bytes, rows 0 to 39 less each fifth in the table, 40 to 49 in the
 * journal; written by the last driver of format 1, which was killed then. */
static void unpack_format_1(void)
{
    char path[4096];
    const char *source = getenv("TN_SRCDIR");
    snprintf(path, sizeof path, "%s/tests/plugin/format1.db.gz", source ? source : ".");
    gzFile from = gzopen(path, "r");
    if (!from)
        kit_fail(__FILE__, __LINE__, "%s: %s (TN_SRCDIR is the source folder)", path,
                 strerror(errno));
    FILE *to = fopen(db_path(), "w");
    KIT_CHECK(to);
    char piece[4096];
    for (int n; (n = gzread(from, piece, sizeof piece)) > 0;)
        KIT_EQUAL(fwrite(piece, 1, (size_t)n, to), n);
    fclose(to);
    gzclose(from);
}

static void format_1_is_read(void)
{
    unpack_format_1();
    KIT_EQUAL(ask_sql("PRAGMA user_version"), 1);
    for (int round = 0; round < 4; round++) {
        kit_open();
        if (round == 1)
            fill(50, 60);
        if (round == 2) /* between the old rows, and over one */
            kit_put(kit_key(T, "q", "00011+"), "new"), fill(17, 18);
        for (uint32_t i = 0; i < (round ? 60 : 50); i++) {
            tn_row row;
            tn_status want = i < 40 && i % 5 == 0 ? TN_ENOTFOUND : TN_OK;
            tn_status status = kit_get(
                kit_key(T, i % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", i)), &row);
            KIT_EQUAL(status, want);
            if (want == TN_OK)
                KIT_CHECK(tn_blob_eq(row.value, kit_text(text_of(i))));
        }
        tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "q", ""), .limit = 100};
        tn_page page;
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        KIT_EQUAL(page.n_rows, round == 0 ? 21 : round == 1 ? 26 : 27);
        kit_close();
    }
    KIT_EQUAL(ask_sql("PRAGMA user_version"), 2);
}

static size_t read_file(const char *path, uint8_t **out)
{
    FILE *f = fopen(path, "r");
    KIT_CHECK(f);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    *out = tn_xmalloc(n + 1);
    KIT_EQUAL(fread(*out, 1, n, f), n);
    fclose(f);
    return n;
}

static void write_file(const char *path, const uint8_t *p, size_t n)
{
    FILE *f = fopen(path, "w");
    KIT_CHECK(f);
    KIT_EQUAL(fwrite(p, 1, n, f), n);
    fclose(f);
}

/* One byte of the file is another: a row may be refused or the start, never given wrongly.  Rows that
 * look missing are bytes of the B-tree's own pages, which the checksum of a row cannot cover. */
static void flip_bytes(const char *path, const char *restore, uint32_t rows)
{
    uint8_t *good, *other = NULL;
    size_t n = read_file(path, &good), other_n = restore ? read_file(restore, &other) : 0;
    const char *more = getenv("TN_KIT_FLIPS");
    int flips = more ? atoi(more) : 60;
    for (int i = 0; i < flips; i++) {
        size_t at = (size_t)tn_rng_below(kit_rng(), n);
        uint8_t was = good[at];
        good[at] ^= (uint8_t)(1 + tn_rng_below(kit_rng(), 255));
        write_file(path, good, n);
        if (restore)
            write_file(restore, other, other_n);
        good[at] = was;
        read_and_close(rows, true);
    }
    free(good);
    free(other);
}

static void damaged_tables(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        kit_open();
        fill(0, 200);
        kit_close();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    flip_bytes(db_path(), NULL, 200);
}

static void damaged_row_is_data_loss(void)
{
    static char noise[3][900]; /* too large to share a leaf */
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i / 900][i % 900] = i % 900 == 899 ? '\0' : (char)('!' + tn_rng_below(kit_rng(), 90));
    kit_open();
    fill(0, 20);
    kit_put(kit_key(T, "q", "00008"), noise[0]);
    kit_put(kit_key(T, "q", "00010"), noise[1]);
    kit_put(kit_key(T, "q", "00011"), noise[2]);
    kit_close();
    exec_sql("UPDATE kv SET val=substr(val,1,length(val)-1)||x'00' WHERE hex(k) LIKE "
             "'%3030303038'");                                           /* 00008 */
    exec_sql("UPDATE kv SET ver=ver+1 WHERE hex(k) LIKE '%3030303130'"); /* 00010 */
    kit_open();
    tn_row row;
    KIT_EQUAL(kit_get(kit_key(T, "q", "00008"), &row), TN_EDATALOSS);
    KIT_EQUAL(kit_get(kit_key(T, "q", "00010"), &row), TN_EDATALOSS);
    KIT_EQUAL(kit_get(kit_key(T, "q", "00012"), &row), TN_OK);
    tn_store_batch batch = kit_batch();
    tn_store_batch_cond(&batch, TN_COND_ABSENT, kit_key(T, "q", "00008"), 0);
    tn_store_batch_put(&batch, kit_key(T, "q", "new"), kit_text("x"));
    KIT_EQUAL(kit_commit(&batch, NULL), TN_EDATALOSS);
    KIT_EQUAL(kit_get(kit_key(T, "q", "new"), &row), TN_ENOTFOUND);
    tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "q", ""), .limit = 100};
    tn_page page;
    KIT_EQUAL(kit_scan(&range, &page), TN_EDATALOSS);
    range.to_row = kit_text("00008");
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    KIT_EQUAL(page.n_rows, 4);
    kit_put(kit_key(T, "q", "00008"), "healed"); /* written over: whole again */
    KIT_EQUAL(kit_get(kit_key(T, "q", "00008"), &row), TN_OK);
    kit_close();
    kit_open();
    KIT_EQUAL(kit_get(kit_key(T, "q", "00008"), &row), TN_OK);
    KIT_EQUAL(kit_get(kit_key(T, "q", "00010"), &row), TN_EDATALOSS);
    kit_close();
}

/* Of a leaf nothing is sure any more, not even what was not in it: new rows do not hide that. */
static void damaged_leaf_stays_data_loss(void)
{
    kit_open();
    fill(0, 20); /* alike: a leaf or two */
    kit_close();
    exec_sql("UPDATE kv SET val=substr(val,1,length(val)-1)||x'00' WHERE ver=0");
    for (int round = 0; round < 3; round++) {
        kit_open();
        tn_row row;
        if (round < 2)
            kit_put(kit_key(T, "q", round ? "00000" : "00005"), "new");
        KIT_EQUAL(kit_get(kit_key(T, "q", "00004"), &row), TN_EDATALOSS);
        KIT_EQUAL(kit_get(kit_key(T, "q", "00006"), &row), TN_EDATALOSS);
        KIT_EQUAL(kit_get(kit_key(T, "q", "00007"), &row), TN_EDATALOSS);
        KIT_EQUAL(kit_get(kit_key(T, "q", "00005"), &row), TN_OK);
        KIT_EQUAL(kit_get(kit_key(T, "q", "00000"), &row), round ? TN_OK : TN_EDATALOSS);
        kit_delete(kit_key(T, "q", "00002"));
        KIT_EQUAL(kit_get(kit_key(T, "q", "00002"), &row), TN_ENOTFOUND);
        tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "q", ""), .limit = 100};
        tn_page page;
        KIT_EQUAL(kit_scan(&range, &page), TN_EDATALOSS);
        kit_close();
    }
}

static void damaged_journal_stops_the_start(void)
{
    write_and_die(0, 40);
    exec_sql("UPDATE journal SET data=substr(data,1,200)||x'ff'||substr(data,202) "
             "WHERE slot=(SELECT max(slot) FROM journal)");
    expect_refusal("of the journal is damaged");
}

static void lost_journal_row_stops_the_start(void)
{
    write_and_die(0, 40);
    exec_sql("DELETE FROM journal WHERE slot=(SELECT max(slot)/2 FROM journal)");
    expect_refusal("of the journal is damaged or missing");
}

/* ---- a full disk -------------------------------------------------------------------------------- */

static void full_disk(void)
{
    if (mount("tenon-kit", kit_dir(), "tmpfs", 0, "size=1m") != 0)
        kit_skip("cannot mount a small tmpfs");
    kit_configure(plugin_so, "path: \"%D/x.db\"\njournalBytes: 65536\nwalBytes: 262144");
    kit_open();
    char filler_path[600];
    snprintf(filler_path, sizeof filler_path, "%.500s/filler", kit_dir());
    uint32_t acked = 0;
    for (int round = 0; round < 3; round++) {
        int filler = open(filler_path, O_CREAT | O_WRONLY, 0600);
        static char block[4096];
        while (write(filler, block, sizeof block) > 0)
            ;
        close(filler);
        tn_status status = TN_OK;
        uint32_t tries = 0;
        for (; tries < 2000 && status == TN_OK; tries++) {
            tn_store_batch batch = kit_batch();
            tn_store_batch_put(
                &batch,
                kit_key(T, acked % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", acked)),
                kit_text(text_of(acked)));
            status = kit_commit(&batch, NULL);
            if (status == TN_OK)
                acked++;
        }
        KIT_EQUAL(status, TN_EUNAVAILABLE);
        KIT_CHECK(strstr(kit_error()->text, "disk is full"));
        check_rows(0, acked,
                   false); /* what was acknowledged is still given; the refused one is not */
        tn_row row;
        KIT_EQUAL(
            kit_get(kit_key(T, acked % 2 ? "p" : "q", tn_arena_printf(kit_arena(), "%05u", acked)),
                    &row),
            TN_ENOTFOUND);
        unlink(filler_path); /* space returns: it goes on by itself */
        for (int i = 0; i < 20; i++, acked++)
            fill(acked, acked + 1);
    }
    kit_close();
    kit_open();
    check_rows(0, acked, false);
    kit_close();
    umount2(kit_dir(), MNT_DETACH);
}

/* ---- killed while rows move --------------------------------------------------------------------- */

static void killed_while_moving(void)
{
    kit_configure(plugin_so,
                  "path: \"%D/x.db\"\njournalBytes: 65536\nwalBytes: 262144\nidleFlush: 1ms");
    uint32_t n = 0;
    for (int round = 0; round < 25; round++) {
        uint32_t more = 20 + (uint32_t)tn_rng_below(kit_rng(), 200);
        write_and_die(n, n + more);
        n += more;
    }
    read_and_close(n, false);
    KIT_EQUAL(ask_sql("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"), 1);
}

static void memory_keeps_nothing(void)
{
    kit_configure(plugin_so, "path: \":memory:\"");
    kit_open();
    fill(0, 50);
    check_rows(0, 50, false);
    tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "p", ""), .limit = 100};
    tn_page page;
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    KIT_EQUAL(page.n_rows, 25);
    kit_close();
    kit_open();
    tn_row row;
    KIT_EQUAL(kit_get(kit_key(T, "p", "00001"), &row), TN_ENOTFOUND);
    kit_close();
}

/* ---- every write and every fsync fails once ----------------------------------------------------- */

/* These stand before the C library's for the whole program, SQLite included. */
static _Atomic int faults_armed, fault_countdown, fault_error, faults_done;

static bool fault_now(void)
{
    if (!faults_armed || --fault_countdown != 0)
        return false;
    faults_done++;
    errno = fault_error;
    return true;
}

int fdatasync(int fd) { return fault_now() ? -1 : (int)syscall(SYS_fdatasync, fd); }

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    /* Half of it arrives: the worst of both. */
    if (fault_now()) {
        int why = errno;
        syscall(SYS_pwrite64, fd, p, n / 2, at);
        errno = why;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, p, n, at);
}

int ftruncate64(int fd, off64_t n) { return fault_now() ? -1 : (int)syscall(SYS_ftruncate, fd, n); }

#define SWEEP_COMMITS 60
typedef struct sweep {
    tn_status status[SWEEP_COMMITS];
    int faults;
    bool opened;
} sweep;

/* Commits on, whatever happens; notes what it was told.  The table is frozen and written twice meanwhile. */
static void sweep_writer(sweep *told, int nth, int error)
{
    static char big[4000];
    memset(big, 'x', sizeof big - 1);
    fault_countdown = nth;
    fault_error = error;
    faults_armed = 1;
    if (!kit_try_open()) {
        told->opened = true;
        for (uint32_t i = 0; i < SWEEP_COMMITS; i++) {
            tn_store_batch batch = kit_batch();
            tn_key key = kit_key(T, "p", tn_arena_printf(kit_arena(), "%05u", i));
            tn_store_batch_cond(&batch, TN_COND_ABSENT, key, 0);
            tn_store_batch_put(&batch, key, kit_text(text_of(i)));
            tn_store_batch_put(&batch, kit_key(T, "p", "big"), kit_text(big));
            told->status[i] = kit_commit(&batch, NULL);
            tn_row row;
            tn_status seen = kit_get(key, &row);
            if (told->status[i] == TN_OK)
                KIT_EQUAL(seen, TN_OK);
            else if (told->status[i] != TN_EUNCERTAIN)
                KIT_CHECK(seen != TN_OK);
        }
        if (nth % 2) /* every other time it does not get to close */
            kit_close();
    }
    told->faults = faults_done;
    kill(getpid(), SIGKILL);
}

static void sweep_reader(const sweep *told)
{
    kit_open();
    for (uint32_t i = 0; i < SWEEP_COMMITS; i++) {
        tn_row row;
        tn_status seen = kit_get(kit_key(T, "p", tn_arena_printf(kit_arena(), "%05u", i)), &row);
        bool there = seen == TN_OK && tn_blob_eq(row.value, kit_text(text_of(i)));
        KIT_CHECK(there || seen == TN_ENOTFOUND);
        tn_status was = told->opened ? told->status[i] : TN_EUNAVAILABLE;
        if ((was == TN_OK && !there) || (was != TN_OK && was != TN_EUNCERTAIN && there))
            kit_fail(__FILE__, __LINE__, "commit %u was told \"%s\" and is %s", i,
                     tn_status_name(was), there ? "there" : "not there");
    }
    kit_close();
}

static void sweep_faults(int error)
{
    sweep *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KIT_CHECK(told != MAP_FAILED);
    kit_configure(plugin_so, "path: \"%D/x.db\"\njournalBytes: 65536\nwalBytes: 262144");
    int nth = 1, uncertain = 0, refused = 0;
    for (;; nth += nth < 60 ? 1 : 9) {
        char rm[4096];
        snprintf(rm, sizeof rm, "rm -f '%s' '%s-wal' '%s-shm'", db_path(), db_path(), db_path());
        KIT_EQUAL(system(rm), 0);
        memset(told, 0, sizeof *told);
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            sweep_writer(told, nth, error);
        int status;
        waitpid(pid, &status, 0);
        KIT_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        for (int i = 0; told->opened && i < SWEEP_COMMITS; i++) {
            uncertain += told->status[i] == TN_EUNCERTAIN;
            refused += told->status[i] == TN_EUNAVAILABLE;
            KIT_CHECK(told->status[i] == TN_OK || told->status[i] == TN_EUNCERTAIN ||
                      told->status[i] == TN_EUNAVAILABLE);
        }
        pid = fork();
        if (pid == 0) {
            sweep_reader(told);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        if (status != 0)
            kit_fail(__FILE__, __LINE__, "with call %d failing", nth);
        if (!told->faults)
            break; /* the whole scenario passed without it */
    }
    KIT_CHECK(nth > 150);
    /* What was refused is asked again by core/store, with success: the fault comes once. */
    KIT_CHECK(error == ENOSPC || uncertain + refused > 20);
}

static void every_write_fails_once_eio(void) { sweep_faults(EIO); }
static void every_write_fails_once_enospc(void) { sweep_faults(ENOSPC); }

static const kit_case cases[] = {
    {"a second opener is refused", second_opener},
    {"files that are not ours", not_ours},
    {"paths and settings that do not work", unreachable_paths},
    {"a read-only file", read_only_file},
    {"a clean close leaves all in the tables", clean_close_leaves_all_in_the_tables},
    {"the journal is replayed", journal_is_replayed},
    {"a file of format 1 is read", format_1_is_read},
    {"a damaged row is data loss, and only that row", damaged_row_is_data_loss},
    {"a damaged leaf is data loss, for all that may have been there", damaged_leaf_stays_data_loss},
    {"a damaged journal stops the start", damaged_journal_stops_the_start},
    {"a lost journal row stops the start", lost_journal_row_stops_the_start},
    {"a file damaged at any byte gives no wrong answer", damaged_tables},
    {"a full disk", full_disk},
    {"killed while rows move into the tables", killed_while_moving},
    {"memory keeps nothing", memory_keeps_nothing},
    {"each write and fsync fails once: EIO", every_write_fails_once_eio},
    {"each write and fsync fails once: ENOSPC", every_write_fails_once_enospc},
};

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: sqlite_kit PLUGIN.so [CASE]...\n");
        return 2;
    }
    tn_log_configure(TN_LOG_NEVER, false);
    plugin_so = argv[1];
    kit_configure(plugin_so, "path: \"%D/x.db\"");
    return kit_run("plugin sqlite", cases, TN_COUNT_OF(cases), argc - 2, argv + 2);
}
