# SPDX-License-Identifier: MIT
# operators.py TENOND PORT: what operators' tools ask of the admin service, as they put it on the wire, and another number
# of shards under their eyes.
import os
import subprocess
import sys
import tempfile
import time

import grpc

tenond, port = sys.argv[1], int(sys.argv[2])
ADMIN = "/temporal.server.api.adminservice.v1.AdminService/"
WORKFLOW = "/temporal.api.workflowservice.v1.WorkflowService/"
passed = failed = 0


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """Number and value of each field of a message."""
    at, out = 0, []

    def number():
        nonlocal at
        shift = value = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = number()
        if tag & 7 == 2:
            size = number()
            out.append((tag >> 3, data[at:at + size]))
            at += size
        elif tag & 7 == 0:
            out.append((tag >> 3, number()))
        else:
            at += 8 if tag & 7 == 1 else 4
    return out


def one(data, *path):
    for wanted in path:
        data = next((value for number, value in fields(data) if number == wanted), b"")
    return data


def check(name, good, told=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print(f"FAIL {name}: {told}")


def call(path, request=b"", code=grpc.StatusCode.OK):
    """The answer's bytes; of an error the text, when it has that code."""
    try:
        answer = channel.unary_unary(path)(request, timeout=20)
        return answer if code == grpc.StatusCode.OK else None
    except grpc.RpcError as error:
        return error.details() if error.code() == code else None


def shard_of_timer(name, shards):
    """The shards that say that they have the workflow's row of the wake index."""
    found = []
    for shard in range(1, shards + 1):
        answer = call(ADMIN + "ListHistoryTasks", field(1, shard) + field(2, 2) + field(4, 100))
        if answer is None:
            return None
        found += [shard for number, task in fields(answer) if number == 1 and one(task, 2) == name.encode()]
    return found


def play():
    cluster = call(ADMIN + "DescribeCluster")
    rings = [one(ring, 1) for number, ring in fields(one(cluster, 3)) if number == 3] if cluster else []
    check("DescribeCluster", rings == [b"frontend", b"history", b"matching", b"worker"] and one(cluster, 6) == 16, cluster)
    members = call(ADMIN + "ListClusterMembers", field(4, 2))
    check("ListClusterMembers", members is not None and [one(m, 1) for n, m in fields(members) if n == 1] == [2], members)
    shard = call(ADMIN + "GetShard", field(1, 3))
    check("GetShard", shard and one(shard, 1, 1) == 3 and one(shard, 1, 2) == 1, shard)
    wrong = call(ADMIN + "GetShard", field(1, 99), grpc.StatusCode.INVALID_ARGUMENT)
    check("GetShard of none", wrong and "1 to 16" in wrong, wrong)
    host = call(ADMIN + "DescribeHistoryHost", field(2, 5))
    check("DescribeHistoryHost", host and one(host, 1) == 16 and one(host, 5) == f"127.0.0.1:{port}".encode(), host)
    health = call(ADMIN + "DeepHealthCheck")
    check("DeepHealthCheck", health and one(health, 1) == 1 and len([1 for n, _ in fields(health) if n == 2]) == 5, health)
    unknown = call(ADMIN + "NoSuchCall", b"", grpc.StatusCode.UNIMPLEMENTED)
    check("what there is not", unknown is not None, unknown)

    start = (field(1, "default") + field(2, "w") + field(3, field(1, "T")) + field(4, field(1, "q")) +
             field(9, "me") + field(10, "r1"))
    run = one(call(WORKFLOW + "StartWorkflowExecution", start), 1)
    execution = field(1, "w")
    state = call(ADMIN + "DescribeMutableState", field(1, "default") + field(2, execution))
    check("DescribeMutableState", state and one(state, 3, 7, 2) == b"w" and one(state, 4, 8, 2) == run and
          one(state, 4, 9) == 3, state)
    ns_id = one(state, 4, 7, 1)
    check("RefreshWorkflowTasks", call(ADMIN + "RefreshWorkflowTasks", field(3, ns_id) + field(2, execution)) == b"")
    missing = call(ADMIN + "DescribeMutableState", field(1, "default") + field(2, field(1, "none")),
                   grpc.StatusCode.NOT_FOUND)
    check("DescribeMutableState of none", missing, missing)
    its = int(one(state, 1))
    check("ListHistoryTasks", shard_of_timer("w", 16) == [its], its)
    check("CloseShard", call(ADMIN + "CloseShard", field(1, its)) == b"")
    deadline = time.monotonic() + 60
    while (ranged := one(call(ADMIN + "GetShard", field(1, its)) or b"", 1, 2)) == 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    check("a closed shard is taken anew", ranged == 2, ranged)
    again = call(ADMIN + "DescribeMutableState", field(1, "default") + field(2, execution))
    check("its runs are as before", again and one(again, 4) == one(state, 4), again)

    odd = call("/tenon.admin.v1.ShardService/SetShards", field(1, 17), grpc.StatusCode.INVALID_ARGUMENT)
    check("17 shards", odd and "16 partitions" in odd, odd)
    made = call("/tenon.admin.v1.ShardService/SetShards", field(1, 64))
    check("64 shards", made and one(made, 3) == 1 and one(made, 2) == 16, made)
    signal = field(1, "default") + field(2, execution) + field(3, "s") + field(5, "me") + field(6, "r2")
    check("a call waits while its shard changes over", call(WORKFLOW + "SignalWorkflowExecution", signal) is not None)
    moved = call(ADMIN + "DescribeMutableState", field(1, "default") + field(2, execution))
    check("the workflow has another shard, and its state", moved and (int(one(moved, 1)) - its) % 16 == 0 and
          one(moved, 4, 9) == 4 and one(moved, 4, 8, 2) == run, moved)
    check("one shard has its timer", shard_of_timer("w", 64) == [int(one(moved, 1))], moved and one(moved, 1))


folder = tempfile.mkdtemp(prefix="tenon-operators.")
log = open(os.path.join(folder, "log"), "w")
process = subprocess.Popen([tenond, "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "warn", *sys.argv[3:]],
                           stdout=log, stderr=log)
try:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        play()
finally:
    process.terminate()
    check("the server ends well", process.wait(60) == 0, process.returncode)
    if failed:
        print(open(log.name).read()[-2000:])
    __import__("shutil").rmtree(folder)
print(f"operators: {passed} passed, {failed} failed")
sys.exit(failed != 0)
