# SPDX-License-Identifier: MIT
# Sourced by run: as a new user would, an authorizer that denies one workflow type (the template with one key), and a claim
# mapper for a header of his own (the template with a small patch), in one server.
changed() {
    "$tenonctl" plugin new claimmapper acme-user && (cd acme-user && patch -s <"$here/acme/acme-user.patch") &&
        sed -i '/ key:/d' acme-user/keys.yaml
}
if command -v patch >/dev/null && [ -f kit-c-authorizer/kit-c-authorizer.so ]; then
    check "acme: the template changed for a header of one's own" changed
    check "acme: keeps its contract" make -s -C acme-user check CFLAGS="-O2 -Werror"
    check "acme: is installed" make -s -C acme-user install plugindir="$SAFE/plugins" man7dir="$WORK/man7"
    config acme "{plugin: sqlite, path: $WORK/acme.db}" "{plugin: sqlite, path: $WORK/acme-v.db}" \
        '  authHeaderName: X-Acme-User
  claimMapper:
    plugin: acme-user
    users: [{name: alice, grants: ["temporal-system:admin"]}, {name: bob, grants: ["default:read"]}]
  authorizer: {plugin: kit-c-authorizer, denyWorkflowTypes: [DropEverything]}'
    check "acme: the server starts" serve acme
    HEADER=x-acme-user
    check "acme: a workflow is started" start alice Order a-1
    check "acme: one of the denied type is not" says "$no" start alice DropEverything a-2
    check "acme: a reader lists" gives a-1 cli bob workflow list
    check "acme: and starts nothing" says "$no" start bob Order a-3
    check "acme: nobody else" says "$no" cli mallory workflow list
    HEADER=authorization
    check "acme: the usual header means nothing" says "$no" cli alice workflow list
    check "acme: it ends well" ends_well "$SERVER_PID"
    header_is() {
        sed -i "s/authHeaderName: .*/authHeaderName: $1/" "$WORK/acme.used.yaml"
        says "acme.used.yaml:17: authorization.authHeaderName" "$TENOND" --check-config "$WORK/acme.used.yaml"
    }
    check "acme: a header that is none" header_is '"a header"'
    check "acme: a header of gRPC's" header_is grpc-timeout
else
    echo "kit: no patch or no C here: the changed template is left out"
fi
