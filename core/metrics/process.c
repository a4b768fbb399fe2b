/* SPDX-License-Identifier: MIT */
/* Figures of the process (from /proc) and of its loops. */
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "metrics/private.h"

static void put(tn_buf *out, const char *name, const char *type, const char *help, double value)
{
    tn_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name,
                  value);
}

static void put_memory(tn_buf *out)
{
    unsigned long long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return;
    if (fscanf(f, "%llu %llu", &pages, &resident) == 2) {
        double page = (double)sysconf(_SC_PAGESIZE);
        put(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size.",
            (double)pages * page);
        put(out, "process_resident_memory_bytes", "gauge", "Resident memory size.",
            (double)resident * page);
    }
    fclose(f);
}

static void put_fds(tn_buf *out)
{
    size_t count = 0;
    struct rlimit limit;
    DIR *dir = opendir("/proc/self/fd");
    if (dir) {
        for (struct dirent *e = readdir(dir); e; e = readdir(dir))
            count += e->d_name[0] != '.';
        closedir(dir);
        put(out, "process_open_fds", "gauge", "Open file descriptors.",
            (double)count - 1); /* not this one */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        put(out, "process_max_fds", "gauge", "Most file descriptors that may be open.",
            (double)limit.rlim_cur);
}

static void put_times(tn_buf *out)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        put(out, "process_cpu_seconds_total", "counter", "User and system CPU time.",
            (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    /* Field 22 of stat, in ticks since boot; the command in field 2 may hold blanks. */
    char text[1024];
    unsigned long long start = 0;
    struct timespec boot, wall;
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *p = strrchr(text, ')');
    if (!p ||
        sscanf(p + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &start) != 1)
        return;
    if (clock_gettime(CLOCK_BOOTTIME, &boot) != 0 || clock_gettime(CLOCK_REALTIME, &wall) != 0)
        return;
    double booted = (double)wall.tv_sec - (double)boot.tv_sec;
    put(out, "process_start_time_seconds", "gauge", "Start of the process since 1970.",
        booted + (double)start / (double)sysconf(_SC_CLK_TCK));
}

static void put_loops(tn_buf *out)
{
    static const struct {
        const char *name, *type, *help;
    } figures[] = {
        {"tenon_loop_iterations_total", "counter", "Turns of an event loop."},
        {"tenon_loop_messages_total", "counter", "Messages run from a loop's mailbox."},
        {"tenon_loop_wakeups_total", "counter", "Turns that began with a wait."},
        {"tenon_loop_hold_max_seconds", "gauge",
         "Longest turn since the last scrape, waiting left out."},
    };
    tn_loop_stats stats[64];
    uint32_t count = tn_loops_count();
    for (uint32_t i = 0; i < count && i < TN_COUNT_OF(stats); i++)
        tn_loop_stats_get(tn_loops_get(i), &stats[i]);
    for (size_t k = 0; k < TN_COUNT_OF(figures) && count; k++) {
        tn_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", figures[k].name, figures[k].help,
                      figures[k].name, figures[k].type);
        for (uint32_t i = 0; i < count && i < TN_COUNT_OF(stats); i++) {
            const tn_loop_stats *s = &stats[i];
            double v = k == 0   ? (double)s->iterations
                       : k == 1 ? (double)s->messages
                                : (double)s->wakeups;
            tn_buf_printf(out, "%s{loop=\"%u\"} %.15g\n", figures[k].name, i,
                          k == 3 ? (double)s->hold_max_ns / 1e9 : v);
        }
    }
}

void tn_metrics_render_process(tn_buf *out)
{
    put_memory(out);
    put_fds(out);
    put_times(out);
    put_loops(out);
}
