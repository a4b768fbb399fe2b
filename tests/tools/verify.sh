# SPDX-License-Identifier: MIT
# tenonctl store verify: on what a server has left, beside one that is killed, and on damaged stores, where each damage
# must be found.  Sourced by run.

CORRUPT=$BUILDDIR/tests/tools/corrupt
python_tools

# cluster FILE DIR: a configuration with both stores in DIR.
cluster() {
    cat >"$1" <<EOF
log: {level: warn}
services: {frontend: {rpc: {grpcPort: $PORT}}, history: {}, matching: {}, worker: {}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 8
  datastores:
    main: {plugin: sqlite, path: $2/main.db}
    search: {plugin: sqlite, path: $2/search.db}
authorization: {claimMapper: {plugin: none}, authorizer: {plugin: allow_all}}
plugins: {dirs: [$PLUGINS]}
namespaces: {create: [default]}
EOF
}

# serve_cluster FILE: sets SERVER_PID.
serve_cluster() {
    "$SERVER" --config "$1" >>"$WORK/server.log" 2>&1 &
    SERVER_PID=$!
    TN_PIDS+=("$SERVER_PID")
    wait_port "$PORT" "$SERVER_PID" "$WORK/server.log"
}

# work ROUND: a server's life: runs of every sort.
work() {
    "$PYTHON" "$here/populate.py" "127.0.0.1:$PORT" "$1" >"$WORK/populate.out" 2>&1
}

define_attributes() {
    "$REFERENCE" operator search-attribute create --address "127.0.0.1:$PORT" --name SdkKeyword --type Keyword \
        --name SdkInt --type Int
}

free_port PORT
mkdir -p "$WORK/one" "$WORK/two"
cluster "$WORK/one.yaml" "$WORK/one"
cluster "$WORK/two.yaml" "$WORK/two"
run 2 store verify
run 2 store verify --config "$WORK/one.yaml" --threads 0
run 1 store verify --config "$WORK/one.yaml"
says "there is no cluster record: no server has used this store"
rm -f "$WORK"/one/*

check "the server starts" serve_cluster "$WORK/one.yaml"
check "attributes" define_attributes
check "first work" work 1
stop_server "$SERVER_PID"
run 0 store verify --config "$WORK/one.yaml"
says "violations                  0"
says "looked at again             0"
check "there are runs" test "$(awk '/^runs/ { print $2 }' "$WORK/out")" -ge 20
check "there are snapshots" test "$(awk '/^snapshots/ { print $2 }' "$WORK/out")" -ge 1
cp -r "$WORK/one/." "$WORK/sound"

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
