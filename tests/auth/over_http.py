# SPDX-License-Identifier: MIT
"""The same verdicts over HTTP: each binding by each caller against the table that gRPC has given, and a foreign namespace
in every field that a body or a query can hold."""

import os
import sys

from api import is_denied, paths_to, put

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))
from api_http import HttpApi, NoForm  # noqa: E402

FREE = "GetSystemInfo"


class OverHttp:
    """Of enforce.py's Suite: api, callers, table, ids, ports, verdicts, freely."""

    def ask_http(self, calls, changing):
        """calls: (binding, request, metadata). Answers in their order; None where a query cannot say the request. Calls
        of the methods in `changing` come one after the other."""
        begun = []
        for binding, request, metadata in calls:
            try:
                begun.append((binding, binding.begin(request, metadata)))
                if binding.name in changing:
                    begun[-1][1].result()
            except NoForm:
                begun.append((None, None))
        answers = [binding and binding.end(each) for binding, each in begun]
        self.verdicts += sum(answer is not None for answer in answers)
        return answers

    def every_binding_by_every_caller(self, targets, changing, changed):
        self.http = HttpApi(self.api, ("127.0.0.1", int(self.ports[9])))
        denials, calls, at, methods = {}, [], [], set()
        for binding in self.http.bindings:
            methods.add(binding.path)
            for caller, metadata in self.callers.items():
                for index, target in enumerate(targets):
                    request = binding.request_class()
                    if "namespace" in binding.input.fields_by_name:
                        request.namespace = changed.get(target, target) if binding.name in changing else target
                    calls.append((binding, request, metadata))
                    at.append((caller, index))
        for (binding, _, _), (caller, index), answer in zip(calls, at, self.ask_http(calls, changing)):
            wanted = self.table[binding.path][caller][index] == "-"
            assert is_denied(answer) == wanted, f"{binding} {caller} {targets[index]}: {answer[:3]}"
            if wanted:
                denials.setdefault(binding.path, set()).add(answer[:3])
        assert all(len(each) == 1 for each in denials.values()), denials
        self.freely += sum(binding.name == FREE for binding, _, _ in calls)
        assert len(methods) > 90, len(methods)
        print(f"# {len(self.http.bindings)} bindings of {len(methods)} methods, {len(calls)} calls")

    def a_foreign_namespace_over_http(self, names_namespace, told, changing):
        admin, calls, at, wrong, fields = self.callers["admin"], [], [], [], set()
        for binding in self.http.bindings:
            if not binding.pattern.startswith("/api/v1"):
                continue
            for path in paths_to(binding.input, names_namespace):
                for value in ("a", "b"):
                    request = binding.request_class()
                    if "namespace" in binding.input.fields_by_name:
                        request.namespace = "a"
                    by_id = not path[-1].name.endswith("namespace")
                    put(request, path, self.ids[value] if by_id else value)
                    calls.append((binding, request, admin))
                    at.append((value, path))
        for (binding, _, _), (value, path), answer in zip(calls, at, self.ask_http(calls, changing)):
            if answer is None:
                continue
            may = self.table[binding.path]["admin"][0] == "y"
            wanted = not may or (value != "a" and path[-1].full_name not in told)
            fields.add((binding.path, path))
            if is_denied(answer) != wanted:
                wrong.append(f"{binding} {'.'.join(f.name for f in path)} = {value}: {answer[:2]}")
        assert not wrong, "\n".join(wrong)
        assert len(fields) > 60, len(fields)
        print(f"# {len(fields)} fields that hold a namespace, in bodies and queries")
