# SPDX-License-Identifier: MIT
# TENON_PLUGIN([ACTION-IF-FOUND], [ACTION-IF-NOT-FOUND])
# Finds Tenon's plugin header.  Sets and substitutes TENON_PLUGIN_CFLAGS, TENON_PLUGIN_LDFLAGS (for
# the shared object) and TENON_PLUGIN_DIR (where tenond looks; plugins go in a folder per kind).
AC_DEFUN([TENON_PLUGIN], [
  AC_REQUIRE([PKG_PROG_PKG_CONFIG])
  dnl Another prefix than this macro's own name, which m4 would expand within it without end.
  PKG_CHECK_MODULES([TENON_HEADER], [tenon-plugin], [
    TENON_PLUGIN_CFLAGS="$TENON_HEADER_CFLAGS `$PKG_CONFIG --variable=plugin_cflags tenon-plugin`"
    TENON_PLUGIN_LDFLAGS=`$PKG_CONFIG --variable=plugin_ldflags tenon-plugin`
    TENON_PLUGIN_DIR=`$PKG_CONFIG --variable=plugindir tenon-plugin`
    AC_SUBST([TENON_PLUGIN_CFLAGS])
    AC_SUBST([TENON_PLUGIN_LDFLAGS])
    AC_SUBST([TENON_PLUGIN_DIR])
    $1
  ], [m4_default([$2], [AC_MSG_ERROR([Tenon's plugin header not found (pkg-config tenon-plugin)])])])
])
