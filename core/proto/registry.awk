# SPDX-License-Identifier: MIT
# Writes registry.c: every message by its full name, every method by its path, both sorted; and the methods' HTTP
# bindings (google.api.http), as they stand in the files.
# Reads the descriptor set as text (kind=text), then the generated .pb-c.c files (kind=c).

# Text form: two spaces of indent a level; only file and service members matter here.
kind == "text" && /^  package: / { pkg = $2; gsub(/"/, "", pkg); next }
kind == "text" && /^file \{/ { pkg = ""; next }
kind == "text" && /^  service \{/ { in_service = 1; next }
kind == "text" && /^  \}/ { in_service = 0; next }
kind == "text" && in_service && /^    name: / { service = pkg "." unquote($2); next }
kind == "text" && in_service && /^    method \{/ { in_method = 1; flags = "0"; next }
kind == "text" && in_method && /^      name: / { method = unquote($2); next }
kind == "text" && in_method && /^      input_type: / { input = substr(unquote($2), 2); next }
kind == "text" && in_method && /^      output_type: / { output = substr(unquote($2), 2); next }
kind == "text" && in_method && /^      client_streaming: true/ { flags = flags " | TN_METHOD_CLIENT_STREAM"; next }
kind == "text" && in_method && /^      server_streaming: true/ { flags = flags " | TN_METHOD_SERVER_STREAM"; next }
kind == "text" && in_method && /^ +\[google\.api\.http\] \{/ { next }
kind == "text" && in_method && /^          +(get|put|post|delete|patch): / {
    verb = toupper($1); sub(/:/, "", verb)
    b_verb[++n_bindings] = verb; b_pattern[n_bindings] = unquote($2)
    next
}
# Before or behind its pattern: the first binding of a method stands at an indent of 10, the others at 12.
kind == "text" && in_method && /^          +body: / { b_body[n_bindings] = unquote($2); next }
kind == "text" && in_method && /^          +(response_body|custom)/ {
    print "registry.awk: " method ": a kind of HTTP binding that core/http does not know" > "/dev/stderr"
    failed = 1
}
kind == "text" && in_method && /^    \}/ {
    for (; b_done < n_bindings; b_done++)
        b_path[b_done + 1] = "/" service "/" method
    in_method = 0
    path = "/" service "/" method
    methods[++n_methods] = path
    m_service[path] = service; m_name[path] = method
    m_in[path] = input; m_out[path] = output; m_flags[path] = flags
    next
}

kind == "c" && FNR == 1 { header = FILENAME; sub(/\.c$/, ".h", header); headers[++n_headers] = header }
kind == "c" && /^const ProtobufCMessageDescriptor / { c_name = $3; wait = 2; next }
kind == "c" && wait > 0 && /^  "/ {
    full = $1; gsub(/[",]/, "", full)
    c_of[full] = c_name; names[++n_names] = full; wait = 0
    next
}

function unquote(s) { gsub(/"/, "", s); return s }
# The lists are nearly sorted and short; a heap would be longer than what it saves.
function sort(list, n,   i, j, x, gap) {
    for (gap = int(n / 2); gap > 0; gap = int(gap / 2))
        for (i = gap + 1; i <= n; i++) {
            x = list[i]
            for (j = i - gap; j > 0 && list[j] > x; j -= gap)
                list[j + gap] = list[j]
            list[j + gap] = x
        }
}

END {
    sort(names, n_names)
    sort(methods, n_methods)
    print "/* Made by registry.awk from the .proto files. */"
    print "#include \"proto/registry.h\""
    for (i = 1; i <= n_headers; i++)
        print "#include \"" headers[i] "\""
    print "\nconst tn_message_entry tn_message_table[] = {"
    for (i = 1; i <= n_names; i++)
        print "    { \"" names[i] "\", &" c_of[names[i]] " },"
    print "};\nconst size_t tn_message_count = " n_names ";"
    print "\nconst tn_method tn_method_table[] = {"
    for (i = 1; i <= n_methods; i++) {
        p = methods[i]
        if (!(m_in[p] in c_of) || !(m_out[p] in c_of)) {
            print "registry.awk: " p ": message type not generated" > "/dev/stderr"
            failed = 1
            continue
        }
        printf "    { \"%s\", \"%s\", \"%s\", &%s, &%s, %s },\n", p, m_service[p], m_name[p], \
            c_of[m_in[p]], c_of[m_out[p]], m_flags[p]
    }
    print "};\nconst size_t tn_method_count = " n_methods ";"
    print "\nconst tn_http_binding tn_http_binding_table[] = {"
    for (i = 1; i <= n_bindings; i++)
        printf "    { \"%s\", \"%s\", \"%s\", \"%s\" },\n", b_verb[i], b_pattern[i], b_body[i], b_path[i]
    print "    { 0 }\n};\nconst size_t tn_http_binding_count = " n_bindings + 0 ";"
    if (failed || n_names == 0 || n_methods == 0)
        exit 1
}
