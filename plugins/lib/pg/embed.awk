# SPDX-License-Identifier: MIT
# SQL files, in order, as C: static const char *const SCHEMA[] = {"...", ...};
function finish() {
    if (files)
        printf ",\n"
}
BEGIN { print "/* Made by embed.awk. */\nstatic const char *const SCHEMA[] = {" }
FNR == 1 {
    finish()
    files++
}
{
    gsub(/\\/, "\\\\")
    gsub(/"/, "\\\"")
    printf "    \"%s\\n\"\n", $0
}
END {
    finish()
    print "};"
}
