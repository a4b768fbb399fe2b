# SPDX-License-Identifier: MIT
# tenonctl schema, and what a server says whose store has another schema.  Sourced by run.

LEDGER=$HELPERS/ledger.so
# config NAME LINE...: further keys of the ledger's stanza.
config() {
    local file=$WORK/$1 line
    shift
    cat >"$file" <<EOF
persistence:
  defaultStore: main
  visibilityStore: search
  datastores:
    main:
      plugin: $LEDGER
      path: $WORK/pages
EOF
    for line in "$@"; do echo "      $line"; done >>"$file"
    cat >>"$file" <<EOF
    search:
      plugin: sqlite
      path: ":memory:"
    spare:
      plugin: $LEDGER
      path: $WORK/spare
authorization:
  claimMapper: {plugin: none}
  authorizer: {plugin: allow_all}
plugins:
  dirs: [$PLUGINS, $HELPERS]
services:
  frontend: {rpc: {grpcPort: $LEDGER_PORT}}
EOF
}
free_port LEDGER_PORT
config c.yaml
config knows2.yaml "knows: 2"
config lies.yaml "wrong: lies"
config away.yaml "wrong: away"
config differs.yaml "wrong: differs"
config place.yaml "wrong: place"
config ink.yaml "wrong: ink"
config typo.yaml "knws: 2"
C=$WORK/c.yaml

# serve FILE: what tenond says when it must not start.
serve() {
    ran="tenond --config $1"
    timeout 20 "$SERVER" --config "$1" >"$WORK/out" 2>"$WORK/err"
    check "$ran ends with 1" test $? = 1
}

run 2
complains "schema version"
run 0 --help
says "schema setup"
run 2 schema
run 0 schema --help
says "tenonctl schema update --config FILE"
run 2 schema versoin
complains 'did you mean "schema version"?'
run 0 schema setup --help
says "--dry-run"
run 2 schema version
complains "--config is missing"
run 2 schema version --confg "$C"
complains "did you mean --config?"
run 2 schema version --config "$C" --dry-run
run 2 schema version --config "$C" --store main --all
run 2 schema setup --config "$C" --to three
complains "wants a number"
run 1 schema version --config "$WORK/none.yaml"
run 1 schema version --config "$C" --store mian
complains 'datastore "mian" is not defined'
run 1 schema version --config "$WORK/typo.yaml"
complains "typo.yaml:8:"
complains "knows"

# nothing there
run 1 schema version --config "$C"
says 'search: visibility plugin "sqlite": keeps its schema itself'
complains "c.yaml:6: persistence.datastores.main.plugin:"
complains 'persistence plugin "ledger": there is no schema yet, version 3 is wanted'
complains "fix: tenonctl schema setup --config $C --store main"
run 1 schema check --config "$C"
run 1 schema update --config "$C"
complains "fix: tenonctl schema setup --config"
serve "$C"
complains 'persistence plugin "'
complains "there is no schema yet, version 3 is wanted"
complains "c.yaml:6: "
complains "fix: tenonctl schema setup --config $C --store main"

# a dry run writes nothing
run 0 schema setup --config "$C" --to 2 --dry-run
says "CREATE PAGE p2;"
check "two steps" test "$(grep -c CREATE "$WORK/out")" = 2
complains "nothing was changed"
check "statements only, but for comments" test "$(grep -vc '^CREATE\|^WRITE\|^--' "$WORK/out")" = 0
check "no file was made" test ! -e "$WORK/pages"
run 1 schema setup --config "$C" --to 4
complains "knows schemas up to version 3, not 4"
run 1 schema setup --config "$WORK/lies.yaml"
complains "it said that all went well, but schema version 0 is stored, not 3"

# setup, update
run 0 schema setup --config "$C" --to 2
says "schema version 2 (was 0)"
run 0 schema setup --config "$C" --to 2
says "nothing to do"
run 1 schema version --config "$C"
complains "schema version 2 is older than 3"
complains "fix: tenonctl schema update --config $C --store main"
serve "$C"
complains "schema version 2 is stored, version 3 is wanted"
complains "fix: tenonctl schema update --config $C --store main"
run 1 schema setup --config "$C"
complains "fix: tenonctl schema update"
run 1 schema update --config "$C" --to 1
complains "it is not taken back to 1"
run 0 schema update --config "$C" --dry-run
says "CREATE PAGE p3;"
run 0 schema update --config "$C"
says "schema version 3 (was 2)"
run 0 schema update --config "$C"
says "nothing to do"
run 0 schema version --config "$C"
says "schema version 3, as wanted"
silent
run 0 schema check --config "$C"
says "nothing differs"
run 1 schema check --config "$WORK/differs.yaml"
says "main: page p1: has 3 columns, wants 4"
says "main: index i: is missing"

# newer than the plugin
run 1 schema version --config "$WORK/knows2.yaml"
complains "schema version 3 is newer than 2"
run 1 schema update --config "$WORK/knows2.yaml"
complains "it is not taken back to 2"
serve "$WORK/knows2.yaml"
complains "schema version 3 is stored, version 2 is wanted"
complains "fix: install the release of the plugin that made it"

# other reasons are told as they are
serve "$WORK/ink.yaml"
complains "there is no ink"
serve "$WORK/away.yaml"
complains "nobody answers at 192.0.2.1:99"
run 1 schema version --config "$WORK/away.yaml"
complains "away.yaml:6: "
complains "nobody answers at 192.0.2.1:99"
run 1 schema version --config "$WORK/place.yaml"
complains "place.yaml:7: persistence.datastores.main.path: is on the moon"

# which stores
run 0 schema dump --config "$C"
says "CREATE PAGE p3;"
complains 'search: visibility plugin "sqlite": keeps its schema itself'
run 0 schema dump --config "$C" --to 1 --store main
check "one step" test "$(grep -c CREATE "$WORK/out")" = 1
run 1 schema version --config "$C" --all
complains "persistence.datastores.spare.plugin: persistence plugin"
complains "persistence.datastores.spare.plugin: visibility plugin"
run 0 schema setup --config "$C" --store spare
says 'spare: persistence plugin "ledger": schema version 3 (was 0)'
says 'spare: visibility plugin "ledger": schema version 3 (was 0)'
run 0 schema version --config "$C" --all
# a second visibility store is used, too
sed 's/^  visibilityStore: search/&\n  secondaryVisibilityStore: spare/' "$C" >"$WORK/second.yaml"
rm "$WORK/spare.search"
run 1 schema version --config "$WORK/second.yaml"
complains 'persistence.datastores.spare.plugin: visibility plugin "ledger": there is no schema yet'
run 0 schema setup --config "$WORK/second.yaml"
says 'spare: visibility plugin "ledger": schema version 3 (was 0)'
