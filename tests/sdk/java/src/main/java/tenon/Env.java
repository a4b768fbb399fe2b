// SPDX-License-Identifier: MIT
package tenon;

import io.temporal.api.common.v1.WorkflowExecution;
import io.temporal.api.history.v1.HistoryEvent;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowOptions;
import io.temporal.client.WorkflowStub;
import java.util.List;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.BooleanSupplier;

/** What every case leans on: the client, ids, and the runs that were started. */
final class Env {
    final WorkflowClient client;
    final String word = "java" + UUID.randomUUID().toString().substring(0, 8);
    final String queue = word + "-queue";
    final Queue<WorkflowExecution> started = new ConcurrentLinkedQueue<>();

    Env(WorkflowClient client) {
        this.client = client;
    }

    String id(String what) {
        return word + "-" + what + "-" + UUID.randomUUID().toString().substring(0, 6);
    }

    void track(WorkflowExecution execution) {
        started.add(execution);
    }

    WorkflowOptions.Builder options() {
        return WorkflowOptions.newBuilder().setWorkflowId(id("w")).setTaskQueue(queue);
    }

    WorkflowStub start(String kind, Object... args) {
        return startWith(options(), kind, args);
    }

    WorkflowStub startWith(WorkflowOptions.Builder options, String kind, Object... args) {
        WorkflowOptions built = options.build();
        WorkflowStub stub = client.newUntypedWorkflowStub(kind, built);
        track(stub.start(args));
        // The same options may serve twice.
        options.setWorkflowId(id("w"));
        return stub;
    }

    <T> T run(String kind, Class<T> result, Object... args) {
        return start(kind, args).getResult(result);
    }

    List<HistoryEvent> events(WorkflowExecution execution) {
        return client.fetchHistory(execution.getWorkflowId(), execution.getRunId()).getEvents();
    }

    void until(String what, BooleanSupplier test) {
        long end = System.nanoTime() + 20_000_000_000L;
        while (!test.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not in time: " + what);
            }
            Flows.pause(50);
        }
    }
}
