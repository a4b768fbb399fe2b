# SPDX-License-Identifier: MIT
"""Every binding of the API over HTTP and the same request over gRPC: the answers are the same. First with hardly anything
in it, then with every field filled. Names carry a letter for the port that they are used on (g, h), so that one does not
meet what the other has done; the comparison forgets it."""

import argparse
import re
import sys

import grpc
from api_http import Api, HttpApi, NoForm

DEPTH = 4
VOLATILE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z")
# What one binding's call changes must not be in the way of the others'.
LAST = ("UpdateNamespace", "DeleteNamespace", "RegisterNamespace")


def fill(message, tag, seed, depth=0):
    """A value in each field; of a oneof the seed-th."""
    chosen = {}
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof and len(oneof.fields) > 1:
            chosen.setdefault(oneof.name, oneof.fields[seed % len(oneof.fields)].name)
            if chosen[oneof.name] != field.name:
                continue
        name, kind = field.name, field.type
        if kind == field.TYPE_MESSAGE:
            full = field.message_type.full_name
            if full in ("google.protobuf.Any", "google.protobuf.FieldMask") or depth == DEPTH:
                continue
            if field.message_type.GetOptions().map_entry:
                value = field.message_type.fields_by_name["value"]
                holder = getattr(message, name)
                if value.type == value.TYPE_MESSAGE:
                    fill(holder["key"], tag, seed, depth + 1)
                elif value.type == value.TYPE_STRING:
                    holder["key"] = f"v-{tag}"
                elif value.type == value.TYPE_BYTES:
                    holder["key"] = b"json/plain"
                else:
                    holder["key"] = 1
                continue
            inner = getattr(message, name).add() if field.is_repeated else getattr(message, name)
            if full == "google.protobuf.Duration":
                inner.seconds, inner.nanos = 3, 500000000
            elif full == "google.protobuf.Timestamp":
                inner.seconds, inner.nanos = 1700000000, 123000000
            else:
                inner.SetInParent() if not field.is_repeated else None
                fill(inner, tag, seed, depth + 1)
            continue
        if kind == field.TYPE_STRING:
            value = f"ns-{tag}" if name == "namespace" else f"{name[:20]}-{tag}"
        elif kind == field.TYPE_BYTES:
            value = b"\x00\xff" + name[:3].encode()
        elif kind == field.TYPE_BOOL:
            value = bool(seed % 2) and not name.startswith("wait")
        elif kind == field.TYPE_ENUM:
            values = field.enum_type.values
            value = values[seed % len(values)].number
        elif kind in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
            value = 1.5
        else:
            value = 3
        if field.is_repeated:
            getattr(message, name).append(value)
        else:
            setattr(message, name, value)


def normal(text):
    return re.sub(r"-[gh]\b", "-x", VOLATILE.sub("*", str(text)))


def shape(value):
    """A response as what does not differ between two calls: which fields are there, and their texts."""
    out = []
    for field, each in value.ListFields():
        if field.type == field.TYPE_MESSAGE:
            values = list(each) if field.is_repeated else [each]
            if field.is_repeated and field.message_type.GetOptions().map_entry:
                out.append((field.name, len(values)))
                continue
            out.append((field.name, [shape(v) for v in values]))
        elif field.type in (field.TYPE_STRING, field.TYPE_ENUM, field.TYPE_BOOL):
            out.append((field.name, normal(each)))
        else:
            out.append((field.name,))
    return out


def details(data):
    """The types of an error's details."""
    return sorted(re.findall(rb"type\.googleapis\.com/([\w.]+)", data))


class Suite:
    def __init__(self, arguments):
        self.api = Api(f"127.0.0.1:{arguments.port}", ())
        self.http = HttpApi(self.api, ("127.0.0.1", arguments.http_port))
        self.passed, self.failed, self.called = 0, 0, 0

    def check(self, what, good, why=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        if not good:
            print(f"FAIL {what}: {why}")

    def pair(self, binding, seed):
        requests = {}
        for tag in "gh":
            request = requests[tag] = binding.request_class()
            if seed is not None:
                fill(request, tag, seed)
            if "namespace" in binding.input.fields_by_name:
                request.namespace = f"ns-{tag}"
            for path in binding.taken:  # a path sets the messages that it goes through
                holder = request
                for part in path.split(".")[:-1]:
                    holder = getattr(holder, part)
                    holder.SetInParent()
        metadata = (("grpc-timeout", "3S"),)
        try:
            over_http = binding.end(binding.begin(requests["h"], metadata))
        except NoForm:
            return False
        answers = {"h": over_http, "g": binding.method.end(binding.method.begin(requests["g"], (), 3))}
        for tag, (code, text, data, response) in answers.items():
            same = [code, normal(text), details(data)]
            answers[tag] = same + ([shape(response)] if response is not None else [])
        self.called += 1
        self.check(f"{binding} {binding.name} {seed}", answers["g"] == answers["h"], answers)
        return True

    def run(self):
        for tag in "gh":
            register = self.api.method("RegisterNamespace")
            answer = register.end(register.begin(register.request_class(
                namespace=f"ns-{tag}", workflow_execution_retention_period={"seconds": 86400}), ()))
            assert answer[0] in (grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS), answer
        met = set()
        for binding in sorted(self.http.bindings, key=lambda b: b.name in LAST):
            if self.pair(binding, None):
                met.add(str(binding))
            for seed in (0, 1, 2):
                self.pair(binding, seed)
        self.check("every binding has been called", met == {str(b) for b in self.http.bindings},
                   {str(b) for b in self.http.bindings} - met)
        self.check("there are bindings", len(met) > 200, len(met))
        print(f"# {len(met)} bindings, {self.called} calls")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    suite = Suite(parser.parse_args())
    suite.run()
    print(f"compare: {suite.passed} passed, {suite.failed} failed")
    sys.exit(suite.failed > 0)


if __name__ == "__main__":
    main()
