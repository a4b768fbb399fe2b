# SPDX-License-Identifier: MIT
# Turns SQL files into a C header: the array NAME of one string a file, in the order given.
# awk -v name=NAME -f embed.awk v1.sql v2.sql
FNR == 1 { print (NR == 1 ? "static const char *const " name "[] = {" : "    ,") }
{ gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); print "    \"" $0 "\\n\"" }
END { print "};" }
