/* SPDX-License-Identifier: MIT */
/* A certificate's names and the rows that take it.  The host has verified it; what is done here is done once for each
 * certificate and loop.  A name that is no plain text (a NUL byte in it, other letters than the kind has) is as good as not
 * there: two readers of it could take it for two names. */
#include "private.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

typedef struct names {
    tn_str list[MT_NAMES_MAX];
    size_t n;
    bool more; /* than fit */
} names;

typedef struct certificate {
    X509 *x509;
    GENERAL_NAMES *alternative;
    char *pool; /* texts; as long as the certificate's names can be */
    size_t used, size;
    names of[MT_FIELDS];
} certificate;

/* ---- names ---- */

static bool plain_ascii(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] > '~')
            return false;
    return true;
}

static void add(certificate *c, mt_field field, const unsigned char *p, size_t n)
{
    names *to = &c->of[field];
    if (n == 0 || n > MT_NAME_BYTES_MAX)
        return;
    if (to->n == MT_NAMES_MAX || n > c->size - c->used) {
        to->more = true;
        return;
    }
    char *text = c->pool + c->used;
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(field == MT_DNS && p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]);
    c->used += n;
    to->list[to->n++] = (tn_str){text, n};
}

static void read_alternative(certificate *c)
{
    c->alternative = X509_get_ext_d2i(c->x509, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(c->alternative); i++) {
        int type;
        const ASN1_STRING *value =
            GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(c->alternative, i), &type);
        if (type != GEN_URI && type != GEN_DNS)
            continue;
        const unsigned char *p = ASN1_STRING_get0_data(value);
        size_t n = (size_t)ASN1_STRING_length(value);
        if (plain_ascii(p, n))
            add(c, type == GEN_URI ? MT_URI : MT_DNS, p, n);
        else if (type == GEN_URI)
            c->of[MT_URI].more = true; /* a second name that is not looked at: no SPIFFE id */
    }
}

static void read_entries(certificate *c, mt_field field, int nid)
{
    const X509_NAME *subject = X509_get_subject_name(c->x509);
    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, nid, at)) >= 0;) {
        unsigned char *text = NULL;
        int n =
            ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (n > 0 && az_printable((const char *)text, (size_t)n))
            add(c, field, text, (size_t)n);
        OPENSSL_free(text);
    }
}

static void read_subject(certificate *c)
{
    BIO *out = BIO_new(BIO_s_mem());
    unsigned char *text;
    if (out && X509_NAME_print_ex(out, X509_get_subject_name(c->x509), 0,
                                  XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        long n = BIO_get_mem_data(out, (char **)&text);
        if (n > 0 && az_printable((const char *)text, (size_t)n))
            add(c, MT_SUBJECT, text, (size_t)n);
    }
    BIO_free(out);
}

static bool read_certificate(certificate *c, tn_blob der)
{
    const unsigned char *p = der.p;
    c->x509 = der.n && der.n < 1u << 20 ? d2i_X509(NULL, &p, (long)der.n) : NULL;
    c->size = der.n * 4 + 64; /* escapes make a subject longer */
    c->pool = c->x509 && p == der.p + der.n ? malloc(c->size) : NULL;
    if (!c->pool)
        return false;
    read_alternative(c);
    read_entries(c, MT_ORGANIZATION, NID_organizationName);
    read_entries(c, MT_UNIT, NID_organizationalUnitName);
    read_entries(c, MT_COMMON_NAME, NID_commonName);
    read_subject(c);
    return true;
}

static void certificate_done(certificate *c)
{
    sk_GENERAL_NAME_pop_free(c->alternative, GENERAL_NAME_free);
    X509_free(c->x509);
    free(c->pool);
    ERR_clear_error();
}

/* ---- rows ---- */

static bool takes_field(const mt_row *row, const certificate *c, mt_field field)
{
    const az_path *path = field <= MT_DNS ? row->parts[field] : NULL;
    const az_glob *glob = row->globs[field];
    const names *have = &c->of[field];
    if (!path && !glob)
        return true;
    if (field == MT_URI && row->spiffe && (have->n != 1 || have->more))
        return false; /* such a certificate has one URI, or is none of SPIFFE's */
    for (size_t i = 0; i < have->n; i++)
        if (path ? az_path_match(path, have->list[i].p, have->list[i].n)
                 : az_glob_match(glob, have->list[i].p, have->list[i].n))
            return true;
    return false;
}

static bool takes(const mt_row *row, const certificate *c)
{
    for (mt_field f = 0; f < MT_FIELDS; f++)
        if (!takes_field(row, c, f))
            return false;
    return true;
}

static tn_str subject_of(const mt_table *table, const certificate *c)
{
    static const mt_field by[] = {[MT_AUTO] = MT_URI,
                                  [MT_BY_URI] = MT_URI,
                                  [MT_BY_DNS] = MT_DNS,
                                  [MT_BY_COMMON_NAME] = MT_COMMON_NAME,
                                  [MT_BY_SUBJECT] = MT_SUBJECT};
    const names *from = &c->of[by[table->subject_from]];
    bool sole = table->subject_from != MT_AUTO || (from->n == 1 && !from->more);
    if (from->n && sole)
        return from->list[0];
    from = &c->of[MT_SUBJECT];
    return from->n ? from->list[0] : (tn_str){"", 0};
}

static void add_grant(mt_claims *claims, const tn_role_grant *grant)
{
    for (size_t i = 0; i < claims->n_grants; i++)
        if (claims->grants[i].ns.n == grant->ns.n &&
            memcmp(claims->grants[i].ns.p, grant->ns.p, grant->ns.n) == 0) {
            claims->grants[i].roles |= grant->roles;
            return;
        }
    if (claims->n_grants < MT_GRANTS_MAX)
        claims->grants[claims->n_grants++] = *grant;
}

static mt_claims *make(const mt_table *table, const certificate *c)
{
    size_t n = 0;
    tn_str subject = subject_of(table, c);
    for (size_t i = 0; i < table->n_rows; i++)
        n += table->rows[i].n_grants;
    mt_claims *claims = calloc(
        1, sizeof *claims + (n < MT_GRANTS_MAX ? n : MT_GRANTS_MAX) * sizeof *claims->grants +
               subject.n + 1);
    if (!claims)
        return NULL;
    claims->grants = (tn_role_grant *)(claims + 1);
    for (size_t i = 0; i < table->n_rows; i++) { /* all that take it add up */
        const mt_row *row = &table->rows[i];
        if (!takes(row, c))
            continue;
        claims->system_roles |= row->system_roles;
        for (size_t k = 0; k < row->n_grants; k++)
            add_grant(claims, &row->grants[k]);
    }
    char *text = (char *)(claims->grants + (n < MT_GRANTS_MAX ? n : MT_GRANTS_MAX));
    memcpy(text, subject.p, subject.n);
    claims->subject = (tn_str){text, subject.n};
    return claims;
}

static bool seconds_of(const ASN1_TIME *time, uint64_t *out)
{
    struct tm tm;
    if (!time || ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    time_t s = timegm(&tm);
    *out = s > 0 ? (uint64_t)s : 0;
    return true;
}

tn_status mt_certificate(const mt_table *table, tn_blob der, mt_claims **out, tn_error *err)
{
    certificate c = {0};
    tn_status status = TN_OK;
    mt_claims *claims = NULL;
    if (!read_certificate(&c, der))
        status = mt_error(err, TN_EDENIED, "certificate refused: it cannot be read");
    else if (!(claims = make(table, &c)))
        status = mt_error(err, TN_EUNAVAILABLE, "out of memory");
    else if (!seconds_of(X509_get0_notBefore(c.x509), &claims->from_s) ||
             !seconds_of(X509_get0_notAfter(c.x509), &claims->until_s))
        status = mt_error(err, TN_EDENIED, "certificate refused: its dates cannot be read");
    certificate_done(&c);
    if (status == TN_OK)
        *out = claims;
    else
        free(claims);
    return status;
}
