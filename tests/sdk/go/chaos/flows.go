// SPDX-License-Identifier: MIT

// The workflows and activities of the chaos load.  A plan says what a run does and so what it must end with, whatever happens to
// servers and workers meanwhile.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

const (
	waits = time.Hour // until a cancel comes
	wrong = -1_000_000
)

type Step struct {
	Kind  string
	Value int
}

// Plan: signals and updates are waited for before the steps; Total is of the runs before this one; servers' clocks differ by Slack.
type Plan struct {
	Steps                   []Step
	Signals, Updates, Total int
	Slack                   time.Duration
	Waits                   bool // at its end, until it is cancelled
}

// result is what a run with this plan ends with.
func (p Plan) result() int {
	out := p.Total + p.Signals*(p.Signals+1)/2 + p.Updates*(p.Updates+1)/2
	for _, step := range p.Steps {
		switch step.Kind {
		case "double", "local", "child":
			out += 2 * step.Value
		default:
			out += step.Value
		}
	}
	return out
}

// ---- activities ----

// effects is the file that says what has run.
var effects *os.File

func Double(_ context.Context, value int) (int, error) { return 2 * value, nil }

func FailsFirst(ctx context.Context, value int) (int, error) {
	if int(activity.GetInfo(ctx).Attempt) <= value%3 {
		return 0, errors.New("again")
	}
	return value, nil
}

// Beats counts to value, from where the attempt before this one was last heard of; the first stops without a word or with one.
func Beats(ctx context.Context, value int) (int, error) {
	done := 0
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &done); err != nil {
			return 0, err
		}
	}
	for step := done; step < value; step++ {
		activity.RecordHeartbeat(ctx, step+1)
		if activity.GetInfo(ctx).Attempt == 1 && step == value/2 {
			if value%2 == 1 {
				time.Sleep(20 * time.Second) // its heartbeats are missed
			}
			return 0, errors.New("again")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return value, nil
}

// Never takes longer than it may, and listens to nobody.
func Never(_ context.Context, value int) (int, error) {
	time.Sleep(20 * time.Second)
	return value, nil
}

// Patient ends when it is told to.
func Patient(ctx context.Context) error {
	for {
		activity.RecordHeartbeat(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Once has one attempt, and says so.
func Once(ctx context.Context, value int) (int, error) {
	info := activity.GetInfo(ctx)
	_, err := fmt.Fprintf(effects, "{\"ran\": \"%s/%s\"}\n", info.WorkflowExecution.RunID, info.ActivityID)
	return value, err
}

var activities = []any{Double, FailsFirst, Beats, Never, Patient, Once}

// ---- workflows ----

func quick(ctx workflow.Context, more workflow.ActivityOptions) workflow.Context {
	if more.StartToCloseTimeout == 0 {
		more.StartToCloseTimeout = 5 * time.Second
	}
	if more.RetryPolicy == nil {
		more.RetryPolicy = &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: time.Second}
	}
	return workflow.WithActivityOptions(ctx, more)
}

func local(ctx workflow.Context) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 5 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: time.Second}})
}

func Child(ctx workflow.Context, value int) (out int, err error) {
	if value%2 == 1 {
		if err = workflow.Sleep(ctx, time.Duration(value)*20*time.Millisecond); err != nil {
			return 0, err
		}
	}
	err = workflow.ExecuteActivity(quick(ctx, workflow.ActivityOptions{}), Double, value).Get(ctx, &out)
	return out, err
}

// Endless is over when its time is.
func Endless(ctx workflow.Context) error { return workflow.Sleep(ctx, waits) }

// listen takes the numbers that signals and updates bring, each once however often it is sent.
func listen(ctx workflow.Context, total *int, signals, updates map[int]bool) error {
	workflow.Go(ctx, func(ctx workflow.Context) {
		for channel := workflow.GetSignalChannel(ctx, "number"); ; {
			var value int
			channel.Receive(ctx, &value)
			if !signals[value] {
				signals[value] = true
				*total += value
			}
		}
	})
	if err := workflow.SetQueryHandler(ctx, "signals", func() (int, error) { return len(signals), nil }); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, "add", func(ctx workflow.Context, value int) (out int, err error) {
		if err = workflow.ExecuteLocalActivity(local(ctx), Double, value).Get(ctx, &out); err == nil {
			updates[value] = true
			*total += value
		}
		return out, err
	}, workflow.UpdateHandlerOptions{Validator: func(value int) error {
		if value < 0 {
			return errors.New("negative")
		}
		return nil
	}})
}

func Planned(ctx workflow.Context, plan Plan) (int, error) {
	total, signals, updates := plan.Total, map[int]bool{}, map[int]bool{}
	if err := listen(ctx, &total, signals, updates); err != nil {
		return 0, err
	}
	if err := workflow.Await(ctx, func() bool {
		return len(signals) == plan.Signals && len(updates) == plan.Updates && workflow.AllHandlersFinished(ctx)
	}); err != nil {
		return 0, err
	}
	for at, step := range plan.Steps {
		if step.Kind == "again" {
			return 0, workflow.NewContinueAsNewError(ctx, Planned,
				Plan{Steps: plan.Steps[at+1:], Total: total + step.Value, Slack: plan.Slack, Waits: plan.Waits})
		}
		out, err := kinds[step.Kind].do(workflow.WithValue(ctx, slack, plan.Slack), step.Value)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", step.Kind, err)
		}
		total += out
	}
	if plan.Waits && temporal.IsCanceledError(workflow.Sleep(ctx, waits)) {
		free, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		var zero int
		if err := workflow.ExecuteActivity(quick(free, workflow.ActivityOptions{}), Double, 0).Get(free, &zero); err != nil {
			return 0, err
		}
	}
	return total, nil
}

var workflows = []any{Planned, Child, Endless}

// ---- steps ----

type contextKey string

const slack contextKey = "slack"

type kind struct {
	share int
	do    func(workflow.Context, int) (int, error)
}

var kinds map[string]kind

func init() {
	kinds = map[string]kind{
		"double": {20, doDouble}, "local": {9, doLocal}, "fails": {9, doFails}, "beats": {9, doBeats}, "late": {3, doLate},
		"once": {6, doOnce}, "timer": {15, doTimer}, "watched": {3, doWatched}, "child": {15, doChild}, "expires": {4, doExpires},
		"dropped": {9, doDropped}, "many": {9, doMany}, "chosen": {6, doChosen}, "again": {9, nil},
	}
}

func doDouble(ctx workflow.Context, value int) (out int, err error) {
	err = workflow.ExecuteActivity(quick(ctx, workflow.ActivityOptions{}), Double, value).Get(ctx, &out)
	return out, err
}

func doLocal(ctx workflow.Context, value int) (out int, err error) {
	err = workflow.ExecuteLocalActivity(local(ctx), Double, value).Get(ctx, &out)
	return out, err
}

func doFails(ctx workflow.Context, value int) (out int, err error) {
	err = workflow.ExecuteActivity(quick(ctx, workflow.ActivityOptions{}), FailsFirst, value).Get(ctx, &out)
	return out, err
}

func doBeats(ctx workflow.Context, value int) (out int, err error) {
	err = workflow.ExecuteActivity(quick(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second,
		HeartbeatTimeout: 2 * time.Second}), Beats, value).Get(ctx, &out)
	return out, err
}

// doLate times out, whatever happens.
func doLate(ctx workflow.Context, value int) (int, error) {
	limits := workflow.ActivityOptions{StartToCloseTimeout: time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}}
	if value%2 == 0 {
		limits.StartToCloseTimeout, limits.ScheduleToCloseTimeout = 10*time.Second, 2*time.Second
	}
	var timeout *temporal.TimeoutError
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, limits), Never, value).Get(ctx, nil); !errors.As(err, &timeout) {
		return wrong, nil
	}
	return value, nil
}

// doOnce runs once at most: its worker may die with it.
func doOnce(ctx workflow.Context, value int) (int, error) {
	var timeout *temporal.TimeoutError
	err := workflow.ExecuteActivity(quick(ctx, workflow.ActivityOptions{StartToCloseTimeout: 2 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}}), Once, value).Get(ctx, nil)
	if err != nil && !errors.As(err, &timeout) {
		return wrong, nil
	}
	return value, nil
}

func doTimer(ctx workflow.Context, value int) (int, error) {
	before, long := workflow.Now(ctx), time.Duration(value)*100*time.Millisecond
	if err := workflow.Sleep(ctx, long); err != nil {
		return 0, err
	}
	if workflow.Now(ctx).Sub(before) < long {
		return wrong, nil
	}
	return value, nil
}

// doWatched has a timer that may not be early by the workers' clock either, which nobody turns, but for what servers' clocks differ by.
func doWatched(ctx workflow.Context, value int) (int, error) {
	now := func(workflow.Context) any { return time.Now().UnixNano() }
	var before, after int64
	differ := ctx.Value(slack).(time.Duration)
	long := differ + time.Second + time.Duration(value)*100*time.Millisecond
	if err := workflow.SideEffect(ctx, now).Get(&before); err != nil {
		return 0, err
	}
	if err := workflow.Sleep(ctx, long); err != nil {
		return 0, err
	}
	if err := workflow.SideEffect(ctx, now).Get(&after); err != nil {
		return 0, err
	}
	if time.Duration(after-before) < long-differ {
		return wrong, nil
	}
	return value, nil
}

func doChild(ctx workflow.Context, value int) (out int, err error) {
	err = workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowTaskTimeout: 5 * time.Second}), Child, value).Get(ctx, &out)
	return out, err
}

// doExpires has a child that is ended by its time.
func doExpires(ctx workflow.Context, value int) (int, error) {
	var timeout *temporal.TimeoutError
	err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowRunTimeout: 2 * time.Second}), Endless).Get(ctx, nil)
	if !errors.As(err, &timeout) {
		return wrong, nil
	}
	return value, nil
}

// doDropped cancels a timer and an activity while they go on.
func doDropped(ctx workflow.Context, value int) (int, error) {
	inner, cancel := workflow.WithCancel(ctx)
	timer := workflow.NewTimer(inner, 10*time.Minute)
	work := workflow.ExecuteActivity(quick(inner, workflow.ActivityOptions{StartToCloseTimeout: time.Minute,
		HeartbeatTimeout: 5 * time.Second, WaitForCancellation: value%2 == 1}), Patient)
	if err := workflow.Sleep(ctx, 50*time.Millisecond); err != nil {
		return 0, err
	}
	cancel()
	err := work.Get(ctx, nil)
	if !temporal.IsCanceledError(timer.Get(ctx, nil)) || (!temporal.IsCanceledError(err) && !isCutOff(err)) {
		return wrong, nil
	}
	return value, nil
}

// isCutOff is whether an activity ended as it may when it has not heard of the cancel: its worker died, or none of its heartbeats came
// through for so long that the SDK told it to give up, for a reason that is no cancel to the server (recordActivityHeartbeat).
func isCutOff(err error) bool {
	var timeout *temporal.TimeoutError
	var failed *temporal.ApplicationError
	return errors.As(err, &timeout) || (errors.As(err, &failed) && failed.Message() == context.Canceled.Error())
}

// doMany goes on side by side, and has a random number that stays what it is.
func doMany(ctx workflow.Context, value int) (int, error) {
	var chance int
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return int(time.Now().UnixNano() % 8) }).Get(&chance); err != nil {
		return 0, err
	}
	var parts []workflow.Future
	for part := range 3 {
		parts = append(parts, workflow.ExecuteActivity(quick(ctx, workflow.ActivityOptions{}), Double, chance+part))
	}
	for part, future := range parts {
		var doubled int
		if err := future.Get(ctx, &doubled); err != nil {
			return 0, err
		}
		if doubled != 2*(chance+part) {
			return wrong, nil
		}
	}
	return value, nil
}

// doChosen takes what comes first of an activity and a timer; which is in the history.
func doChosen(ctx workflow.Context, value int) (int, error) {
	version := workflow.GetVersion(ctx, "chosen", workflow.DefaultVersion, 1)
	inner, cancel := workflow.WithCancel(ctx)
	defer cancel()
	out := wrong
	workflow.NewSelector(ctx).
		AddFuture(workflow.ExecuteActivity(quick(inner, workflow.ActivityOptions{}), Double, value), func(workflow.Future) { out = value }).
		AddFuture(workflow.NewTimer(inner, 20*time.Millisecond), func(workflow.Future) { out = value }).
		Select(ctx)
	if version != 1 {
		return wrong, nil
	}
	return out, nil
}
