# SPDX-License-Identifier: MIT
"""The API over HTTP as the server's own descriptors bind it: each binding looks like tests/auth/api.py's Method, so that
what is asked over gRPC can be asked here with the same message, and the answers compared."""

import base64
import concurrent.futures
import http.client
import json
import os
import sys
import threading
from urllib.parse import quote, urlencode

import grpc
from google.protobuf import json_format

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "auth"))
from api import Api, fields_of  # noqa: E402

HTTP_RULE = 72295728
VERBS = {2: "GET", 3: "PUT", 4: "POST", 5: "DELETE", 6: "PATCH"}
CODES = {code.value[0]: code for code in grpc.StatusCode}
FULL = "application/json+no-payload-shorthand"
STATUS = {0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501,
          13: 500, 14: 503, 15: 500, 16: 401}


class NoForm(Exception):
    """What a query string cannot say."""


def rule(data):
    """(verb, pattern, body) of a google.api.HttpRule, and of its additional bindings."""
    verb = pattern = None
    body, more = "", []
    for number, value in fields_of(data):
        if number in VERBS:
            verb, pattern = VERBS[number], value.decode()
        elif number == 7:
            body = value.decode()
        elif number == 11:
            more += rule(value)
    return [(verb, pattern, body)] + more


class Binding:
    def __init__(self, api, method, verb, pattern, body):
        self.api, self.method, self.verb, self.pattern, self.body = api, method, verb, pattern, body
        self.name, self.service, self.path = method.name, method.service, method.path
        self.input, self.output = method.input, method.output
        self.request_class, self.response_class = method.request_class, method.response_class
        self.taken = [part.split("}")[0] for part in pattern.split("{")[1:]]

    def __str__(self):
        return f"{self.verb} {self.pattern}"

    def url(self, request):
        where = self.pattern
        for name in self.taken:
            value = request
            for part in name.split("."):
                value = getattr(value, part)
            where = where.replace("{" + name + "}", quote(str(value), safe=""))
        return where

    def pairs(self, message, prefix=""):
        for field, value in message.ListFields():
            name = prefix + field.name
            if name in self.taken:
                continue
            if field.type == field.TYPE_MESSAGE:
                if field.is_repeated:
                    raise NoForm(name)
                kind = field.message_type.full_name
                if kind in ("google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"):
                    yield name, json_format.MessageToDict(value) if kind[-1] != "k" else ",".join(value.paths)
                elif kind.startswith("google.protobuf."):
                    raise NoForm(name)
                else:
                    yield from self.pairs(value, name + ".")
                continue
            for each in value if field.is_repeated else [value]:
                if field.type == field.TYPE_BYTES:
                    each = base64.urlsafe_b64encode(each).decode()
                yield name, str(each).lower() if isinstance(each, bool) else each

    def said(self, request):
        """(URL, body)"""
        if self.body == "*":
            return self.url(request), json.dumps(json_format.MessageToDict(request, descriptor_pool=self.api.pool))
        pairs = urlencode(list(self.pairs(request)))
        return self.url(request) + ("?" + pairs if pairs else ""), None

    def begin(self, request, metadata, timeout=60):
        url, body = self.said(request)
        return self.api.pool_of_threads.submit(self.api.ask_http, self.verb, url, body, dict(metadata), timeout)

    def end(self, begun):
        status, headers, text = begun.result()
        answer = json.loads(text)
        if status == 200:
            response = self.response_class()
            json_format.ParseDict(answer, response, descriptor_pool=self.api.pool)
            return grpc.StatusCode.OK, "", b"", response
        code = answer.get("code", 0)
        assert STATUS[code] == status, f"{self}: {status} {text}"
        return CODES[code], answer.get("message", ""), json.dumps(answer.get("details", [])).encode(), None


class HttpApi:
    """api: tests/auth/api.py's, of the gRPC port."""

    def __init__(self, api, address, threads=32):
        self.grpc, self.pool, self.address = api, api.pool, address
        self.pool_of_threads = concurrent.futures.ThreadPoolExecutor(threads)
        self.local = threading.local()
        self.bindings = []
        for method in api.methods.values():
            options = api.pool.FindMethodByName(method.path[1:].replace("/", ".")).GetOptions().SerializeToString()
            for number, data in fields_of(options):
                if number == HTTP_RULE:
                    self.bindings += [Binding(self, method, *each) for each in rule(data)]

    def ask_http(self, verb, url, body=None, headers=None, timeout=60):
        """(status, headers, text); the connection is kept."""
        headers = dict(headers or {})
        headers.setdefault("content-type", FULL)
        for last in (False, True):
            connection = getattr(self.local, "connection", None)
            if not connection:
                connection = self.local.connection = http.client.HTTPConnection(*self.address, timeout=timeout)
            try:
                connection.request(verb, url, body, headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read().decode()
            except (http.client.HTTPException, ConnectionError):
                self.local.connection = None  # it may have grown old meanwhile
                if last:
                    raise
