// SPDX-License-Identifier: MIT

// The cases: what the Go SDK must be able to do on a Temporal-compatible server.

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/types/known/durationpb"
)

type testCase struct {
	name string
	run  func(*env)
}

var cases = []testCase{
	{"activity result", func(e *env) { e.equal(result[string](e, e.start(Hello, "go")), "echo go") }},
	{"activity retried", func(e *env) { e.equal(result[int32](e, e.start(Retried, 3, 5, "x", false)), 3) }},
	{"activity attempts run out", func(e *env) {
		e.fails(e.start(Retried, 0, 2, "Odd", false), "attempt 2", "Odd")
	}},
	{"activity not retryable by flag", func(e *env) {
		e.fails(e.start(Retried, 0, 5, "Odd", true), "attempt 1", "Odd")
	}},
	{"activity not retryable by type", func(e *env) {
		e.fails(e.start(Retried, 0, 5, "Never", false), "attempt 1", "Never")
	}},
	{"heartbeat details reach the retry", func(e *env) {
		e.equal(result[string](e, e.start(ResumesFromHeartbeat)), "half way")
	}},
	{"activity time-outs", activityTimeouts},
	{"async completion by token", asyncByToken},
	{"async completion by id", asyncByID},
	{"signals and queries", signalsAndQueries},
	{"query of a closed run", queryClosed},
	{"failing queries", failingQueries},
	{"signal with start", signalWithStart},
	{"timers", func(e *env) { e.equal(result[string](e, e.start(Timers)), "true true") }},
	{"child result", func(e *env) { e.equal(result[string](e, e.start(Parent, "Hello", e.id("child"), 0)), "echo kid") }},
	{"child failure", func(e *env) {
		e.contains(result[string](e, e.start(Parent, "Fails", e.id("child"), 0)), "on purpose")
	}},
	{"child already started", childAlreadyStarted},
	{"parent close policies", parentClosePolicies},
	{"external signal and cancel", external},
	{"continue as new", func(e *env) { e.equal(result[string](e, e.start(Again, 3)), "true") }},
	{"workflow retry", workflowRetry},
	{"cron", cron},
	{"cancel", cancel},
	{"terminate", terminate},
	{"id policies", idPolicies},
	{"run time-out", runTimeout},
	{"side effects, versions, local activities", markers},
	{"memo and search attribute upserts", upserts},
	{"a panic, then mended", panics},
	{"evicted from the cache", evicted},
	{"describe", describe},
	{"list and count", listAndCount},
	{"namespaces", namespaces},
}

func activityTimeouts(e *env) {
	runs := map[string]client.WorkflowRun{}
	for _, which := range []string{"StartToClose", "ScheduleToClose", "ScheduleToStart", "Heartbeat"} {
		runs[which] = e.start(TimesOut, which)
	}
	for which, run := range runs {
		want := which
		if which == "Heartbeat" || which == "StartToClose" || which == "ScheduleToClose" {
			want = which + " last words"
		}
		e.equal(result[string](e, run), want)
	}
}

func token(e *env, key string) []byte {
	var found []byte
	e.until("the async activity started", func() bool {
		value, ok := asyncTokens.Load(key)
		if ok {
			found = value.([]byte)
		}
		return ok
	})
	return found
}

func asyncByToken(e *env) {
	key := e.id("async")
	run := e.start(Async, key)
	e.must(e.client.CompleteActivity(e.ctx, token(e, key), "from elsewhere", nil))
	e.equal(result[string](e, run), "from elsewhere")
}

func asyncByID(e *env) {
	key := e.id("async")
	run := e.start(Async, key)
	token(e, key)
	e.must(e.client.RecordActivityHeartbeatByID(e.ctx, e.namespace, run.GetID(), "", "5", "alive"))
	e.must(e.client.CompleteActivityByID(e.ctx, e.namespace, run.GetID(), "", "5", nil,
		temporal.NewApplicationError("from elsewhere", "Afar")))
	e.fails(run, "from elsewhere", "Afar")
}

func (e *env) signal(id, name string, value any) {
	e.must(e.client.SignalWorkflow(e.ctx, id, "", name, value))
}

func (e *env) query(id, name string) []string {
	value, err := e.client.QueryWorkflow(e.ctx, id, "", name)
	e.must(err)
	var out []string
	e.must(value.Get(&out))
	return out
}

func signalsAndQueries(e *env) {
	run := e.start(Waiting)
	want := []string{}
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
		e.signal(run.GetID(), "add", fmt.Sprint(i))
		e.equal(e.query(run.GetID(), "items"), want)
	}
	e.signal(run.GetID(), "end", nil)
	e.equal(result[[]string](e, run), want)
}

func queryClosed(e *env) {
	run := e.start(Waiting)
	e.signal(run.GetID(), "add", "x")
	e.signal(run.GetID(), "end", nil)
	e.must(run.Get(e.ctx, nil))
	e.equal(e.query(run.GetID(), "items"), []string{"x"})
	answer, err := e.client.QueryWorkflowWithOptions(e.ctx, &client.QueryWorkflowWithOptionsRequest{
		WorkflowID: run.GetID(), QueryType: "items", QueryRejectCondition: enumspb.QUERY_REJECT_CONDITION_NOT_OPEN})
	e.must(err)
	e.equal(answer.QueryRejected.GetStatus(), enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
}

func failingQueries(e *env) {
	run := e.start(Waiting)
	for name, text := range map[string]string{"broken": "query on fire", "none": "none"} {
		_, err := e.client.QueryWorkflow(e.ctx, run.GetID(), "", name)
		var failed *serviceerror.QueryFailed
		e.check(errors.As(err, &failed), "%v is no QueryFailed", err)
		e.contains(err.Error(), text)
	}
	e.must(e.client.TerminateWorkflow(e.ctx, run.GetID(), "", ""))
}

func signalWithStart(e *env) {
	id := e.id("sws")
	options := client.StartWorkflowOptions{ID: id, TaskQueue: e.queue}
	first, err := e.client.SignalWithStartWorkflow(e.ctx, id, "add", "one", options, Waiting)
	e.must(err)
	second, err := e.client.SignalWithStartWorkflow(e.ctx, id, "add", "two", options, Waiting)
	e.must(err)
	e.equal(first.GetRunID(), second.GetRunID())
	e.track(id, first.GetRunID())
	e.signal(id, "end", nil)
	e.equal(result[[]string](e, first), []string{"one", "two"})
}

func childAlreadyStarted(e *env) {
	other := e.start(Waiting)
	e.equal(result[string](e, e.start(Parent, "Hello", other.GetID(), 0)), "not started: true")
	e.must(e.client.TerminateWorkflow(e.ctx, other.GetID(), "", ""))
}

func parentClosePolicies(e *env) {
	for policy, want := range map[int]enumspb.WorkflowExecutionStatus{
		1: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, 3: enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED,
		2: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING} {
		child := e.id("left")
		run := result[string](e, e.start(Parent, "Sleeps", child, policy))
		if policy == 2 {
			time.Sleep(500 * time.Millisecond)
		}
		e.until(fmt.Sprint("child is ", want), func() bool {
			found, err := e.client.DescribeWorkflowExecution(e.ctx, child, run)
			e.must(err)
			return found.WorkflowExecutionInfo.Status == want
		})
		if policy == 2 {
			e.must(e.client.TerminateWorkflow(e.ctx, child, "", ""))
		}
	}
}

func external(e *env) {
	target := e.start(Waiting)
	e.equal(result[string](e, e.start(Reaches, target.GetID(), "signal")), "done")
	e.signal(target.GetID(), "end", nil)
	e.equal(result[[]string](e, target), []string{"from outside"})
	e.equal(result[string](e, e.start(Reaches, e.id("nobody"), "signal")), "refused: true")
	e.equal(result[string](e, e.start(Reaches, e.id("nobody"), "cancel")), "refused: true")
	other := e.start(Sleeps)
	e.equal(result[string](e, e.start(Reaches, other.GetID(), "cancel")), "done")
	err := other.Get(e.ctx, nil)
	var canceled *temporal.CanceledError
	e.check(errors.As(err, &canceled), "not canceled: %v", err)
}

func workflowRetry(e *env) {
	policy := &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 1, MaximumAttempts: 3}
	e.equal(result[int](e, e.startWith(client.StartWorkflowOptions{RetryPolicy: policy}, FailsUntil, 3)), 3)
	e.fails(e.startWith(client.StartWorkflowOptions{RetryPolicy: policy}, FailsUntil, 9), "attempt 3", "")
}

func cron(e *env) {
	run := e.startWith(client.StartWorkflowOptions{CronSchedule: "@every 1s"}, Ticks)
	e.until("the third tick", func() bool {
		first := e.history(run.GetID(), "")[0].GetWorkflowExecutionStartedEventAttributes()
		last := first.GetLastCompletionResult().GetPayloads()
		return len(last) == 1 && string(last[0].Data) == "2"
	})
	e.must(e.client.TerminateWorkflow(e.ctx, run.GetID(), "", ""))
}

func cancel(e *env) {
	run := e.start(Cancelable)
	e.untilEvent(run.GetID(), enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	e.must(e.client.CancelWorkflow(e.ctx, run.GetID(), ""))
	err := run.Get(e.ctx, nil)
	var canceled *temporal.CanceledError
	e.check(errors.As(err, &canceled), "not canceled: %v", err)
	kinds := e.kinds(run.GetID())
	e.check(slices.Contains(kinds, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED), "%v", kinds)
}

func terminate(e *env) {
	run := e.start(Waiting)
	e.must(e.client.TerminateWorkflow(e.ctx, run.GetID(), "", "a reason", "detail"))
	err := run.Get(e.ctx, nil)
	var terminated *temporal.TerminatedError
	e.check(errors.As(err, &terminated), "not terminated: %v", err)
	err = e.client.TerminateWorkflow(e.ctx, run.GetID(), "", "")
	var missing *serviceerror.NotFound
	e.check(errors.As(err, &missing), "terminated twice: %v", err)
}

func idPolicies(e *env) {
	id := e.id("policy")
	options := client.StartWorkflowOptions{ID: id, WorkflowExecutionErrorWhenAlreadyStarted: true}
	e.must(e.startWith(options, Hello, "x").Get(e.ctx, nil))
	options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	options.TaskQueue = e.queue
	_, err := e.client.ExecuteWorkflow(e.ctx, options, Hello, "x")
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	e.check(errors.As(err, &already) && already.RunId != "", "not refused: %v", err)
	options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	first := e.startWith(options, Waiting)
	options.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	e.equal(e.startWith(options, Waiting).GetRunID(), first.GetRunID())
	options.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	e.check(e.startWith(options, Waiting).GetRunID() != first.GetRunID(), "the same run")
	e.must(e.client.TerminateWorkflow(e.ctx, id, "", ""))
}

func runTimeout(e *env) {
	run := e.startWith(client.StartWorkflowOptions{WorkflowRunTimeout: time.Second}, Sleeps)
	err := run.Get(e.ctx, nil)
	var timeout *temporal.TimeoutError
	e.check(errors.As(err, &timeout), "no time-out: %v", err)
}

func markers(e *env) {
	run := e.start(Markers)
	e.equal(result[string](e, run), "true 7 2 echo local 2")
	kinds := e.kinds(run.GetID())
	count := 0
	for _, kind := range kinds {
		if kind == enumspb.EVENT_TYPE_MARKER_RECORDED {
			count++
		}
	}
	e.check(count == 5, "%d markers: %v", count, kinds)
}

func upserts(e *env) {
	run := e.startWith(client.StartWorkflowOptions{Memo: map[string]any{"gone": 1}}, Upserts)
	e.equal(result[string](e, run), "gotrue")
	query := fmt.Sprintf("WorkflowId = '%s' AND SdkKeyword = 'go' AND SdkInt = 42", run.GetID())
	e.until(query, func() bool {
		found, err := e.client.ListWorkflow(e.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		e.must(err)
		return len(found.Executions) == 1 && len(found.Executions[0].Memo.GetFields()) == 1
	})
}

func panics(e *env) {
	broken.Store(true)
	run := e.start(Panics)
	e.untilEvent(run.GetID(), enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
	broken.Store(false)
	e.equal(result[string](e, run), "mended")
}

// evicted runs on a worker of its own and empties the cache of all between the steps.
func evicted(e *env) {
	queue := e.id("evicting")
	w := newWorker(e.client, queue)
	e.must(w.Start())
	defer w.Stop()
	run := e.startWith(client.StartWorkflowOptions{TaskQueue: queue}, Steps)
	for i, value := range []string{"a", "b", "c"} {
		e.signal(run.GetID(), "go", value)
		e.equal(len(e.query(run.GetID(), "items")), i+1)
		worker.PurgeStickyWorkflowCache()
	}
	e.equal(result[[]string](e, run), []string{"a", "b", "c"})
}

func describe(e *env) {
	run := e.startWith(client.StartWorkflowOptions{StaticSummary: "a summary"}, Async, e.id("never"))
	e.until("a pending activity", func() bool {
		found, err := e.client.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
		e.must(err)
		e.equal(found.WorkflowExecutionInfo.Type.Name, "Async")
		return len(found.PendingActivities) == 1 && found.PendingActivities[0].ActivityType.Name == "CompleteElsewhere"
	})
	found, err := e.client.DescribeWorkflow(e.ctx, run.GetID(), "")
	e.must(err)
	summary, err := found.GetStaticSummary()
	e.must(err)
	e.equal(summary, "a summary")
	queue, err := e.client.DescribeTaskQueue(e.ctx, e.queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	e.must(err)
	e.check(len(queue.Pollers) > 0, "no pollers")
	e.must(e.client.TerminateWorkflow(e.ctx, run.GetID(), "", ""))
}

func listAndCount(e *env) {
	prefix := e.id("listed")
	for i := range 3 {
		e.startWith(client.StartWorkflowOptions{ID: fmt.Sprint(prefix, "-", i)}, Waiting)
	}
	e.must(e.client.TerminateWorkflow(e.ctx, prefix+"-0", "", ""))
	all := fmt.Sprintf("WorkflowId STARTS_WITH '%s'", prefix)
	query := all + " AND ExecutionStatus = 'Running'"
	count := func(query string) int64 {
		found, err := e.client.CountWorkflow(e.ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		e.must(err)
		return found.Count
	}
	e.until("two of three are running", func() bool { return count(all) == 3 && count(query) == 2 })
	found, err := e.client.ListWorkflow(e.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query})
	e.must(err)
	e.equal(len(found.Executions), 2)
	for i := 1; i < 3; i++ {
		e.must(e.client.TerminateWorkflow(e.ctx, fmt.Sprint(prefix, "-", i), "", ""))
	}
}

func namespaces(e *env) {
	name := e.id("namespace")
	admin, err := client.NewNamespaceClient(client.Options{HostPort: e.address, Logger: quiet{}})
	e.must(err)
	defer admin.Close()
	e.must(admin.Register(e.ctx, &workflowservice.RegisterNamespaceRequest{Namespace: name, Description: "by go",
		WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)}))
	e.until("the namespace", func() bool {
		found, err := admin.Describe(e.ctx, name)
		var missing *serviceerror.NamespaceNotFound
		if errors.As(err, &missing) {
			return false
		}
		e.must(err)
		return found.NamespaceInfo.Description == "by go"
	})
	err = admin.Register(e.ctx, &workflowservice.RegisterNamespaceRequest{Namespace: name,
		WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)})
	var exists *serviceerror.NamespaceAlreadyExists
	e.check(errors.As(err, &exists), "registered twice: %v", err)
}

func prepare(ctx context.Context, c client.Client, namespace string) {
	for name, kind := range map[string]enumspb.IndexedValueType{"SdkKeyword": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"SdkInt": enumspb.INDEXED_VALUE_TYPE_INT} {
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: map[string]enumspb.IndexedValueType{name: kind}})
		if err != nil && !strings.Contains(strings.ToLower(err.Error()), "already exist") {
			fmt.Printf("# cannot add search attribute %s: %v\n", name, err)
		}
	}
}

func (e *env) untilEvent(id string, kind enumspb.EventType) {
	e.until(kind.String(), func() bool { return slices.Contains(e.kinds(id), kind) })
}

func (e *env) kinds(id string) []enumspb.EventType {
	var out []enumspb.EventType
	for _, event := range e.history(id, "") {
		out = append(out, event.EventType)
	}
	return out
}

func (e *env) history(id, run string) []*historypb.HistoryEvent {
	iterator := e.client.GetWorkflowHistory(e.ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	var out []*historypb.HistoryEvent
	for iterator.HasNext() {
		event, err := iterator.Next()
		e.must(err)
		out = append(out, event)
	}
	return out
}
