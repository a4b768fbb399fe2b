/* SPDX-License-Identifier: MIT */
/* A look into the file before the dynamic linker does: its messages hide the cause ("file too short").
 * Also the digest, for the pin in the configuration and for the log. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/private.h"

typedef ElfW(Ehdr) ehdr;
typedef ElfW(Phdr) phdr;

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OUR_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define OUR_MACHINE EM_PPC64
#elif defined(__s390x__)
#define OUR_MACHINE EM_S390
#elif defined(__i386__)
#define OUR_MACHINE EM_386
#elif defined(__arm__)
#define OUR_MACHINE EM_ARM
#else
#define OUR_MACHINE EM_NONE
#endif

static const char *machine_name(unsigned machine, char *out, size_t size)
{
    switch (machine) {
    case EM_X86_64:
        return "x86_64";
    case EM_AARCH64:
        return "aarch64";
    case EM_RISCV:
        return "riscv";
    case EM_PPC64:
        return "ppc64";
    case EM_S390:
        return "s390x";
    case EM_386:
        return "i386";
    case EM_ARM:
        return "arm";
    default:
        snprintf(out, size, "machine %u", machine);
        return out;
    }
}

static bool check_header(tn_plugin_search *search, const uint8_t *p, size_t n)
{
    char theirs[32], ours[32];
    if (n < SELFMAG || memcmp(p, ELFMAG, SELFMAG) != 0) {
        tn_plugin_complain(search, "plugin", "install a shared object built for Tenon",
                           "%s is not an ELF file", search->path);
        return false;
    }
    ehdr h;
    if (n < sizeof h) {
        tn_plugin_complain(search, "plugin", "install it again", "%s is cut short (%zu bytes)",
                           search->path, n);
        return false;
    }
    memcpy(&h, p, sizeof h);
    bool same_class = h.e_ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32);
    uint16_t one = 1;
    bool same_order = h.e_ident[EI_DATA] == (*(uint8_t *)&one ? ELFDATA2LSB : ELFDATA2MSB);
    if (!same_class || !same_order || (OUR_MACHINE != EM_NONE && h.e_machine != OUR_MACHINE)) {
        tn_plugin_complain(search, "plugin", "install the build for this machine",
                           "%s is built for %s%s, this is %s", search->path,
                           machine_name(h.e_machine, theirs, sizeof theirs),
                           same_class ? "" : " (other word size)",
                           machine_name(OUR_MACHINE, ours, sizeof ours));
        return false;
    }
    if (h.e_type != ET_DYN) {
        tn_plugin_complain(search, "plugin", "link it with -shared", "%s is not a shared object",
                           search->path);
        return false;
    }
    return true;
}

/* The dynamic linker maps what the program headers say; past the end of the file that is a SIGBUS. */
static bool check_whole(tn_plugin_search *search, const uint8_t *p, size_t n)
{
    ehdr h;
    memcpy(&h, p, sizeof h);
    uint64_t need = h.e_phoff + (uint64_t)h.e_phnum * sizeof(phdr);
    if (h.e_phentsize != sizeof(phdr) || h.e_phnum == 0 || h.e_phoff > n) {
        tn_plugin_complain(search, "plugin", "install it again", "%s has no sound program headers",
                           search->path);
        return false;
    }
    for (size_t i = 0; i < h.e_phnum && need <= n; i++) {
        phdr ph;
        memcpy(&ph, p + h.e_phoff + i * sizeof ph, sizeof ph);
        uint64_t end;
        if (__builtin_add_overflow(ph.p_offset, ph.p_filesz, &end))
            end = UINT64_MAX;
        if ((ph.p_type == PT_LOAD || ph.p_type == PT_DYNAMIC) && end > need)
            need = end;
    }
    if (need <= n)
        return true;
    tn_plugin_complain(search, "plugin", "install it again",
                       "%s is cut short (%zu bytes of at least %llu)", search->path, n,
                       (unsigned long long)need);
    return false;
}

static void hex(char *out, size_t size, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && 2 * i + 2 < size; i++)
        snprintf(out + 2 * i, 3, "%02x", p[i]);
}

/* The GNU build id, when there is one; every offset is checked, the file may lie. */
static void find_build_id(tn_plugin_search *search, const uint8_t *p, size_t n)
{
    ehdr h;
    memcpy(&h, p, sizeof h);
    for (size_t i = 0; i < h.e_phnum && h.e_phentsize == sizeof(phdr); i++) {
        size_t at = h.e_phoff + i * sizeof(phdr);
        phdr ph;
        if (at > n || n - at < sizeof ph)
            return;
        memcpy(&ph, p + at, sizeof ph);
        if (ph.p_type != PT_NOTE || ph.p_offset > n || ph.p_filesz > n - ph.p_offset)
            continue;
        for (size_t o = 0; ph.p_filesz - o >= 12;) {
            uint32_t note[3]; /* name size, content size, type */
            const uint8_t *at_note = p + ph.p_offset + o;
            memcpy(note, at_note, sizeof note);
            size_t name_n = ((size_t)note[0] + 3) & ~(size_t)3,
                   body_n = ((size_t)note[1] + 3) & ~(size_t)3;
            if (name_n > ph.p_filesz - o - 12 || body_n > ph.p_filesz - o - 12 - name_n)
                break;
            if (note[2] == NT_GNU_BUILD_ID && note[0] == 4 && memcmp(at_note + 12, "GNU", 4) == 0) {
                hex(search->build_id, sizeof search->build_id, at_note + 12 + name_n, note[1]);
                return;
            }
            o += 12 + name_n + body_n;
        }
    }
}

static bool check_pin(tn_plugin_search *search)
{
    tn_error err = {0};
    tn_str pin;
    tn_status status = tn_config_str(search->stanza, "sha256", &pin, &err);
    if (status == TN_ENOTFOUND)
        return true;
    if (status != TN_OK) {
        search->failed = true;
        tn_config_problems_add(search->problems, err.text);
        return false;
    }
    if (tn_str_caseeq(pin, tn_str_from(search->sha256)))
        return true;
    tn_plugin_complain(search, "sha256",
                       "install the file that was pinned, or pin this one after a look at it",
                       "%s has sha256 %s, configured is " TN_STR_FMT, search->path, search->sha256,
                       TN_STR_ARG(pin));
    return false;
}

bool tn_plugin_inspect(tn_plugin_search *search)
{
    int fd = open(search->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        tn_plugin_complain(search, "plugin", NULL, "cannot read %s: %s", search->path,
                           strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    search->dev = st.st_dev; /* of the file that is digested */
    search->ino = st.st_ino;
    size_t n = (size_t)st.st_size;
    uint8_t *p = n ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    close(fd);
    if (p == MAP_FAILED) {
        tn_plugin_complain(search, "plugin", NULL, "cannot read %s: %s", search->path,
                           strerror(errno));
        return false;
    }
    bool ok = check_header(search, p, n) && check_whole(search, p, n);
    if (ok) {
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned length = 0;
        find_build_id(search, p, n);
        if (EVP_Digest(p, n, digest, &length, EVP_sha256(), NULL) == 1)
            hex(search->sha256, sizeof search->sha256, digest, length);
        ok = check_pin(search);
    }
    if (p)
        munmap(p, n);
    return ok;
}
