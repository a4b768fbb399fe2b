# SPDX-License-Identifier: MIT
# SIGTERM with somebody waiting for a result: the one who waits is told what there is, and the server ends, though it
# would give calls ten minutes.  Sourced by run.

[ -n "${PYTHON:-}" ] || . "$here/common.bash"

mkdir -p "$WORK/drain"
cluster "$WORK/drain.yaml" "$WORK/drain"
echo "rpc: {drainTimeout: 10m}" >>"$WORK/drain.yaml"
check "the server that drains starts" serve_cluster "$WORK/drain.yaml"
check "a run that nobody works on" "$REFERENCE" workflow start --address "127.0.0.1:$PORT" --type none --task-queue none \
    --workflow-id waits
"$REFERENCE" workflow result --address "127.0.0.1:$PORT" --workflow-id waits >/dev/null 2>&1 &
TN_PIDS+=($!)
polled() { ss -Htn "sport = :$PORT" | grep -q ESTAB; }
for _ in $(seq 300); do
    polled && break
    sleep 0.1
done
check "somebody waits" polled
kill -TERM "$SERVER_PID"
ended() {
    for _ in $(seq 600); do
        kill -0 "$SERVER_PID" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
check "the server ends while somebody waits for a result" ended
kill -9 "$SERVER_PID" "${TN_PIDS[-1]}" 2>/dev/null
wait "$SERVER_PID" "${TN_PIDS[-1]}" 2>/dev/null
