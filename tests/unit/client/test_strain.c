/* SPDX-License-Identifier: MIT */
/* A store under strain is asked less, by steps, and as much as before when it is well again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/strain.h"

static void parameters(void **state)
{
    (void)state;
    tn_strain_params p = tn_strain_parse(TN_STR(""));
    assert_false(p.enabled);
    assert_int_equal(p.refresh_ns, 10 * TN_SEC);
    assert_float_equal(p.step_down, 0.3, 1e-9);
    assert_float_equal(p.step_up, 0.1, 1e-9);
    assert_float_equal(p.min, 0.8, 1e-9);
    assert_float_equal(p.max, 1, 1e-9);
    p = tn_strain_parse(
        TN_STR("enabled=true,refreshinterval=3s,latencythreshold=12.5,errorthreshold=0.25,"
               "ratemultimin=0.2,"
               "ratebackoffstepsize=0.5,rateincreasestepsize=0.05,ratemultimax=1.5"));
    assert_true(p.enabled);
    assert_int_equal(p.refresh_ns, 3 * TN_SEC);
    assert_float_equal(p.latency_ms, 12.5, 1e-9);
    assert_float_equal(p.error_ratio, 0.25, 1e-9);
    assert_float_equal(p.min, 0.2, 1e-9);
    assert_float_equal(p.step_down, 0.5, 1e-9);
    assert_float_equal(p.step_up, 0.05, 1e-9);
    assert_float_equal(p.max, 1.5, 1e-9);
    p = tn_strain_parse(TN_STR(
        "nonsense,=,latencythreshold=many,errorthreshold=-1,,refreshinterval=0s,ratemultimin=0.5"));
    assert_float_equal(p.latency_ms, 0, 1e-9);
    assert_float_equal(p.error_ratio, 0, 1e-9);
    assert_int_equal(p.refresh_ns, 10 * TN_SEC);
    assert_float_equal(p.min, 0.5, 1e-9);
}

static void steps(void **state)
{
    (void)state;
    tn_strain_params p = tn_strain_parse(
        TN_STR("enabled=true,latencythreshold=10,errorthreshold=0.1,ratemultimin=0.2"));
    assert_float_equal(tn_strain_step(&p, 1, 10, 0.1), 1, 1e-9); /* not beyond them */
    assert_float_equal(tn_strain_step(&p, 1, 11, 0), 0.7, 1e-9);
    assert_float_equal(tn_strain_step(&p, 1, 0, 0.2), 0.7, 1e-9);
    assert_float_equal(tn_strain_step(&p, 0.4, 11, 0), 0.2, 1e-9);
    assert_float_equal(tn_strain_step(&p, 0.2, 5, 0), 0.3, 1e-9);
    assert_float_equal(tn_strain_step(&p, 0.95, 5, 0), 1, 1e-9);
    p.latency_ms = p.error_ratio = 0;
    assert_float_equal(tn_strain_step(&p, 1, 1e9, 1), 1, 1e-9); /* not looked at */
}

static void with_time(void **state)
{
    tn_strain strain = {0};
    const tn_str on =
        TN_STR("enabled=true,refreshinterval=1s,latencythreshold=10,ratemultimin=0.2");
    uint64_t now = 1000 * TN_SEC;
    (void)state;
    tn_strain_count(&strain, TN_SEC, false); /* before it was asked for: of no known time */
    assert_float_equal(tn_strain_multiplier(&strain, TN_STR(""), now), 1, 1e-6);
    assert_float_equal(tn_strain_multiplier(&strain, on, now), 1, 1e-6);
    for (int i = 0; i < 10; i++)
        tn_strain_count(&strain, 20 * TN_MS, false);
    assert_float_equal(tn_strain_multiplier(&strain, on, now + TN_SEC / 2), 1, 1e-6);
    assert_float_equal(tn_strain_multiplier(&strain, on, now += TN_SEC), 0.7, 1e-6);
    tn_strain_count(&strain, 20 * TN_MS, true);
    tn_strain_count(&strain, 1 * TN_MS, false); /* 10.5 ms between them */
    assert_float_equal(tn_strain_multiplier(&strain, on, now += TN_SEC), 0.4, 1e-6);
    /* nothing asked, nothing wrong */
    assert_float_equal(tn_strain_multiplier(&strain, on, now += TN_SEC), 0.5, 1e-6);
    assert_float_equal(
        tn_strain_multiplier(&strain, TN_STR("enabled=false,refreshinterval=1s"), now += TN_SEC), 1,
        1e-6);
    assert_float_equal(tn_strain_multiplier(&strain, on, now + TN_SEC / 2), 1, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parameters), cmocka_unit_test(steps),
                                       cmocka_unit_test(with_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
