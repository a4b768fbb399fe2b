/* SPDX-License-Identifier: MIT */
/* What the files of claimmapper/mtls share.
 *
 *   mtls.c     life, the plugin's table; a call's way and what a loop remembers
 *   table.c    configuration: the table of names and permissions
 *   cert.c     a certificate's names; which rows take it */
#ifndef TN_MTLS_PRIVATE_H
#define TN_MTLS_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/plugin.h>

#include "glob.h"

#define MT_SEC UINT64_C(1000000000)
#define MT_ROWS_MAX 1024u
#define MT_PERMISSIONS_MAX 256u /* of a row */
#define MT_GRANTS_MAX 4096u     /* of a certificate */
#define MT_NAMES_MAX 64u        /* of a kind in a certificate */
#define MT_NAME_BYTES_MAX 2048u

typedef enum mt_field { /* what a row may ask for */
                        MT_URI,
                        MT_DNS,
                        MT_ORGANIZATION,
                        MT_UNIT,
                        MT_COMMON_NAME,
                        MT_SUBJECT,
                        MT_FIELDS
} mt_field;

typedef struct mt_row {
    az_path *parts[MT_DNS + 1]; /* URI and DNS: part by part */
    az_glob *globs[MT_FIELDS];  /* the others */
    bool spiffe;                /* the pattern of the URI is of a SPIFFE id */
    uint32_t system_roles;
    tn_role_grant *grants; /* names lie in the configuration */
    size_t n_grants;
} mt_row;

typedef enum mt_subject_from {
    MT_AUTO,
    MT_BY_URI,
    MT_BY_DNS,
    MT_BY_COMMON_NAME,
    MT_BY_SUBJECT
} mt_subject_from;

typedef struct mt_table {
    mt_row *rows;
    size_t n_rows;
    mt_subject_from subject_from;
    bool unexpired;
} mt_table;

typedef struct mt_claims { /* what a certificate is good for; in one piece of memory */
    uint64_t from_s, until_s;
    uint32_t system_roles;
    tn_str subject;
    tn_role_grant *grants;
    size_t n_grants;
} mt_claims;

tn_status mt_error(tn_error *err, tn_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
tn_status mt_table_read(const tn_host *host, const tn_config *cfg, mt_table *out, tn_error *err);
void mt_table_done(mt_table *table);
/* TN_EDENIED: it is no certificate, or one with names that are no text.  *out is for free(). */
tn_status mt_certificate(const mt_table *table, tn_blob der, mt_claims **out, tn_error *err);

#endif
