# SPDX-License-Identifier: MIT
# DeleteNamespace: the name is free at once, and all that its runs had in the store goes, though the server is killed
# meanwhile.  `store verify` counts what is left.  Sourced by run.

[ -n "${PYTHON:-}" ] || . "$here/common.bash"

mkdir -p "$WORK/d"
cluster "$WORK/d.yaml" "$WORK/d"
rm -rf "$WORK/d" && cp -r "$WORK/sound" "$WORK/d"
run 0 store verify --config "$WORK/d.yaml"
check "there are runs to delete" test "$(awk '/^runs/ { print $2 }' "$WORK/out")" -ge 20

namespace() { "$REFERENCE" operator namespace "$1" --address "127.0.0.1:$PORT" --namespace "${@:2}"; }
# The namespaces of a config file get their ids from their names.
GONE=default-deleted-04b69
until_gone() {
    for _ in $(seq 600); do
        namespace describe "$GONE" 2>&1 | grep -q "is not found" && return 0
        sleep 0.1
    done
    return 1
}

check "the server starts on what is to be deleted" serve_cluster "$WORK/d.yaml"
check "the namespace is deleted" namespace delete default --yes
check "its name is free" namespace create default --retention 24h
kill -9 "$SERVER_PID"
wait "$SERVER_PID" 2>/dev/null
check "the server starts in the middle of a deletion" serve_cluster "$WORK/d.yaml"
check "nothing is left of the namespace" until_gone
stop_server "$SERVER_PID"
run 0 store verify --config "$WORK/d.yaml"
says "violations                  0"
check "no runs are left" test "$(awk '/^runs/ { print $2 }' "$WORK/out")" = 0
check "no documents are left" test "$(awk '/^documents/ { print $2 }' "$WORK/out")" = 0
