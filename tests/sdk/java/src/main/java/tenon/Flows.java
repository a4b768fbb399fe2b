// SPDX-License-Identifier: MIT
package tenon;

import io.temporal.activity.Activity;
import io.temporal.activity.ActivityExecutionContext;
import io.temporal.activity.ActivityInterface;
import io.temporal.activity.ActivityCancellationType;
import io.temporal.activity.ActivityOptions;
import io.temporal.activity.LocalActivityOptions;
import io.temporal.api.common.v1.WorkflowExecution;
import io.temporal.api.enums.v1.ParentClosePolicy;
import io.temporal.client.ActivityCompletionException;
import io.temporal.common.RetryOptions;
import io.temporal.common.SearchAttributeKey;
import io.temporal.failure.ActivityFailure;
import io.temporal.failure.ApplicationFailure;
import io.temporal.failure.CanceledFailure;
import io.temporal.failure.ChildWorkflowFailure;
import io.temporal.failure.TimeoutFailure;
import io.temporal.workflow.Async;
import io.temporal.workflow.CancelExternalWorkflowException;
import io.temporal.workflow.CancellationScope;
import io.temporal.workflow.ChildWorkflowOptions;
import io.temporal.workflow.ChildWorkflowStub;
import io.temporal.workflow.ExternalWorkflowStub;
import io.temporal.workflow.Promise;
import io.temporal.workflow.QueryMethod;
import io.temporal.workflow.SignalExternalWorkflowException;
import io.temporal.workflow.SignalMethod;
import io.temporal.workflow.Workflow;
import io.temporal.workflow.WorkflowInterface;
import io.temporal.workflow.WorkflowMethod;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/** The workflows and activities that the worker of Main runs. */
final class Flows {
    /** Task tokens of activities that are completed elsewhere, by a key that the test chose. */
    static final Map<String, byte[]> ASYNC_TOKENS = new ConcurrentHashMap<>();

    static final SearchAttributeKey<String> KEYWORD = SearchAttributeKey.forKeyword("SdkKeyword");
    static final SearchAttributeKey<Long> NUMBER = SearchAttributeKey.forLong("SdkInt");

    private Flows() {}

    // ---- activities ----------------------------------------------------------------------------

    @ActivityInterface
    public interface Acts {
        String echo(String value);

        int failUntil(int goodFrom, String type, boolean last);

        String beatThenFail();

        void hang();

        void beatUntilCanceled();

        String completeElsewhere(String key);
    }

    static final class ActsImpl implements Acts {
        @Override
        public String echo(String value) {
            return "echo " + value;
        }

        @Override
        public int failUntil(int goodFrom, String type, boolean last) {
            int attempt = Activity.getExecutionContext().getInfo().getAttempt();
            if (goodFrom > 0 && attempt >= goodFrom) {
                return attempt;
            }
            throw last
                    ? ApplicationFailure.newNonRetryableFailure("attempt " + attempt, type)
                    : ApplicationFailure.newFailure("attempt " + attempt, type);
        }

        @Override
        public String beatThenFail() {
            ActivityExecutionContext context = Activity.getExecutionContext();
            Optional<String> details = context.getHeartbeatDetails(String.class);
            if (details.isPresent()) {
                return details.get();
            }
            context.heartbeat("half way");
            throw ApplicationFailure.newFailure("again", "Again");
        }

        @Override
        public void hang() {
            Activity.getExecutionContext().heartbeat("last words");
            pause(15000);
        }

        @Override
        public void beatUntilCanceled() {
            for (int i = 0; i < 300; i++) {
                try {
                    Activity.getExecutionContext().heartbeat(i);
                } catch (ActivityCompletionException error) {
                    throw error;
                }
                pause(100);
            }
        }

        @Override
        public String completeElsewhere(String key) {
            ActivityExecutionContext context = Activity.getExecutionContext();
            context.doNotCompleteOnReturn();
            ASYNC_TOKENS.put(key, context.getTaskToken());
            return null;
        }
    }

    static void pause(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    static Acts acts(int attempts) {
        return Workflow.newActivityStub(Acts.class, ActivityOptions.newBuilder()
                .setStartToCloseTimeout(Duration.ofSeconds(20))
                .setRetryOptions(RetryOptions.newBuilder().setInitialInterval(Duration.ofMillis(100))
                        .setBackoffCoefficient(1).setMaximumAttempts(attempts).setDoNotRetry("Never").build())
                .build());
    }

    // ---- workflows -----------------------------------------------------------------------------

    @WorkflowInterface
    public interface Hello {
        @WorkflowMethod
        String run(String name);
    }

    public static final class HelloImpl implements Hello {
        @Override
        public String run(String name) {
            return acts(1).echo(name);
        }
    }

    @WorkflowInterface
    public interface Retried {
        @WorkflowMethod
        int run(int goodFrom, int attempts, String type, boolean last);
    }

    public static final class RetriedImpl implements Retried {
        @Override
        public int run(int goodFrom, int attempts, String type, boolean last) {
            return acts(attempts).failUntil(goodFrom, type, last);
        }
    }

    @WorkflowInterface
    public interface Resumes {
        @WorkflowMethod
        String run();
    }

    public static final class ResumesImpl implements Resumes {
        @Override
        public String run() {
            return acts(2).beatThenFail();
        }
    }

    /** Runs the hanging activity under one of the four time-outs, and tells which it met. */
    @WorkflowInterface
    public interface TimesOut {
        @WorkflowMethod
        String run(String which);
    }

    public static final class TimesOutImpl implements TimesOut {
        @Override
        public String run(String which) {
            ActivityOptions.Builder options = ActivityOptions.newBuilder()
                    .setStartToCloseTimeout(Duration.ofSeconds(20))
                    .setRetryOptions(RetryOptions.newBuilder().setMaximumAttempts(1).build());
            Duration second = Duration.ofSeconds(1);
            switch (which) {
                case "START_TO_CLOSE" -> options.setStartToCloseTimeout(second);
                case "SCHEDULE_TO_CLOSE" -> options.setScheduleToCloseTimeout(second);
                case "SCHEDULE_TO_START" -> options.setScheduleToStartTimeout(second)
                        .setTaskQueue("nobody-" + Workflow.getInfo().getWorkflowId());
                default -> options.setHeartbeatTimeout(second);
            }
            try {
                Workflow.newActivityStub(Acts.class, options.build()).hang();
            } catch (ActivityFailure error) {
                return ((TimeoutFailure) error.getCause()).getTimeoutType().name().replace("TIMEOUT_TYPE_", "");
            }
            return "none";
        }
    }

    @WorkflowInterface
    public interface Elsewhere {
        @WorkflowMethod
        String run(String key);
    }

    public static final class ElsewhereImpl implements Elsewhere {
        @Override
        public String run(String key) {
            return acts(1).completeElsewhere(key);
        }
    }

    @WorkflowInterface
    public interface Waiting {
        @WorkflowMethod
        List<String> run();

        @SignalMethod
        void add(String value);

        @SignalMethod
        void end();

        @QueryMethod
        List<String> items();

        @QueryMethod
        String broken();
    }

    public static final class WaitingImpl implements Waiting {
        private final List<String> items = new ArrayList<>();
        private boolean ended;

        @Override
        public List<String> run() {
            Workflow.await(() -> ended);
            return items;
        }

        @Override
        public void add(String value) {
            items.add(value);
        }

        @Override
        public void end() {
            ended = true;
        }

        @Override
        public List<String> items() {
            return items;
        }

        @Override
        public String broken() {
            throw new IllegalStateException("query on fire");
        }
    }

    @WorkflowInterface
    public interface Timers {
        @WorkflowMethod
        List<Boolean> run();
    }

    public static final class TimersImpl implements Timers {
        @Override
        public List<Boolean> run() {
            long began = Workflow.currentTimeMillis();
            Workflow.sleep(Duration.ofMillis(300));
            boolean slept = Workflow.currentTimeMillis() - began >= 300;
            List<Promise<Void>> timers = new ArrayList<>();
            CancellationScope scope =
                    Workflow.newCancellationScope(() -> timers.add(Workflow.newTimer(Duration.ofHours(1))));
            scope.run();
            Workflow.sleep(Duration.ofMillis(10));
            scope.cancel();
            boolean canceled = false;
            try {
                timers.get(0).get();
            } catch (CanceledFailure error) {
                canceled = true;
            }
            return List.of(slept, canceled, Workflow.await(Duration.ofMillis(200), () -> false));
        }
    }

    @WorkflowInterface
    public interface Parent {
        @WorkflowMethod
        String run(String kind, String id, String policy);
    }

    public static final class ParentImpl implements Parent {
        @Override
        public String run(String kind, String id, String policy) {
            ChildWorkflowOptions.Builder options = ChildWorkflowOptions.newBuilder().setWorkflowId(id);
            if (!policy.isEmpty()) {
                options.setParentClosePolicy(ParentClosePolicy.valueOf("PARENT_CLOSE_POLICY_" + policy));
            }
            ChildWorkflowStub child = Workflow.newUntypedChildWorkflowStub(kind, options.build());
            try {
                Promise<String> result = child.executeAsync(String.class, "kid");
                WorkflowExecution started = child.getExecution().get();
                return policy.isEmpty() ? result.get() : started.getRunId();
            } catch (ChildWorkflowFailure error) {
                Throwable cause = error.getCause();
                return cause instanceof ApplicationFailure failure
                        ? "failed: " + failure.getOriginalMessage()
                        : "failed: " + cause.getClass().getSimpleName();
            }
        }
    }

    @WorkflowInterface
    public interface Fails {
        @WorkflowMethod
        String run(String ignored);
    }

    public static final class FailsImpl implements Fails {
        @Override
        public String run(String ignored) {
            throw ApplicationFailure.newFailure("on purpose", "Purpose", "detail");
        }
    }

    @WorkflowInterface
    public interface FailsUntil {
        @WorkflowMethod
        int run(int goodFrom);
    }

    public static final class FailsUntilImpl implements FailsUntil {
        @Override
        public int run(int goodFrom) {
            int attempt = Workflow.getInfo().getAttempt();
            if (attempt < goodFrom) {
                throw ApplicationFailure.newFailure("attempt " + attempt, "Not yet");
            }
            return attempt;
        }
    }

    /** Waits for its activity to notice the cancellation, cleans up, and ends canceled. */
    @WorkflowInterface
    public interface Cancelable {
        @WorkflowMethod
        void run();
    }

    public static final class CancelableImpl implements Cancelable {
        @Override
        public void run() {
            Acts acts = Workflow.newActivityStub(Acts.class, ActivityOptions.newBuilder()
                    .setStartToCloseTimeout(Duration.ofMinutes(1)).setHeartbeatTimeout(Duration.ofSeconds(3))
                    .setCancellationType(ActivityCancellationType.WAIT_CANCELLATION_COMPLETED).build());
            try {
                acts.beatUntilCanceled();
            } catch (ActivityFailure error) {
                Workflow.newDetachedCancellationScope(() -> acts(1).echo("cleanup")).run();
                throw error;
            }
        }
    }

    @WorkflowInterface
    public interface Reaches {
        @WorkflowMethod
        String run(String target, String what);
    }

    public static final class ReachesImpl implements Reaches {
        @Override
        public String run(String target, String what) {
            ExternalWorkflowStub stub = Workflow.newUntypedExternalWorkflowStub(target);
            try {
                if (what.equals("signal")) {
                    stub.signal("add", "from outside");
                } else {
                    stub.cancel();
                }
            } catch (ApplicationFailure | SignalExternalWorkflowException | CancelExternalWorkflowException error) {
                return "refused";
            }
            return "done";
        }
    }

    @WorkflowInterface
    public interface Again {
        @WorkflowMethod
        boolean run(int left);
    }

    public static final class AgainImpl implements Again {
        @Override
        public boolean run(int left) {
            if (left > 0) {
                Workflow.continueAsNew(left - 1);
            }
            return Workflow.getInfo().getContinuedExecutionRunId().isPresent();
        }
    }

    @WorkflowInterface
    public interface Sleeps {
        @WorkflowMethod
        String run(String ignored);
    }

    public static final class SleepsImpl implements Sleeps {
        @Override
        public String run(String ignored) {
            Workflow.sleep(Duration.ofMinutes(1));
            return "slept";
        }
    }

    /** Leaves every kind of marker that the SDK knows. */
    @WorkflowInterface
    public interface Markers {
        @WorkflowMethod
        List<String> run();
    }

    public static final class MarkersImpl implements Markers {
        @Override
        public List<String> run() {
            int side = Workflow.sideEffect(Integer.class, () -> 7);
            int mutable = Workflow.mutableSideEffect("m", Integer.class, (a, b) -> !Objects.equals(a, b), () -> 8);
            int version = Workflow.getVersion("change", Workflow.DEFAULT_VERSION, 2);
            Acts local = Workflow.newLocalActivityStub(Acts.class, LocalActivityOptions.newBuilder()
                    .setStartToCloseTimeout(Duration.ofSeconds(5))
                    .setRetryOptions(RetryOptions.newBuilder().setInitialInterval(Duration.ofMillis(10))
                            .setMaximumAttempts(3).build())
                    .build());
            Promise<String> echo = Async.function(local::echo, "local");
            String out = echo.get();
            int attempt = local.failUntil(2, "x", false);
            Workflow.sleep(Duration.ofMillis(20));
            return List.of(side + " " + mutable + " " + version, out, String.valueOf(attempt));
        }
    }

    @WorkflowInterface
    public interface Upserts {
        @WorkflowMethod
        String run();
    }

    public static final class UpsertsImpl implements Upserts {
        @Override
        public String run() {
            Workflow.upsertTypedSearchAttributes(KEYWORD.valueSet("java"), NUMBER.valueSet(42L));
            Workflow.upsertMemo(Map.of("added", 3));
            return Workflow.getTypedSearchAttributes().get(KEYWORD);
        }
    }

    static final Class<?>[] WORKFLOWS = {HelloImpl.class, RetriedImpl.class, ResumesImpl.class, TimesOutImpl.class,
        ElsewhereImpl.class, WaitingImpl.class, TimersImpl.class, ParentImpl.class, FailsImpl.class,
        FailsUntilImpl.class, CancelableImpl.class, ReachesImpl.class, AgainImpl.class, SleepsImpl.class,
        MarkersImpl.class, UpsertsImpl.class};
}
