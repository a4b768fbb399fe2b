# SPDX-License-Identifier: MIT
# tenonctl store copy: a stopped cluster, one that was cut off in the middle, a running one (with Redis, when this machine
# has it).  Sourced by run.

[ -n "${PYTHON:-}" ] || . "$here/common.bash"

for side in a b c; do
    mkdir -p "$WORK/$side"
    cluster "$WORK/$side.yaml" "$WORK/$side"
done
A=$WORK/a.yaml B=$WORK/b.yaml
sound_again() { rm -rf "$WORK/a" && cp -r "$WORK/sound" "$WORK/a"; }
empty() { rm -rf "$WORK/$1" && mkdir -p "$WORK/$1"; }

run 2 store copy
run 2 store copy --from "$A"
complains "--to is missing"
run 2 store copy --from "$A" --to "$B" --undo
run 1 store copy --from "$A" --to "$B"
complains "the source holds no cluster"

sound_again
empty b
run 0 store copy --from "$A" --to "$B" --verify
says "sums: documents"
check "sums agree" awk '/^sums: rows/ { exit !($3 == $6 && $4 ",")}' "$WORK/out"
says "pass 2: 0 rows"
run 0 store verify --config "$B"
says "violations                  0"
run 1 store copy --from "$A" --to "$B"
complains "the target holds a cluster already"
check "a server takes the copy over" serve_cluster "$B"
check "work goes on upon the copy" work 3
stop_server "$SERVER_PID"
run 0 store verify --config "$B"

# Cut off at a few moments, and taken up again.
for after in 0.05 0.2 0.5; do
    empty b
    timeout -s KILL "$after" "$TENONCTL" store copy --from "$A" --to "$B" --rate 3000 >"$WORK/cut" 2>&1
    if [ $? != 137 ]; then
        check "the copy was cut off after $after s" false
    fi
    if [ -s "$WORK/b/main.db" ] && [ "$after" != 0.05 ]; then
        "$SERVER" --config "$B" >"$WORK/out" 2>"$WORK/err"
        check "no server starts on half a copy ($after)" grep -q "unfinished copy of the datastores of $A" "$WORK/err"
        run 1 store copy --from "$A" --to "$B"
        complains "the target holds a copy that was not finished"
        complains "fix: tenonctl store copy --from $A --to $B --resume"
    fi
    run 0 store copy --from "$A" --to "$B" --resume --verify
    run 0 store verify --config "$B"
done

# The source lives on between two tries.
empty b
timeout -s KILL 0.4 "$TENONCTL" store copy --from "$A" --to "$B" --rate 3000 >"$WORK/cut" 2>&1
check "the source is served again" serve_cluster "$A"
check "it works" work 4
stop_server "$SERVER_PID"
run 0 store copy --from "$A" --to "$B" --resume --verify
run 0 store verify --config "$B"

# Visibility from the records.
rm -f "$WORK"/b/search.db*
run 1 store verify --config "$B" --settle 1ms
run 0 store reindex --config "$B" --settle 1ms
check "documents were made" test "$(awk '/^mended/ { print $2 }' "$WORK/out")" -ge 20
run 0 store verify --config "$B" --settle 1ms
run 0 store reindex --config "$B"
says "mended                      0"

# ---- a running cluster ----

start_redis() { # start_redis VAR_PORT: a durable one in its own folder; sets REDIS_PID
    local dir
    free_port "$1"
    tn_temp dir
    (cd "$dir" && exec redis-server --port "${!1}" --bind 127.0.0.1 --appendonly yes --appendfsync always \
        --no-appendfsync-on-rewrite no --save "" --dir "$dir") >"$dir/log" 2>&1 &
    REDIS_PID=$!
    TN_PIDS+=("$REDIS_PID")
    wait_port "${!1}" "$REDIS_PID" "$dir/log"
}

eventually() { # eventually COMMAND...: within ten seconds
    local i
    for ((i = 0; i < 200; i++)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}

redis_cluster() { # redis_cluster FILE REDIS_PORT DIR
    sed "s|main: {plugin: sqlite.*|main: {plugin: redis, connectAddr: \"127.0.0.1:$2\"}|" \
        <(cluster /dev/stdout "$3") >"$1"
}

if [ ! -f "$PLUGINS/persistence/redis.so" ] || ! command -v redis-server >/dev/null; then
    echo "tools: no redis-server or no redis plugin here: the copy of a running cluster is left out"
else
    empty a
    empty c
    check "redis A" start_redis REDIS_A
    check "redis C" start_redis REDIS_C
    redis_cluster "$WORK/ra.yaml" "$REDIS_A" "$WORK/a"
    redis_cluster "$WORK/rc.yaml" "$REDIS_C" "$WORK/c"
    RA=$WORK/ra.yaml RC=$WORK/rc.yaml
    run 0 schema setup --config "$RA"
    run 0 schema setup --config "$RC"
    check "a server on redis A" serve_cluster "$RA"
    check "attributes" define_attributes
    check "work before" work 5
    # Beside the server that works.
    run 0 store verify --config "$RA" --rows-only
    work 6 &
    working=$!
    sleep 0.5
    run 0 store verify --config "$RA" --rows-only --settle 200ms
    wait "$working"
    work 7 &
    working=$!
    sleep 0.3
    run 0 store copy --from "$RA" --to "$RC" --cutover --verify --rows-only
    says "the source has stood still for"
    check "the old server has lost its shards" grep -q "another process has taken this shard" "$WORK/server.log"
    # It tries to take them back, and is told that they have moved.
    check "the old server is told so" eventually grep -q "the shard has been moved to another store" "$WORK/server.log"
    check "no shard came back" test "$(grep -c 'have been taken again' "$WORK/server.log")" = 0
    kill "$working" 2>/dev/null
    wait "$working" 2>/dev/null
    stop_server "$SERVER_PID"
    "$SERVER" --config "$RA" >"$WORK/out" 2>"$WORK/err"
    ran="tenond on the source"
    complains "it is not to be served: the cluster has been moved to the datastores of $RC"
    run 0 store verify --config "$RC" --rows-only
    check "a server on redis C" serve_cluster "$RC"
    check "work after" work 8
    stop_server "$SERVER_PID"
    run 0 store reindex --config "$RC" --settle 1ms
    run 0 store verify --config "$RC"
    run 0 store copy --from "$RA" --undo
    check "the source may be served again" serve_cluster "$RA"
    stop_server "$SERVER_PID"
    run 0 store verify --config "$RA" --rows-only
fi
