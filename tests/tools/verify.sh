# SPDX-License-Identifier: MIT
# tenonctl store verify: on what a server has left, beside one that is killed, and on damaged stores, where each damage
# must be found.  Sourced by run.

CORRUPT=$BUILDDIR/tests/tools/corrupt
[ -n "${PYTHON:-}" ] || . "$here/common.bash"

run 2 store verify
run 2 store verify --config "$WORK/one.yaml" --threads 0
run 1 store verify --config "$WORK/two.yaml"
says "there is no cluster record: no server has used this store"
run 0 store verify --config "$WORK/one.yaml"
says "violations                  0"
says "looked at again             0"
check "there are runs" test "$(awk '/^runs/ { print $2 }' "$WORK/out")" -ge 20
check "there are snapshots" test "$(awk '/^snapshots/ { print $2 }' "$WORK/out")" -ge 1

check "the server starts again" serve_cluster "$WORK/one.yaml"
check "second work" work 2
kill -9 "$SERVER_PID"
wait "$SERVER_PID" 2>/dev/null
run 0 store verify --config "$WORK/one.yaml"
says "violations                  0"
run 0 store verify --config "$WORK/one.yaml" --rows-only
run 1 store verify --config "$WORK/one.yaml" --visibility nowhere

while IFS="$(printf '\t')" read -r name text; do
    rm -rf "$WORK/two"
    cp -r "$WORK/sound" "$WORK/two"
    check "damage $name" "$CORRUPT" "$WORK/two.yaml" "$name"
    run 1 store verify --config "$WORK/two.yaml" --settle 1ms
    ran="store verify after $name"
    says "$text"
    says "    key "
done <<EOF
$("$CORRUPT" --list)
EOF
