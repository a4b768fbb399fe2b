# SPDX-License-Identifier: MIT
# tenonctl plugin check and list: sound plugins pass, and each of those that break a rule is found by the case of that rule.
# Sourced by run.

AUTH=$HELPERS/bad_auth.so
STORE=$HELPERS/bad_store.so
KEYS="inner: $PLUGINS/persistence/sqlite.so
path: \"%D/x.db\""

run 2 plugin check
run 2 plugin check "$AUTH" --kind shoe
complains "wants persistence, visibility, claimmapper or authorizer"
run 2 plugin check "$AUTH" --config a --keys b
run 1 plugin check /nowhere.so
run 1 plugin check "$AUTH" --kind persistence
complains "holds no plugin of kind persistence"
run 0 plugin check "$AUTH"
says "0 failed"
run 0 plugin check "$STORE" --keys "$KEYS" conditions fence group order scans paging
says "0 failed"
echo "$KEYS" >"$WORK/keys.yaml"
run 0 plugin check "$STORE" --config "$WORK/keys.yaml" --stress --seconds 1 --tap "put, get"
says "TAP version 13"
says "ok 1 - persistence: put, get, delete"
says "ok 2 - stress: random batches"
says "1..2"

# broken RULE SO CASE TEXT [ARG]...: only that case is run; it must fail and say so.
broken() {
    local rule=$1 so=$2 case=$3 text=$4
    shift 4
    TN_BAD=$rule run 1 plugin check "$so" "$@" "$case"
    ran="$ran (TN_BAD=$rule)"
    says "FAIL"
    says "$text"
}

broken no-verdict "$AUTH" "a verdict for whatever" "rule: TN_OK comes with a verdict"
broken odd-verdict "$AUTH" "a verdict for whatever" "rule: TN_OK comes with a verdict; 7 is none"
broken finishes-twice "$AUTH" "each ends once" "FAIL authorizer: many calls" --kind authorizer
broken finishes-after-ok "$AUTH" "each ends once" "rule: an operation ends exactly once" --kind authorizer
broken odd-status "$AUTH" "a verdict for whatever" "rule: a function returns TN_OK, TN_PENDING or a TN_E..."
broken writes-inputs "$AUTH" "inputs are left alone" "FAIL authorizer: inputs are left alone"
broken trusts-arena "$AUTH" "memory that is full" "FAIL authorizer: an operation's memory that is full"
broken needs-namespace "$AUTH" "a verdict for whatever" "FAIL authorizer: a verdict for whatever"
broken exact-size "$AUTH" "newer host" "FAIL authorizer: structs of a newer host"
broken reason-no-text "$AUTH" "a verdict for whatever" "utf8(d->reason)"
broken moody "$AUTH" "many calls" "calls[i].decision.verdict"
broken odd-roles "$AUTH" "lawful claims" "rule: roles are bits of TN_ROLE_*: grant 0 has 0x4000"
broken odd-system-roles "$AUTH" "lawful claims" "rule: roles are bits of TN_ROLE_*: system roles 0x10"
broken subject-no-text "$AUTH" "lawful claims" "utf8(c->subject)"
broken grants-nowhere "$AUTH" "lawful claims" "c->grants"
broken copies-unbounded "$AUTH" "lawful claims" "FAIL claim mapper: lawful claims for whatever is shown"
broken leaks-descriptors "$AUTH" "leaves no trace" "rule: close gives everything back"
broken leaks-threads "$AUTH" "leaves no trace" "rule: close ends its threads"
broken opens-once "$AUTH" "opened again" "it is open already"
broken opens-once "$AUTH" "side by side" "rule: a reload opens an instance beside the one that serves"
broken dies-together "$AUTH" "side by side" "rule: an instance answers on when another one is closed"
broken odd-keys "$AUTH" "keys are documented" "rule: config_keys holds lines"
broken key-type "$AUTH" "keys are documented" "rule: the type of a key"
broken moves-tables "$AUTH" "no side effects" "entry(0) == first"
broken no-end "$AUTH" "no side effects" "rule: NULL past the last plugin"
broken kind-twice "$AUTH" "table is in order" "rule: one plugin of a kind in a library"

while read -r rule case; do
    broken "$rule" "$STORE" "$case" "FAIL persistence: " --keys "$KEYS"
done <<'EOF'
no-conditions conditions
no-absent conditions
no-version conditions
no-fence a failed fence
fence-is-version a failed fence
conflict-for-fence a failed fence
wrong-condition a failed fence
no-current-row conditions
claims-success conditions
one-version versions rise
get-version versions rise
short-value put, get, delete
empty-for-missing put, get, delete
no-delete put, get, delete
no-range-delete range delete
range-with-end range delete
backwards mutations apply in order
group-of-one members of a group
any-table requests out of the contract
no-reverse scans: order
no-limit scans: order
no-end scans: order
scan-order scans: order
scan-versions random batches
scan-drops-last paging
page-ends paging
any-page requests out of the contract
forgets-some random batches
EOF
for rule in forgets-some no-version no-fence claims-success one-version; do
    TN_BAD=$rule run 1 plugin check "$STORE" --keys "$KEYS" --stress --seconds 2 nothing-of-the-others
    says "FAIL stress"
done

# How a file is linked.
NODELETE=-Wl,-z,nodelete
cc_so() { # cc_so NAME FLAG...
    local name=$1
    shift
    # shellcheck disable=SC2086 # may be empty
    ${CC:-gcc} -std=gnu11 -fPIC -shared -fvisibility=hidden -I"$TN_ROOT/core/abi" -o "$WORK/$name.so" \
        "$here/bad_auth.c" -Wl,-z,now,-z,relro,-z,noexecstack $NODELETE -lpthread "$@" 2>"$WORK/cc.log"
}
linked() { # linked NAME CASE TEXT FLAG...
    local name=$1 case=$2 text=$3
    shift 3
    check "$name builds" cc_so "$name" "$@"
    run 1 plugin check "$WORK/$name.so" "$case"
    says "$text"
}
if command -v "${CC:-gcc}" >/dev/null; then
    check "a sound file builds" cc_so sound-file
    run 0 plugin check "$WORK/sound-file.so"
    linked exporting "exports its entry point only" "it exports helper" -DBAD_EXPORT
    check "an importing file builds" cc_so importing -DBAD_IMPORT
    run 1 plugin check "$WORK/importing.so"
    complains "undefined symbol: tn_vis_stop"
    linked runpath "no RPATH" "rule: no RPATH or RUNPATH" -Wl,-rpath,/tmp
    NODELETE=
    linked unloaded "never unloaded" "rule: code is never unloaded"
    NODELETE=-Wl,-z,nodelete
    linked lazy "bound at load" "rule: symbols are bound at load" -Wl,-z,lazy
    linked stack "no executable stack" "rule: no executable stack" -Wl,-z,execstack
    linked tls "no static TLS" "rule: no static TLS" -DBAD_STATIC_TLS
    linked textrel "no text relocations" "rule: no text relocations" -DBAD_TEXTREL -Wl,-z,notext
else
    echo "tools: no compiler here: how a file is linked is left out"
fi

# ---- list ----

run 0 plugin list --long --plugin-dir "$PLUGINS"
says "sha256    $(sha256sum "$PLUGINS/authorizer/default.so" | cut -d' ' -f1)"
says 'authorizer plugin "default"'
says "  optional schema"
says "  caps     atomic-cross-table"
run 0 plugin list --plugin-dir "$PLUGINS"
says "persistence  sqlite"
says "authorizer   allow_all"
mkdir -p "$WORK/plugins/authorizer" "$WORK/plugins/visibility"
cp "$PLUGINS/authorizer/allow_all.so" "$WORK/plugins/authorizer/"
TENON_PLUGIN_DIR=$WORK/plugins run 0 plugin list --plugin-dir "$WORK/plugins"
cp "$PLUGINS/authorizer/allow_all.so" "$WORK/plugins/visibility/"
run 1 plugin list --plugin-dir "$WORK/plugins"
complains "lies in the folder of another kind"
rm "$WORK/plugins/visibility/allow_all.so"
echo text >"$WORK/plugins/visibility/note.so"
run 1 plugin list --plugin-dir "$WORK/plugins"
complains "is not an ELF file"
run 1 plugin list --plugin-dir "$WORK/nowhere"
complains "fix: name another with --plugin-dir"
