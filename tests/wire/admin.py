# SPDX-License-Identifier: MIT
# admin.py TENOND PORT [OPTION...], or admin.py --server ADDRESS (a new one, of any number of hosts): what tdbg asks beyond operators.py: histories as they were written, task queues'
# partitions, what is kept for them, queues of what failed, and what is refused; and the same asked wrongly.
import os
import shutil
import subprocess
import sys
import tempfile
import time

import grpc

ADMIN = "/temporal.server.api.adminservice.v1.AdminService/"
WORKFLOW = "/temporal.api.workflowservice.v1.WorkflowService/"
Code = grpc.StatusCode
passed = failed = 0


def varint(n):
    out = b""
    n &= (1 << 64) - 1
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
            size = 8 if tag & 7 == 1 else 4
            out.append((tag >> 3, data[at:at + size]))
            at += size
    return out


def many(data, wanted):
    return [value for number, value in fields(data) if number == wanted]


def one(data, *path):
    for wanted in path:
        data = next(iter(many(data, wanted)), b"")
    return data


def check(name, good, told=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print(f"FAIL {name}: {told}")


def call(path, request=b""):
    """The answer's bytes, or the error."""
    try:
        return channel.unary_unary(path)(request, timeout=30)
    except grpc.RpcError as error:
        return error


def admin(method, request=b""):
    return call(ADMIN + method, request)


def works(name, method, request=b""):
    answer = admin(method, request)
    check(name, isinstance(answer, bytes), answer)
    return answer if isinstance(answer, bytes) else b""


def refused(name, method, request, code, words=""):
    answer = admin(method, request)
    check(name, not isinstance(answer, bytes) and answer.code() == code and words in answer.details(), answer)


def start(workflow_id, queue):
    request = (field(1, "default") + field(2, workflow_id) + field(3, field(1, "T")) + field(4, field(1, queue)) +
               field(9, "me") + field(10, "r-" + workflow_id))
    return one(call(WORKFLOW + "StartWorkflowExecution", request), 1).decode()


def signal(workflow_id, name):
    return call(WORKFLOW + "SignalWorkflowExecution",
                field(1, "default") + field(2, field(1, workflow_id)) + field(3, name) + field(5, "me") +
                field(6, workflow_id + name))


def execution(workflow_id, run_id=""):
    return field(1, workflow_id) + (field(2, run_id) if run_id else b"")


HISTORY = "GetWorkflowExecutionRawHistoryV2"


def history(ns_id, run, first=0, end=1 << 62, page=100, token=b""):
    return (field(2, execution("h", run)) + field(3, first) + field(5, end) + field(7, page) +
            (field(8, token) if token else b"") + field(9, ns_id))


def event_ids(answer):
    return [[one(event, 1) for event in many(one(blob, 2), 1)] for blob in many(answer, 2)]


def histories(ns_id):
    run = start("h", "hq")
    for i in range(5):
        signal("h", f"s{i}")
    whole = works("a history as it was written", HISTORY, history(ns_id, run))
    batches = [[1, 2], [3], [4], [5], [6], [7]]
    check("its batches", event_ids(whole) == batches, event_ids(whole))
    check("the same of the current run", event_ids(works("no run id", HISTORY, history(ns_id, ""))) == batches)
    check("no more pages", one(whole, 1) == b"", one(whole, 1))
    check("its version history", one(whole, 3, 2, 1) == 7, whole[:80])
    part = works("a part", HISTORY, history(ns_id, run, 2, 5))
    check("bounds are exclusive", event_ids(part) == [[3], [4]], event_ids(part))
    check("nothing between", event_ids(works("an empty part", HISTORY, history(ns_id, run, 4, 5))) == [])
    check("nothing past the end", event_ids(works("a late part", HISTORY, history(ns_id, run, 1000))) == [])
    old = works("the older call", "GetWorkflowExecutionRawHistory",
                field(1, ns_id) + field(2, execution("h", run)) + field(3, 3) + field(5, 5) + field(7, 9))
    check("its bounds are inclusive", event_ids(old) == [[3], [4], [5]], event_ids(old))
    seen, token = [], b""
    for _ in range(10):
        page = works("a page", HISTORY, history(ns_id, run, page=2, token=token))
        seen += event_ids(page)
        token = one(page, 1)
        if not token:
            break
    check("pages", seen == batches, seen)
    page = works("a first page", HISTORY, history(ns_id, run, page=1))
    token = bytearray(one(page, 1))
    token[3] ^= 1
    refused("a forged token", HISTORY, history(ns_id, run, token=bytes(token)), Code.INVALID_ARGUMENT, "NextPageToken")
    refused("a huge token", HISTORY, history(ns_id, run, token=b"x" * 100000), Code.INVALID_ARGUMENT, "NextPageToken")
    other = start("h2", "hq")
    refused("another run's token", HISTORY,
            field(2, execution("h2", other)) + field(5, 9) + field(7, 1) + field(8, one(page, 1)) + field(9, ns_id),
            Code.INVALID_ARGUMENT, "NextPageToken")
    refused("no page size", HISTORY, history(ns_id, run, page=0), Code.INVALID_ARGUMENT, "PageSize")
    refused("a negative start", HISTORY, history(ns_id, run, first=-3), Code.INVALID_ARGUMENT, "FirstEventID")
    refused("another version", HISTORY, history(ns_id, run) + field(4, 7), Code.INVALID_ARGUMENT, "version")
    refused("no execution", HISTORY, field(7, 1) + field(9, ns_id), Code.INVALID_ARGUMENT)
    refused("a run id that is none", HISTORY, history(ns_id, "abc"), Code.INVALID_ARGUMENT, "RunId")
    refused("a run that is none", HISTORY, history(ns_id, "01234567-89ab-4def-8123-456789abcdef"), Code.NOT_FOUND)
    refused("a namespace that is none", HISTORY, history("nobody", run), Code.NOT_FOUND)


def tasks_of(queue, extra=b""):
    answer = works(f"tasks of {queue}", "GetTaskQueueTasks", field(1, "default") + field(2, queue) + field(3, 1) + extra)
    return [one(task, 1, 2).decode() for task in many(answer, 1)], one(answer, 2)


def partition(queue, number=0, type_=1):
    return field(1, "default") + field(2, field(1, queue) + field(2, type_) + field(3, number))


def queues():
    runs = [start(f"q{i}", "line") for i in range(5)]
    names = [f"q{i}" for i in range(5)]
    check("what waits", tasks_of("line") == (names, b""), tasks_of("line"))
    answer = works("one task", "GetTaskQueueTasks", field(1, "default") + field(2, "line") + field(3, 1) + field(6, 1))
    check("its run and event", one(answer, 1, 1, 3).decode() == runs[0] and one(answer, 1, 1, 4) == 2, answer)
    seen, token = [], b""
    for _ in range(10):
        page, token = tasks_of("line", field(6, 2) + (field(7, token) if token else b""))
        seen += page
        if not token:
            break
    check("pages of tasks", seen == names, seen)
    check("a range of places", tasks_of("line", field(4, 2) + field(5, 4))[0] == ["q1", "q2"], tasks_of("line"))
    check("an unknown queue", tasks_of("nothing") == ([], b""))
    check("another subqueue", tasks_of("line", field(8, 3)) == ([], b""))
    tasks = field(1, "default") + field(2, "line")
    refused("no type", "GetTaskQueueTasks", tasks, Code.INVALID_ARGUMENT, "TaskQueueType")
    refused("a type that is none", "GetTaskQueueTasks", tasks + field(3, 77), Code.INVALID_ARGUMENT, "TaskQueueType")
    refused("an odd token", "GetTaskQueueTasks", tasks + field(3, 1) + field(7, b"abc"), Code.INVALID_ARGUMENT, "Token")
    refused("a huge token of tasks", "GetTaskQueueTasks", tasks + field(3, 1) + field(7, b"x" * 100000),
            Code.INVALID_ARGUMENT, "Token")
    check("a token past the end", tasks_of("line", field(7, b"\xff" * 8)) == ([], b""))
    refused("no queue", "GetTaskQueueTasks", field(1, "default") + field(3, 1), Code.INVALID_ARGUMENT, "TaskQueue")
    refused("a long name", "GetTaskQueueTasks", field(1, "default") + field(2, "n" * 5000) + field(3, 1),
            Code.INVALID_ARGUMENT, "length")
    refused("no namespace", "GetTaskQueueTasks", field(2, "line") + field(3, 1), Code.INVALID_ARGUMENT, "Namespace")

    seen = works("a partition", "DescribeTaskQueuePartition", partition("line"))
    check("its backlog", one(seen, 1, 2, 2, 3, 5) == 5 and one(seen, 1, 2, 2, 2, 1) == 5, seen)
    empty = works("an empty partition", "DescribeTaskQueuePartition", partition("line", 3))
    check("it has drained", one(empty, 1, 2, 2, 3, 11) == 1, empty)
    refused("partition -1", "DescribeTaskQueuePartition", partition("line", -1), Code.INVALID_ARGUMENT, "Partition")
    refused("partition 2^31-1", "DescribeTaskQueuePartition", partition("line", 2**31 - 1), Code.INVALID_ARGUMENT,
            "Partition")
    refused("no partition", "DescribeTaskQueuePartition", field(1, "default"), Code.INVALID_ARGUMENT, "Partition")
    refused("worker commands", "DescribeTaskQueuePartition",
            field(1, "default") + field(2, field(1, "line") + field(2, 1) + field(5, b"")), Code.INVALID_ARGUMENT)

    unload = works("unloading", "ForceUnloadTaskQueuePartition", partition("line"))
    check("it was loaded", one(unload, 1) == 1, unload)
    check("what waited waits still", tasks_of("line") == (names, b""), tasks_of("line"))
    unload = works("unloading nothing", "ForceUnloadTaskQueuePartition", partition("nothing"))
    check("it was not loaded", unload == b"", unload)
    poll = channel.unary_unary(WORKFLOW + "PollWorkflowTaskQueue")
    task = poll(field(1, "default") + field(2, field(1, "line")) + field(3, "worker"), timeout=60)
    check("and is handed out", one(task, 2, 1) == b"q0", task[:60])
    parked = poll.future(field(1, "default") + field(2, field(1, "idle")) + field(3, "worker"), timeout=60)
    until = time.monotonic() + 30
    while not one(works("looking", "DescribeTaskQueuePartition", partition("idle")), 1, 2, 2, 1) and time.monotonic() < until:
        time.sleep(0.01)
    works("unloading under a poll", "ForceUnloadTaskQueuePartition", partition("idle"))
    check("the poll ends empty", parked.result(timeout=30) == b"")

    check("nothing is set", works("settings", "GetTaskQueueUserData", field(1, "default") + field(2, "line")) == b"")
    refused("settings of partition 5000", "GetTaskQueueUserData",
            field(1, "default") + field(2, "line") + field(4, 5000), Code.INVALID_ARGUMENT, "Partition")


def kept(ns_id):
    by_name = works("a namespace by name", "GetNamespace", field(1, "default"))
    check("the same by id", works("by id", "GetNamespace", field(2, ns_id)) == by_name and
          one(by_name, 3, 1) == b"default" and one(by_name, 3, 6).decode() == ns_id, by_name)
    refused("a namespace without a name", "GetNamespace", b"", Code.INVALID_ARGUMENT)
    refused("an unknown namespace", "GetNamespace", field(1, "nobody"), Code.NOT_FOUND)
    added = field(1, field(1, "Colour") + field(2, 2)) + field(4, "default")
    works("a new search attribute", "AddSearchAttributes", added)
    there = works("search attributes", "GetSearchAttributes", field(2, "default"))
    check("it is there", field(1, "Colour") + field(2, 2) in many(there, 1), there)
    works("it goes", "RemoveSearchAttributes", field(1, "Colour") + field(3, "default"))
    there = works("search attributes again", "GetSearchAttributes", field(2, "default"))
    check("it has gone", not many(there, 1) and len(many(there, 2)) > 10, there)
    refused("one that is not there", "RemoveSearchAttributes", field(1, "Shape") + field(3, "default"), Code.NOT_FOUND)
    clusters = works("clusters", "ListClusters")
    check("there is one", len(many(clusters, 1)) == 1 and one(clusters, 1, 2) > 0, clusters)


def failures():
    key = field(1, field(1, 1) + field(2, "active") + field(3, "active"))
    check("no queues of failures", works("queues of failures", "ListQueues", field(1, 2) + field(2, 10)) == b"")
    for method in "GetDLQTasks", "PurgeDLQTasks", "MergeDLQTasks":
        refused(method, method, key, Code.NOT_FOUND, "queue not found:")
        refused(method + " without a key", method, b"", Code.INVALID_ARGUMENT, "DLQ key")
        refused(method + " of nowhere", method, field(1, field(1, 1)), Code.INVALID_ARGUMENT, "source cluster")
    for method in "DescribeDLQJob", "CancelDLQJob":
        refused(method, method, field(1, field(1, "w") + field(2, "r")), Code.NOT_FOUND, "no such job")
        refused(method + " by a bad token", method, field(1, b"\xff\xff\xff"), Code.INVALID_ARGUMENT, "token")
        refused(method + " by none", method, b"", Code.INVALID_ARGUMENT, "token")
    for method in "GetDLQMessages", "PurgeDLQMessages", "MergeDLQMessages":
        works(method, method, field(1, 1))
        refused(method + " of no type", method, b"", Code.INVALID_ARGUMENT, "type")


def refusals():
    for method, code, words in (
            ("RemoveTask", Code.UNIMPLEMENTED, "RefreshWorkflowTasks"),
            ("AddTasks", Code.UNIMPLEMENTED, "follows from its state"),
            ("ImportWorkflowExecution", Code.UNIMPLEMENTED, "global namespace mode"),
            ("MigrateSchedule", Code.UNIMPLEMENTED, "one form"),
            ("AddOrUpdateRemoteCluster", Code.FAILED_PRECONDITION, "does not replicate"),
            ("RemoveRemoteCluster", Code.NOT_FOUND, "cannot be found"),
            ("GenerateLastHistoryReplicationTasks", Code.FAILED_PRECONDITION, "does not replicate"),
            ("GetReplicationMessages", Code.FAILED_PRECONDITION, "does not replicate"),
            ("GetNamespaceReplicationMessages", Code.FAILED_PRECONDITION, "does not replicate"),
            ("GetDLQReplicationMessages", Code.FAILED_PRECONDITION, "does not replicate"),
            ("ReapplyEvents", Code.FAILED_PRECONDITION, "does not replicate"),
            ("ResendReplicationTasks", Code.FAILED_PRECONDITION, "does not replicate"),
            ("SyncWorkflowState", Code.FAILED_PRECONDITION, "does not replicate")):
        refused(method, method, field(1, "default"), code, words)


def archetypes():
    start("kind", "hq")
    state = field(1, "default") + field(2, execution("kind"))
    works("a workflow by its kind", "DescribeMutableState", state + field(4, "workflow.workflow"))
    works("... by the kind's number", "DescribeMutableState", state + field(5, 2918170192))
    refused("a scheduler of that id", "DescribeMutableState", state + field(4, "scheduler.scheduler"), Code.NOT_FOUND)
    refused("no kind at all", "DescribeMutableState", state + field(4, "odd"), Code.INVALID_ARGUMENT, "archetype")
    refused("no number of a kind", "DescribeMutableState", state + field(5, 5), Code.INVALID_ARGUMENT, "archetype")
    deleted = field(1, "default") + field(2, execution("kind"))
    refused("deleting a scheduler", "DeleteWorkflowExecution", deleted + field(3, "scheduler.scheduler"), Code.NOT_FOUND)
    works("deleting", "DeleteWorkflowExecution", deleted)
    until = time.monotonic() + 60
    while isinstance(gone := admin("DescribeMutableState", state), bytes) and time.monotonic() < until:
        time.sleep(0.01)  # the promise is kept by the worker role, at its pace
    check("it has gone", not isinstance(gone, bytes) and gone.code() == Code.NOT_FOUND, gone)
    refused("deleting what is not there", "DeleteWorkflowExecution", field(1, "default") + field(2, execution("nobody")),
            Code.NOT_FOUND)
    refused("deleting nothing", "DeleteWorkflowExecution", field(1, "default"), Code.INVALID_ARGUMENT)


def batches():
    names = [f"b{i}" for i in range(3)]
    for name in names:
        start(name, "bq")
    call(WORKFLOW + "TerminateWorkflowExecution", field(1, "default") + field(2, field(1, "b2")) + field(3, "over"))
    job = field(1, "default") + field(4, "why") + field(10, b"")
    chosen = b"".join(field(5, execution(name)) for name in names)
    works("a batch of refreshes", "StartAdminBatchOperation", job + field(3, "job") + chosen)
    until = time.monotonic() + 60
    while True:
        seen = call(WORKFLOW + "DescribeBatchOperation", field(1, "default") + field(2, "job"))
        if one(seen, 3) != 1 or time.monotonic() > until:
            break
        time.sleep(0.01)
    check("it is done", one(seen, 3) == 2 and one(seen, 7) == 3 and not one(seen, 8), seen)
    refused("the job again", "StartAdminBatchOperation", job + field(3, "job") + chosen, Code.ALREADY_EXISTS)
    refused("no id", "StartAdminBatchOperation", job + chosen, Code.INVALID_ARGUMENT, "JobId")
    refused("no runs", "StartAdminBatchOperation", job + field(3, "j2"), Code.INVALID_ARGUMENT, "Executions")
    refused("no operation", "StartAdminBatchOperation", field(1, "default") + field(4, "why") + field(3, "j2") + chosen,
            Code.INVALID_ARGUMENT, "Operation")
    refused("runs and a query", "StartAdminBatchOperation", job + field(3, "j2") + field(2, "WorkflowId='b0'") + chosen,
            Code.INVALID_ARGUMENT, "exclusive")
    refused("a query that is none", "StartAdminBatchOperation", job + field(3, "j2") + field(2, "((("), Code.INVALID_ARGUMENT)
    unset = field(1, "default") + field(3, "j3") + field(4, "why") + b"".join(field(5, execution(n)) for n in names)
    client = call(WORKFLOW + "StartBatchOperation", unset)
    check("no client may ask for it", not isinstance(client, bytes) and client.code() == Code.INVALID_ARGUMENT, client)


def rebuilds():
    run = start("r", "rq")
    state = field(1, "default") + field(2, execution("r", run))
    poll = channel.unary_unary(WORKFLOW + "PollWorkflowTaskQueue")
    for i in range(120):  # past a snapshot
        signal("r", f"s{i}")
    task = poll(field(1, "default") + field(2, field(1, "rq")) + field(3, "worker"), timeout=60)
    for i in range(5):  # which wait for the end of the task
        signal("r", f"t{i}")
    before = works("a state", "DescribeMutableState", state)
    works("a state made anew", "RebuildMutableState", state)
    after = works("a new state", "DescribeMutableState", state)
    check("it is as before", one(before, 4) == one(after, 4) and one(after, 4, 9), (before, after))
    done = call(WORKFLOW + "RespondWorkflowTaskCompleted", field(1, one(task, 1)) + field(9, "default"))
    check("the worker's task still counts", isinstance(done, bytes), done)
    check("signals go on", isinstance(signal("r", "more"), bytes))
    works("the current run's", "RebuildMutableState", field(1, "default") + field(2, execution("r")))
    call(WORKFLOW + "TerminateWorkflowExecution", field(1, "default") + field(2, field(1, "r")) + field(3, "over"))
    works("a closed one", "RebuildMutableState", state)
    closed = works("its state", "DescribeMutableState", state)
    check("it is closed", one(closed, 4, 8, 3) == 3, closed[:80])
    refused("none", "RebuildMutableState", field(1, "default") + field(2, execution("nobody")), Code.NOT_FOUND)
    refused("another's run", "RebuildMutableState", field(1, "default") + field(2, execution("nobody", run)), Code.NOT_FOUND)
    refused("nothing", "RebuildMutableState", field(1, "default"), Code.INVALID_ARGUMENT)
    refused("no run id", "RebuildMutableState", field(1, "default") + field(2, execution("r", "x")), Code.INVALID_ARGUMENT)


def play():
    info = call("/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace", field(1, "default"))
    ns_id = one(info, 1, 6).decode()
    histories(ns_id)
    queues()
    kept(ns_id)
    failures()
    refusals()
    archetypes()
    batches()
    rebuilds()


def alone(tenond, port, options):
    """Plays with a server of its own."""
    global channel
    folder = tempfile.mkdtemp(prefix="tenon-admin.")
    log = open(os.path.join(folder, "log"), "w")
    process = subprocess.Popen([tenond, "start-dev", "--ip", "127.0.0.1", "--port", port, "--log-level", "warn", *options],
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
        shutil.rmtree(folder)


if sys.argv[1] == "--server":
    with grpc.insecure_channel(sys.argv[2]) as channel:
        play()
else:
    alone(sys.argv[1], sys.argv[2], sys.argv[3:])
print(f"admin: {passed} passed, {failed} failed")
sys.exit(failed != 0)
