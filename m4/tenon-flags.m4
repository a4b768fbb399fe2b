# SPDX-License-Identifier: MIT
# Flag tests for configure: a flag goes on only where this compiler and this linker take it.

# TN_CHECK_CFLAG(FLAG, VARIABLE): append FLAG to VARIABLE when the compiler accepts it silently.
AC_DEFUN([TN_CHECK_CFLAG], [
  AS_VAR_PUSHDEF([tn_cv], [tn_cv_cflag_$1])
  AC_CACHE_CHECK([whether $CC accepts $1], [tn_cv], [
    tn_saved_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -Werror $1"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <stdio.h>]], [[return puts("x") < 0;]])],
      [AS_VAR_SET([tn_cv], [yes])], [AS_VAR_SET([tn_cv], [no])])
    CFLAGS=$tn_saved_CFLAGS
  ])
  AS_VAR_IF([tn_cv], [yes], [$2="$$2 $1"])
  AS_VAR_POPDEF([tn_cv])
])

# TN_CHECK_LDFLAG(FLAG, VARIABLE): append FLAG to VARIABLE when a program links with it.
AC_DEFUN([TN_CHECK_LDFLAG], [
  AS_VAR_PUSHDEF([tn_cv], [tn_cv_ldflag_$1])
  AC_CACHE_CHECK([whether the linker accepts $1], [tn_cv], [
    tn_saved_LDFLAGS=$LDFLAGS
    LDFLAGS="$LDFLAGS -Werror $1"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
      [AS_VAR_SET([tn_cv], [yes])], [AS_VAR_SET([tn_cv], [no])])
    LDFLAGS=$tn_saved_LDFLAGS
  ])
  AS_VAR_IF([tn_cv], [yes], [$2="$$2 $1"])
  AS_VAR_POPDEF([tn_cv])
])
