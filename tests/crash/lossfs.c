/* SPDX-License-Identifier: MIT */
/* lossfs BACK MNT: a file system for power cuts.  What was written and not synced is kept in this process's memory
 * only; fsync and fdatasync carry a file's bytes into BACK.  Killing the process with SIGKILL is the power cut: BACK
 * then holds what a disk would.  Names (create, rename, unlink) are durable at once, which real disks do not promise.
 * One thread (-s), for tests. */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct file {
    struct file *next;
    char path[512];
    char *bytes;
    size_t size, room;
    int dirty;
} file;

static const char *back;
static file *files;

static void real_path(char out[4096], const char *path) { snprintf(out, 4096, "%s%s", back, path); }

static file *find(const char *path)
{
    for (file *f = files; f; f = f->next)
        if (!strcmp(f->path, path))
            return f;
    return NULL;
}

static int grow(file *f, size_t size)
{
    if (size > f->room) {
        size_t room = size * 2 + 65536;
        char *bytes = realloc(f->bytes, room);
        if (!bytes)
            return -ENOMEM;
        f->bytes = bytes;
        f->room = room;
    }
    if (size > f->size) {
        memset(f->bytes + f->size, 0, size - f->size);
        f->size = size;
    }
    return 0;
}

static file *load(const char *path)
{
    char real[4096];
    struct stat st;
    file *f = find(path);
    if (f)
        return f;
    real_path(real, path);
    int fd = open(real, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0 || !(f = calloc(1, sizeof(*f)))) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    snprintf(f->path, sizeof(f->path), "%s", path);
    if (grow(f, (size_t)st.st_size) < 0) {
        free(f);
        close(fd);
        return NULL;
    }
    for (size_t at = 0; at < f->size;) {
        ssize_t n = pread(fd, f->bytes + at, f->size - at, (off_t)at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    close(fd);
    f->next = files;
    files = f;
    return f;
}

static void forget(const char *path)
{
    for (file **at = &files; *at; at = &(*at)->next) {
        if (strcmp((*at)->path, path))
            continue;
        file *f = *at;
        *at = f->next;
        free(f->bytes);
        free(f);
        return;
    }
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *info)
{
    char real[4096];
    (void)info;
    real_path(real, path);
    if (lstat(real, st) < 0)
        return -errno;
    file *f = find(path);
    if (f)
        st->st_size = (off_t)f->size;
    return 0;
}

static int fs_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    char real[4096];
    (void)offset, (void)info, (void)flags;
    real_path(real, path);
    DIR *dir = opendir(real);
    if (!dir)
        return -errno;
    for (struct dirent *entry; (entry = readdir(dir));)
        fill(buf, entry->d_name, NULL, 0, 0);
    closedir(dir);
    return 0;
}

static int fs_open(const char *path, struct fuse_file_info *info)
{
    (void)info;
    return load(path) ? 0 : -ENOENT;
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    char real[4096];
    (void)info;
    real_path(real, path);
    int fd = open(real, O_RDWR | O_CREAT, mode);
    if (fd < 0)
        return -errno;
    close(fd);
    return load(path) ? 0 : -EIO;
}

static int fs_read(const char *path, char *buf, size_t n, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    file *f = load(path);
    size_t at = (size_t)offset;
    if (!f)
        return -EIO;
    if (at >= f->size)
        return 0;
    if (n > f->size - at)
        n = f->size - at;
    memcpy(buf, f->bytes + at, n);
    return (int)n;
}

static int fs_write(const char *path, const char *buf, size_t n, off_t offset,
                    struct fuse_file_info *info)
{
    (void)info;
    file *f = load(path);
    if (!f)
        return -EIO;
    int bad = grow(f, (size_t)offset + n);
    if (bad)
        return bad;
    memcpy(f->bytes + offset, buf, n);
    f->dirty = 1;
    return (int)n;
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    (void)info;
    file *f = load(path);
    if (!f)
        return -ENOENT;
    if ((size_t)size > f->size)
        return grow(f, (size_t)size) ? -ENOMEM : (f->dirty = 1, 0);
    f->size = (size_t)size;
    f->dirty = 1;
    return 0;
}

static int fs_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    char real[4096];
    (void)data_only, (void)info;
    file *f = find(path);
    if (!f || !f->dirty)
        return 0;
    real_path(real, path);
    int fd = open(real, O_WRONLY);
    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < f->size;) {
        ssize_t n = pwrite(fd, f->bytes + at, f->size - at, (off_t)at);
        if (n < 0) {
            int bad = -errno;
            close(fd);
            return bad;
        }
        at += (size_t)n;
    }
    int bad = ftruncate(fd, (off_t)f->size) < 0 ? -errno : 0;
    close(fd);
    f->dirty = bad != 0;
    return bad;
}

static int fs_unlink(const char *path)
{
    char real[4096];
    real_path(real, path);
    if (unlink(real) < 0)
        return -errno;
    forget(path);
    return 0;
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
    char a[4096], b[4096];
    (void)flags;
    real_path(a, from);
    real_path(b, to);
    if (rename(a, b) < 0)
        return -errno;
    forget(to);
    file *f = find(from);
    if (f)
        snprintf(f->path, sizeof(f->path), "%s", to);
    return 0;
}

static int fs_mkdir(const char *path, mode_t mode)
{
    char real[4096];
    real_path(real, path);
    return mkdir(real, mode) < 0 ? -errno : 0;
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    char real[4096];
    (void)info;
    real_path(real, path);
    return chmod(real, mode) < 0 ? -errno : 0;
}

static int fs_chown(const char *path, uid_t user, gid_t group, struct fuse_file_info *info)
{
    (void)path, (void)user, (void)group, (void)info;
    return 0;
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
    (void)path, (void)times, (void)info;
    return 0;
}

static int fs_access(const char *path, int mode)
{
    char real[4096];
    real_path(real, path);
    return access(real, mode) < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations operations = {
        .getattr = fs_getattr,
        .readdir = fs_readdir,
        .open = fs_open,
        .create = fs_create,
        .read = fs_read,
        .write = fs_write,
        .truncate = fs_truncate,
        .fsync = fs_fsync,
        .unlink = fs_unlink,
        .rename = fs_rename,
        .mkdir = fs_mkdir,
        .chmod = fs_chmod,
        .chown = fs_chown,
        .utimens = fs_utimens,
        .access = fs_access,
    };
    if (argc < 3) {
        fprintf(stderr, "usage: lossfs BACK MNT [fuse options]\n");
        return 2;
    }
    back = argv[1];
    argv[1] = argv[0];
    return fuse_main(argc - 1, argv + 1, &operations, NULL);
}
