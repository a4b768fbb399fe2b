// SPDX-License-Identifier: MIT

// The workflows and activities that the worker of main.go runs.

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// What activities and tests tell each other outside of the server.
var (
	asyncTokens sync.Map
	broken      atomic.Bool
	sideEffects atomic.Int64
)

// ---- activities --------------------------------------------------------------------------------

func Echo(_ context.Context, value string) (string, error) { return "echo " + value, nil }

func FailUntil(ctx context.Context, goodFrom int32, kind string, final bool) (int32, error) {
	attempt := activity.GetInfo(ctx).Attempt
	if goodFrom > 0 && attempt >= goodFrom {
		return attempt, nil
	}
	return 0, temporal.NewApplicationErrorWithOptions(fmt.Sprintf("attempt %d", attempt), kind,
		temporal.ApplicationErrorOptions{NonRetryable: final, Details: []any{attempt}})
}

func BeatThenFail(ctx context.Context) (string, error) {
	var last string
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &last); err != nil {
			return "", err
		}
		return last, nil
	}
	activity.RecordHeartbeat(ctx, "half way")
	return "", errors.New("again")
}

func Hang(ctx context.Context) error {
	activity.RecordHeartbeat(ctx, "last words")
	select {
	case <-ctx.Done():
	case <-time.After(15 * time.Second):
	}
	return nil
}

func BeatUntilCanceled(ctx context.Context) (string, error) {
	for range 300 {
		activity.RecordHeartbeat(ctx)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return "never told", nil
}

func CompleteElsewhere(ctx context.Context, key string) (string, error) {
	asyncTokens.Store(key, activity.GetInfo(ctx).TaskToken)
	return "", activity.ErrResultPending
}

// ---- workflows ---------------------------------------------------------------------------------

func options(ctx workflow.Context, attempts int32) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond,
			BackoffCoefficient: 1, MaximumAttempts: attempts, NonRetryableErrorTypes: []string{"Never"}},
	})
}

func Hello(ctx workflow.Context, name string) (string, error) {
	var out string
	err := workflow.ExecuteActivity(options(ctx, 1), Echo, name).Get(ctx, &out)
	return out, err
}

func Retried(ctx workflow.Context, goodFrom, attempts int, kind string, final bool) (int32, error) {
	var out int32
	err := workflow.ExecuteActivity(options(ctx, int32(attempts)), FailUntil, int32(goodFrom), kind, final).Get(ctx, &out)
	return out, err
}

func ResumesFromHeartbeat(ctx workflow.Context) (string, error) {
	var out string
	err := workflow.ExecuteActivity(options(ctx, 2), BeatThenFail).Get(ctx, &out)
	return out, err
}

// TimesOut runs the hanging activity under one of the four time-outs, and tells which it met.
func TimesOut(ctx workflow.Context, which string) (string, error) {
	limits := workflow.ActivityOptions{StartToCloseTimeout: 20 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}}
	switch which {
	case "StartToClose":
		limits.StartToCloseTimeout = time.Second
	case "ScheduleToClose":
		limits.ScheduleToCloseTimeout = time.Second
	case "ScheduleToStart":
		limits.ScheduleToStartTimeout = time.Second
		limits.TaskQueue = "nobody-" + workflow.GetInfo(ctx).WorkflowExecution.ID
	case "Heartbeat":
		limits.HeartbeatTimeout = time.Second
	}
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, limits), Hang).Get(ctx, nil)
	var timeout *temporal.TimeoutError
	if !errors.As(err, &timeout) {
		return "", fmt.Errorf("no time-out: %w", err)
	}
	out := timeout.TimeoutType().String()
	if timeout.HasLastHeartbeatDetails() {
		var details string
		if err := timeout.LastHeartbeatDetails(&details); err != nil {
			return "", err
		}
		out += " " + details
	}
	return out, nil
}

func Async(ctx workflow.Context, key string) (string, error) {
	var out string
	err := workflow.ExecuteActivity(options(ctx, 1), CompleteElsewhere, key).Get(ctx, &out)
	return out, err
}

// Waiting collects signals until it is told to end; a query tells what came.
func Waiting(ctx workflow.Context) ([]string, error) {
	items := []string{}
	if err := workflow.SetQueryHandler(ctx, "items", func() ([]string, error) { return items, nil }); err != nil {
		return nil, err
	}
	if err := workflow.SetQueryHandler(ctx, "broken", func() (string, error) {
		return "", errors.New("query on fire")
	}); err != nil {
		return nil, err
	}
	end := false
	selector := workflow.NewSelector(ctx)
	selector.AddReceive(workflow.GetSignalChannel(ctx, "add"), func(c workflow.ReceiveChannel, _ bool) {
		var value string
		c.Receive(ctx, &value)
		items = append(items, value)
	})
	selector.AddReceive(workflow.GetSignalChannel(ctx, "end"), func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		end = true
	})
	for !end || selector.HasPending() {
		selector.Select(ctx)
	}
	return items, nil
}

func Timers(ctx workflow.Context) (string, error) {
	began := workflow.Now(ctx)
	if err := workflow.Sleep(ctx, 300*time.Millisecond); err != nil {
		return "", err
	}
	slept := workflow.Now(ctx).Sub(began) >= 300*time.Millisecond
	child, cancel := workflow.WithCancel(ctx)
	long := workflow.NewTimer(child, time.Hour)
	if err := workflow.Sleep(ctx, 10*time.Millisecond); err != nil {
		return "", err
	}
	cancel()
	err := long.Get(ctx, nil)
	return fmt.Sprintf("%v %v", slept, temporal.IsCanceledError(err)), nil
}

func Parent(ctx workflow.Context, kind, id string, policy int) (string, error) {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id,
		WorkflowRunTimeout: 20 * time.Second, ParentClosePolicy: enumspb.ParentClosePolicy(policy)})
	child := workflow.ExecuteChildWorkflow(ctx, kind, "kid")
	var started workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(ctx, &started); err != nil {
		var already *temporal.ChildWorkflowExecutionAlreadyStartedError
		return fmt.Sprintf("not started: %v", errors.As(err, &already)), nil
	}
	if policy != 0 {
		return started.RunID, nil
	}
	var out string
	if err := child.Get(ctx, &out); err != nil {
		return "failed: " + err.Error(), nil
	}
	return out, nil
}

func Fails(workflow.Context, string) (string, error) {
	return "", temporal.NewApplicationError("on purpose", "Purpose", "detail")
}

func FailsUntil(ctx workflow.Context, goodFrom int) (int, error) {
	attempt := int(workflow.GetInfo(ctx).Attempt)
	if attempt < goodFrom {
		return 0, fmt.Errorf("attempt %d", attempt)
	}
	return attempt, nil
}

// Cancelable cleans up in a disconnected context, waits for its activity to notice, and ends canceled.
func Cancelable(ctx workflow.Context) error {
	limits := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute,
		HeartbeatTimeout: 5 * time.Second, WaitForCancellation: true})
	err := workflow.ExecuteActivity(limits, BeatUntilCanceled).Get(ctx, nil)
	if !temporal.IsCanceledError(err) {
		return fmt.Errorf("not canceled: %w", err)
	}
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.ExecuteActivity(options(clean, 1), Echo, "cleanup").Get(clean, nil); err != nil {
		return err
	}
	return ctx.Err()
}

func Reaches(ctx workflow.Context, target, what string) (string, error) {
	var err error
	if what == "signal" {
		err = workflow.SignalExternalWorkflow(ctx, target, "", "add", "from outside").Get(ctx, nil)
	} else {
		err = workflow.RequestCancelExternalWorkflow(ctx, target, "").Get(ctx, nil)
	}
	if err != nil {
		var unknown *temporal.UnknownExternalWorkflowExecutionError
		return fmt.Sprintf("refused: %v", errors.As(err, &unknown)), nil
	}
	return "done", nil
}

func Again(ctx workflow.Context, left int) (string, error) {
	if left > 0 {
		return "", workflow.NewContinueAsNewError(ctx, Again, left-1)
	}
	return fmt.Sprint(workflow.GetInfo(ctx).ContinuedExecutionRunID != ""), nil
}

func Ticks(ctx workflow.Context) (int, error) {
	count := 0
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &count); err != nil {
			return 0, err
		}
	}
	return count + 1, nil
}

func Sleeps(ctx workflow.Context) error { return workflow.Sleep(ctx, time.Minute) }

// Markers leaves every kind of marker that the SDK knows.
func Markers(ctx workflow.Context) (string, error) {
	var number int
	if err := workflow.SideEffect(ctx, func(workflow.Context) any {
		sideEffects.Add(1)
		return rand.Intn(1000) + 1
	}).Get(&number); err != nil {
		return "", err
	}
	var second int
	equal := func(a, b any) bool { return a == b }
	if err := workflow.MutableSideEffect(ctx, "m", func(workflow.Context) any { return 7 }, equal).Get(&second); err != nil {
		return "", err
	}
	version := workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 2)
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 5 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 3}})
	var out string
	if err := workflow.ExecuteLocalActivity(local, Echo, "local").Get(ctx, &out); err != nil {
		return "", err
	}
	var attempt int32
	if err := workflow.ExecuteLocalActivity(local, FailUntil, int32(2), "x", false).Get(ctx, &attempt); err != nil {
		return "", err
	}
	if err := workflow.Sleep(ctx, 20*time.Millisecond); err != nil {
		return "", err
	}
	return fmt.Sprintf("%v %d %d %s %d", number > 0, second, version, out, attempt), nil
}

var (
	keyword = temporal.NewSearchAttributeKeyKeyword("SdkKeyword")
	integer = temporal.NewSearchAttributeKeyInt64("SdkInt")
)

func Upserts(ctx workflow.Context) (string, error) {
	if err := workflow.UpsertTypedSearchAttributes(ctx, keyword.ValueSet("go"), integer.ValueSet(42)); err != nil {
		return "", err
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{"added": 3, "gone": nil}); err != nil {
		return "", err
	}
	value, ok := workflow.GetTypedSearchAttributes(ctx).GetKeyword(keyword)
	return fmt.Sprint(value, ok), nil
}

// Panics until the bug is mended; its workflow task fails and is tried again.
func Panics(workflow.Context) (string, error) {
	if broken.Load() {
		panic("a bug")
	}
	return "mended", nil
}

// Steps waits for three signals, with an activity after each.
func Steps(ctx workflow.Context) ([]string, error) {
	got := []string{}
	if err := workflow.SetQueryHandler(ctx, "items", func() ([]string, error) { return got, nil }); err != nil {
		return nil, err
	}
	for len(got) < 3 {
		var value string
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, &value)
		got = append(got, value)
		if err := workflow.ExecuteActivity(options(ctx, 1), Echo, value).Get(ctx, nil); err != nil {
			return nil, err
		}
	}
	return got, nil
}

var workflows = []any{Hello, Retried, ResumesFromHeartbeat, TimesOut, Async, Waiting, Timers, Parent,
	Fails, FailsUntil, Cancelable, Reaches, Again, Ticks, Sleeps, Markers, Upserts, Panics, Steps}

var activities = []any{Echo, FailUntil, BeatThenFail, Hang, BeatUntilCanceled, CompleteElsewhere}
