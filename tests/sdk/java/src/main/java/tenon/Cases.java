// SPDX-License-Identifier: MIT
package tenon;

import io.temporal.api.common.v1.WorkflowExecution;
import io.temporal.api.enums.v1.EventType;
import io.temporal.api.enums.v1.WorkflowIdConflictPolicy;
import io.temporal.api.enums.v1.WorkflowIdReusePolicy;
import io.temporal.client.WorkflowExecutionAlreadyStarted;
import io.temporal.client.WorkflowFailedException;
import io.temporal.client.WorkflowNotFoundException;
import io.temporal.client.WorkflowOptions;
import io.temporal.client.WorkflowQueryException;
import io.temporal.client.WorkflowStub;
import io.temporal.common.RetryOptions;
import io.temporal.failure.ApplicationFailure;
import io.temporal.failure.CanceledFailure;
import io.temporal.failure.TerminatedFailure;
import io.temporal.failure.TimeoutFailure;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** The cases: what the Java SDK must be able to do on a Temporal-compatible server. */
final class Cases {
    interface Case {
        void run(Env env) throws Exception;
    }

    private Cases() {}

    static final Map<String, Case> ALL = new LinkedHashMap<>();

    static {
        ALL.put("activity result", env -> equal("echo java", env.run("Hello", String.class, "java")));
        ALL.put("activity retried", env -> equal(3, env.run("Retried", Integer.class, 3, 5, "x", false)));
        ALL.put("activity attempts run out", Cases::attemptsRunOut);
        ALL.put("activity not retryable", Cases::notRetryable);
        ALL.put("heartbeat details reach the retry",
                env -> equal("half way", env.run("Resumes", String.class)));
        ALL.put("activity time-outs", Cases::timeouts);
        ALL.put("async completion by token and by id", Cases::asyncCompletion);
        ALL.put("signals and queries", Cases::signalsAndQueries);
        ALL.put("failing queries", Cases::failingQueries);
        ALL.put("signal with start", Cases::signalWithStart);
        ALL.put("timers", env -> equal(List.of(true, true, false), env.run("Timers", List.class)));
        ALL.put("children", Cases::children);
        ALL.put("parent close policies", Cases::parentClosePolicies);
        ALL.put("external signal and cancel", Cases::external);
        ALL.put("continue as new", env -> equal(true, env.run("Again", Boolean.class, 3)));
        ALL.put("workflow retry", Cases::workflowRetry);
        ALL.put("cancel", Cases::cancel);
        ALL.put("terminate", Cases::terminate);
        ALL.put("id policies", Cases::idPolicies);
        ALL.put("run time-out", Cases::runTimeout);
        ALL.put("side effects, versions, local activities",
                env -> equal(List.of("7 8 2", "echo local", "2"), env.run("Markers", List.class)));
        ALL.put("memo and search attribute upserts", Cases::upserts);
        ALL.put("describe, list and count", Cases::listAndCount);
    }

    static void check(boolean good, Object why) {
        if (!good) {
            throw new AssertionError(String.valueOf(why));
        }
    }

    static void equal(Object want, Object got) {
        check(want.equals(got), got + ", not " + want);
    }

    /** The reason below the error of a run that must fail. */
    static Throwable failure(WorkflowStub stub) {
        try {
            throw new AssertionError("it did not fail: " + stub.getResult(Object.class));
        } catch (WorkflowFailedException error) {
            return error.getCause();
        }
    }

    static void rejects(Class<? extends Throwable> kind, Case action, Env env) throws Exception {
        try {
            action.run(env);
        } catch (Throwable error) {
            check(kind.isInstance(error), error);
            return;
        }
        throw new AssertionError("no " + kind.getSimpleName());
    }

    private static void attemptsRunOut(Env env) {
        ApplicationFailure cause =
                (ApplicationFailure) failure(env.start("Retried", 0, 2, "Odd", false)).getCause();
        equal("attempt 2 Odd", cause.getOriginalMessage() + " " + cause.getType());
    }

    private static void notRetryable(Env env) {
        for (Object[] args : new Object[][] {{0, 5, "Odd", true}, {0, 5, "Never", false}}) {
            ApplicationFailure cause = (ApplicationFailure) failure(env.start("Retried", args)).getCause();
            equal("attempt 1", cause.getOriginalMessage());
        }
    }

    private static void timeouts(Env env) {
        Map<String, WorkflowStub> stubs = new LinkedHashMap<>();
        for (String which : List.of("START_TO_CLOSE", "SCHEDULE_TO_CLOSE", "SCHEDULE_TO_START", "HEARTBEAT")) {
            stubs.put(which, env.start("TimesOut", which));
        }
        stubs.forEach((which, stub) -> equal(which, stub.getResult(String.class)));
    }

    private static void asyncCompletion(Env env) {
        String key = env.id("async");
        WorkflowStub stub = env.start("Elsewhere", key);
        env.until("the activity started", () -> Flows.ASYNC_TOKENS.containsKey(key));
        env.client.newActivityCompletionClient().complete(Flows.ASYNC_TOKENS.get(key), "by token");
        equal("by token", stub.getResult(String.class));
        String other = env.id("async");
        WorkflowStub second = env.start("Elsewhere", other);
        env.until("the activity started", () -> Flows.ASYNC_TOKENS.containsKey(other));
        String activityId = env.events(second.getExecution()).stream()
                .filter(e -> e.getEventType() == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED).findFirst().get()
                .getActivityTaskScheduledEventAttributes().getActivityId();
        env.client.newActivityCompletionClient().complete(
                second.getExecution().getWorkflowId(), Optional.empty(), activityId, "by id");
        equal("by id", second.getResult(String.class));
    }

    private static void signalsAndQueries(Env env) {
        WorkflowStub stub = env.start("Waiting");
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            sent.add(String.valueOf(i));
            stub.signal("add", String.valueOf(i));
            equal(sent, stub.query("items", List.class));
        }
        stub.signal("end");
        equal(sent, stub.getResult(List.class));
        equal(sent, stub.query("items", List.class));
    }

    private static void failingQueries(Env env) throws Exception {
        WorkflowStub stub = env.start("Waiting");
        rejects(WorkflowQueryException.class, e -> stub.query("broken", String.class), env);
        rejects(WorkflowQueryException.class, e -> stub.query("none", String.class), env);
        stub.terminate("done");
        rejects(WorkflowNotFoundException.class, e -> stub.signal("add", "late"), env);
    }

    private static void signalWithStart(Env env) {
        WorkflowOptions options = env.options().setWorkflowId(env.id("sws")).build();
        WorkflowExecution first = env.client.newUntypedWorkflowStub("Waiting", options)
                .signalWithStart("add", new Object[] {"one"}, new Object[] {});
        WorkflowStub stub = env.client.newUntypedWorkflowStub("Waiting", options);
        equal(first.getRunId(), stub.signalWithStart("add", new Object[] {"two"}, new Object[] {}).getRunId());
        env.track(first);
        stub.signal("end");
        equal(List.of("one", "two"), stub.getResult(List.class));
    }

    private static void children(Env env) {
        equal("echo kid", env.run("Parent", String.class, "Hello", env.id("child"), ""));
        equal("failed: on purpose", env.run("Parent", String.class, "Fails", env.id("child"), ""));
        WorkflowStub other = env.start("Waiting");
        equal("failed: WorkflowExecutionAlreadyStarted", env.run(
                "Parent", String.class, "Hello", other.getExecution().getWorkflowId(), ""));
        other.terminate("done");
    }

    private static void parentClosePolicies(Env env) {
        Map<String, String> wanted =
                Map.of("TERMINATE", "TERMINATED", "REQUEST_CANCEL", "CANCELED", "ABANDON", "RUNNING");
        wanted.forEach((policy, status) -> {
            String child = env.id("left");
            env.run("Parent", String.class, "Sleeps", child, policy);
            WorkflowStub stub = env.client.newUntypedWorkflowStub(child);
            env.until("the child is " + status, () -> stub.describe().getStatus().name().endsWith(status));
            if (policy.equals("ABANDON")) {
                stub.terminate("done");
            }
        });
    }

    private static void external(Env env) {
        WorkflowStub target = env.start("Waiting");
        equal("done", env.run("Reaches", String.class, target.getExecution().getWorkflowId(), "signal"));
        target.signal("end");
        equal(List.of("from outside"), target.getResult(List.class));
        equal("refused", env.run("Reaches", String.class, env.id("nobody"), "signal"));
        equal("refused", env.run("Reaches", String.class, env.id("nobody"), "cancel"));
        WorkflowStub other = env.start("Sleeps", "");
        equal("done", env.run("Reaches", String.class, other.getExecution().getWorkflowId(), "cancel"));
        check(failure(other) instanceof CanceledFailure, "not canceled");
    }

    private static void workflowRetry(Env env) {
        WorkflowOptions.Builder options = env.options().setRetryOptions(RetryOptions.newBuilder()
                .setInitialInterval(Duration.ofMillis(100)).setBackoffCoefficient(1).setMaximumAttempts(3).build());
        equal(3, env.startWith(options, "FailsUntil", 3).getResult(Integer.class));
        ApplicationFailure last = (ApplicationFailure) failure(env.startWith(options, "FailsUntil", 9));
        equal("attempt 3", last.getOriginalMessage());
    }

    private static void cancel(Env env) {
        WorkflowStub stub = env.start("Cancelable");
        env.until("the activity is scheduled", () -> env.events(stub.getExecution()).stream()
                .anyMatch(e -> e.getEventType() == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED));
        stub.cancel();
        check(failure(stub) instanceof CanceledFailure, "not canceled");
    }

    private static void terminate(Env env) throws Exception {
        WorkflowStub stub = env.start("Waiting");
        stub.terminate("a reason", "detail");
        check(failure(stub) instanceof TerminatedFailure, "not terminated");
        rejects(WorkflowNotFoundException.class, e -> stub.terminate("again"), env);
    }

    private static void idPolicies(Env env) throws Exception {
        String id = env.id("policy");
        env.startWith(env.options().setWorkflowId(id), "Hello", "x").getResult(String.class);
        rejects(WorkflowExecutionAlreadyStarted.class, e -> env.startWith(e.options().setWorkflowId(id)
                .setWorkflowIdReusePolicy(WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE),
                "Hello", "x"), env);
        WorkflowStub first = env.startWith(env.options().setWorkflowId(id), "Waiting");
        rejects(WorkflowExecutionAlreadyStarted.class,
                e -> env.startWith(e.options().setWorkflowId(id), "Waiting"), env);
        WorkflowStub same = env.startWith(env.options().setWorkflowId(id).setWorkflowIdConflictPolicy(
                WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING), "Waiting");
        equal(first.getExecution().getRunId(), same.getExecution().getRunId());
        WorkflowStub next = env.startWith(env.options().setWorkflowId(id).setWorkflowIdConflictPolicy(
                WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING), "Waiting");
        check(!next.getExecution().getRunId().equals(first.getExecution().getRunId()), "the same run");
        next.terminate("done");
    }

    private static void runTimeout(Env env) {
        WorkflowStub stub = env.startWith(
                env.options().setWorkflowRunTimeout(Duration.ofSeconds(1)), "Sleeps", "");
        check(failure(stub) instanceof TimeoutFailure, "no time-out");
    }

    private static void upserts(Env env) {
        WorkflowStub stub = env.start("Upserts");
        equal("java", stub.getResult(String.class));
        String query = "WorkflowId = '" + stub.getExecution().getWorkflowId()
                + "' AND SdkKeyword = 'java' AND SdkInt = 42";
        env.until(query, () -> env.client.countWorkflows(query).getCount() == 1);
        equal(3, stub.describe().getMemo("added", Integer.class));
    }

    private static void listAndCount(Env env) {
        String prefix = env.id("listed");
        List<WorkflowStub> stubs = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            stubs.add(env.startWith(env.options().setWorkflowId(prefix + "-" + i), "Waiting"));
        }
        equal("Waiting", stubs.get(0).describe().getWorkflowType());
        stubs.get(0).terminate("done");
        String all = "WorkflowId STARTS_WITH '" + prefix + "'";
        String running = all + " AND ExecutionStatus = 'Running'";
        env.until("two of three run", () -> env.client.countWorkflows(all).getCount() == 3
                && env.client.countWorkflows(running).getCount() == 2);
        equal(2L, env.client.listExecutions(running).count());
        stubs.subList(1, 3).forEach(stub -> stub.terminate("done"));
    }
}
