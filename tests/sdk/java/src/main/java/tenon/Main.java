// SPDX-License-Identifier: MIT
package tenon;

import io.grpc.StatusRuntimeException;
import io.temporal.api.common.v1.WorkflowExecution;
import io.temporal.api.enums.v1.EventType;
import io.temporal.api.enums.v1.IndexedValueType;
import io.temporal.api.history.v1.HistoryEvent;
import io.temporal.api.operatorservice.v1.AddSearchAttributesRequest;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowClientOptions;
import io.temporal.common.WorkflowExecutionHistory;
import io.temporal.serviceclient.OperatorServiceStubs;
import io.temporal.serviceclient.OperatorServiceStubsOptions;
import io.temporal.serviceclient.WorkflowServiceStubs;
import io.temporal.serviceclient.WorkflowServiceStubsOptions;
import io.temporal.testing.WorkflowReplayer;
import io.temporal.worker.Worker;
import io.temporal.worker.WorkerFactory;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * The Java SDK against a server: real scenarios, then a replay of every history that they made.
 *
 * <p>--address HOST:PORT [--namespace NS] [--only WORD]. One line a case, "java: N passed, N failed" at the end.
 */
public final class Main {
    private static final int AT_ONCE = 12;
    private static final int CASE_LIMIT_S = 60;
    private static final int RUN_LIMIT_S = 240;
    private static int passed;
    private static int failed;

    private Main() {}

    private static synchronized void say(String name, String why) {
        if (why == null) {
            passed++;
            System.out.println("ok " + name);
        } else {
            failed++;
            System.out.println("not ok " + name + ": " + why.replaceAll("\\s+", " "));
        }
    }

    private static synchronized void close() {
        System.out.println("java: " + passed + " passed, " + failed + " failed");
        System.out.flush();
        Runtime.getRuntime().halt(failed > 0 ? 1 : 0);
    }

    private static String describe(Throwable error) {
        StringBuilder text = new StringBuilder(error.toString());
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getFileName() != null && frame.getFileName().equals("Cases.java")) {
                text.append(" at line ").append(frame.getLineNumber());
            }
        }
        return error.getCause() == null ? text.toString() : text + " <- " + error.getCause();
    }

    private static void addSearchAttributes(String address, String namespace) {
        OperatorServiceStubs stubs = OperatorServiceStubs.newServiceStubs(
                OperatorServiceStubsOptions.newBuilder().setTarget(address).validateAndBuildWithDefaults());
        for (Map.Entry<String, IndexedValueType> one : Map.of(
                "SdkKeyword", IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                "SdkInt", IndexedValueType.INDEXED_VALUE_TYPE_INT).entrySet()) {
            try {
                stubs.blockingStub().addSearchAttributes(AddSearchAttributesRequest.newBuilder()
                        .setNamespace(namespace).putSearchAttributes(one.getKey(), one.getValue()).build());
            } catch (StatusRuntimeException error) {
                if (!error.getMessage().toLowerCase().contains("already exist")) {
                    System.out.println("# cannot add search attribute " + one.getKey() + ": " + error.getMessage());
                }
            }
        }
        stubs.shutdownNow();
    }

    /** The runs that an event leads to: children, and next runs of the chain. */
    private static void follow(WorkflowExecution of, HistoryEvent event, Deque<WorkflowExecution> todo) {
        if (event.hasChildWorkflowExecutionStartedEventAttributes()) {
            todo.add(event.getChildWorkflowExecutionStartedEventAttributes().getWorkflowExecution());
        }
        for (String next : List.of(
                event.getWorkflowExecutionCompletedEventAttributes().getNewExecutionRunId(),
                event.getWorkflowExecutionFailedEventAttributes().getNewExecutionRunId(),
                event.getWorkflowExecutionTimedOutEventAttributes().getNewExecutionRunId(),
                event.getWorkflowExecutionContinuedAsNewEventAttributes().getNewExecutionRunId())) {
            if (!next.isEmpty()) {
                todo.add(of.toBuilder().setRunId(next).build());
            }
        }
    }

    /** This SDK's replayer knows no WORKFLOW_EXECUTION_TERMINATED; no workflow ever gets to see that event. */
    private static WorkflowExecutionHistory withoutTermination(WorkflowExecutionHistory history) {
        List<HistoryEvent> events = history.getEvents();
        int last = events.size() - 1;
        if (events.get(last).getEventType() != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED) {
            return history;
        }
        return new WorkflowExecutionHistory(
                history.getHistory().toBuilder().removeEvents(last).build(),
                history.getWorkflowExecution().getWorkflowId());
    }

    /** Every history that can be reached from what was started, through the SDK's replayer. */
    private static void replay(Env env) {
        Deque<WorkflowExecution> todo = new ArrayDeque<>(env.started);
        Set<WorkflowExecution> seen = new HashSet<>();
        int bad = 0;
        int count = 0;
        while (!todo.isEmpty()) {
            WorkflowExecution next = todo.pop();
            if (!seen.add(next)) {
                continue;
            }
            WorkflowExecutionHistory history = env.client.fetchHistory(next.getWorkflowId(), next.getRunId());
            history.getEvents().forEach(event -> follow(next, event, todo));
            if (history.getEvents().stream().noneMatch(
                    event -> event.getEventType() == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)) {
                continue; // nothing was decided yet
            }
            history = withoutTermination(history);
            count++;
            try {
                WorkflowReplayer.replayWorkflowExecution(history, Flows.WORKFLOWS[0],
                        java.util.Arrays.copyOfRange(Flows.WORKFLOWS, 1, Flows.WORKFLOWS.length));
            } catch (Exception error) {
                bad++;
                say("replay of " + next.getWorkflowId() + " " + next.getRunId(), describe(error));
            }
        }
        say("replay of " + count + " histories", bad > 0 || count == 0 ? bad + " failed" : null);
    }

    private static void runCases(Env env, String only) throws InterruptedException {
        ExecutorService lanes = Executors.newFixedThreadPool(AT_ONCE);
        Map<String, Future<?>> running = new java.util.LinkedHashMap<>();
        Cases.ALL.forEach((name, action) -> {
            if (name.contains(only)) {
                running.put(name, lanes.submit(() -> {
                    action.run(env);
                    return null;
                }));
            }
        });
        List<String> names = new ArrayList<>(running.keySet());
        for (String name : names) {
            try {
                running.get(name).get(CASE_LIMIT_S, TimeUnit.SECONDS);
                say(name, null);
            } catch (java.util.concurrent.ExecutionException error) {
                say(name, describe(error.getCause()));
            } catch (java.util.concurrent.TimeoutException error) {
                say(name, "not over in time");
            }
        }
        lanes.shutdownNow();
    }

    public static void main(String[] args) throws Exception {
        String address = "127.0.0.1:7233";
        String namespace = "default";
        String only = "";
        for (int i = 0; i + 1 < args.length; i += 2) {
            switch (args[i]) {
                case "--address" -> address = args[i + 1];
                case "--namespace" -> namespace = args[i + 1];
                case "--only" -> only = args[i + 1];
                default -> throw new IllegalArgumentException(args[i]);
            }
        }
        Thread watchdog = new Thread(() -> {
            Flows.pause(RUN_LIMIT_S * 1000L);
            say("the whole run", "not over in time");
            close();
        });
        watchdog.setDaemon(true);
        watchdog.start();
        long began = System.nanoTime();
        try {
            WorkflowServiceStubs service = WorkflowServiceStubs.newServiceStubs(
                    WorkflowServiceStubsOptions.newBuilder().setTarget(address).build());
            addSearchAttributes(address, namespace);
            Env env = new Env(WorkflowClient.newInstance(
                    service, WorkflowClientOptions.newBuilder().setNamespace(namespace).build()));
            WorkerFactory factory = WorkerFactory.newInstance(env.client);
            Worker worker = factory.newWorker(env.queue);
            worker.registerWorkflowImplementationTypes(Flows.WORKFLOWS);
            worker.registerActivitiesImplementations(new Flows.ActsImpl());
            factory.start();
            runCases(env, only);
            factory.shutdownNow();
            replay(env);
        } catch (Throwable error) {
            say("the whole run", describe(error));
        }
        System.err.printf("# %.1f s%n", (System.nanoTime() - began) / 1e9);
        close();
    }
}
