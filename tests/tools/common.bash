# SPDX-License-Identifier: MIT
# A cluster on files, its server, and work for it.  Sourced by the parts that need one.

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

# What a server has left when it was stopped: $WORK/sound.
mkdir -p "$WORK/one" "$WORK/two"
cluster "$WORK/one.yaml" "$WORK/one"
cluster "$WORK/two.yaml" "$WORK/two"
check "the server starts" serve_cluster "$WORK/one.yaml"
check "attributes" define_attributes
check "first work" work 1
stop_server "$SERVER_PID"
cp -r "$WORK/one/." "$WORK/sound"
