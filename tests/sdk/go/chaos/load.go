// SPDX-License-Identifier: MIT

// The clients of the chaos load: each try of a call is noted with its outcome before the next step, and asked again until it is
// known to be in.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// patience is how long nothing at all may come through before a call is given up.
const patience = 5 * time.Minute

type facts map[string]any

type clients struct {
	client client.Client
	log    *os.File
	last   atomic.Int64 // when a call last came through
	enough chan struct{}
	mutex  sync.Mutex
	dice   *rand.Rand
}

var errGaveUp = errors.New("given up")

func (l *clients) note(line facts) {
	text, err := json.Marshal(line)
	fail(err)
	_, err = l.log.Write(append(text, '\n'))
	fail(err)
}

func (l *clients) roll(n int) int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.dice.Intn(n)
}

func (l *clients) over() bool {
	select {
	case <-l.enough:
		return true
	default:
		return false
	}
}

// final says that asking again will not help.
func final(err error) bool {
	var gone *serviceerror.NotFound
	var bad *serviceerror.InvalidArgument
	var query *serviceerror.QueryFailed
	var failed *temporal.WorkflowExecutionError
	var application *temporal.ApplicationError
	return errors.As(err, &gone) || errors.As(err, &bad) || errors.As(err, &query) || errors.As(err, &failed) || errors.As(err, &application)
}

func seconds() float64 { return float64(time.Now().UnixNano()) / 1e9 }

// insist asks until it is answered, as long as anything comes through at all; ask may add facts.
func (l *clients) insist(what, workflow string, limit time.Duration, more facts, ask func(context.Context, facts) error) error {
	for {
		line := facts{"what": what, "workflow": workflow, "asked": seconds()}
		for name, value := range more {
			line[name] = value
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := ask(ctx, line)
		cancel()
		line["answered"] = seconds()
		switch {
		case err == nil:
			line["outcome"] = "ok"
			l.last.Store(time.Now().UnixNano())
		case final(err):
			line["outcome"], line["why"] = "no", err.Error()
			l.last.Store(time.Now().UnixNano())
		default:
			line["outcome"], line["why"] = "unknown", err.Error()
		}
		l.note(line)
		if line["outcome"] != "unknown" {
			return err
		}
		if time.Since(time.Unix(0, l.last.Load())) > patience {
			return fmt.Errorf("%w, nothing came through for %v: %w", errGaveUp, patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (l *clients) plan() Plan {
	all, names := 0, []string{"double", "local", "fails", "beats", "late", "once", "timer", "watched", "child", "expires", "dropped", "many", "chosen", "again"}
	for _, name := range names {
		all += kinds[name].share
	}
	out := Plan{Signals: []int{0, 0, 1, 3}[l.roll(4)], Updates: []int{0, 0, 1, 2}[l.roll(4)], Waits: l.roll(10) == 0, Slack: time.Duration(*slackNs)}
	for range 1 + l.roll(5) {
		at, chosen := l.roll(all), ""
		for _, name := range names {
			if chosen = name; at < kinds[name].share {
				break
			}
			at -= kinds[name].share
		}
		out.Steps = append(out.Steps, Step{chosen, 1 + l.roll(8)})
	}
	return out
}

func (l *clients) wrong(workflow, format string, values ...any) {
	l.note(facts{"what": "wrong", "workflow": workflow, "text": fmt.Sprintf(format, values...)})
}

// unlessEnded passes over a run that has ended by now: it must have got this by an earlier try, and could not have ended without;
// the judge asks for that.
func (l *clients) unlessEnded(workflow string, err error) bool {
	var gone *serviceerror.NotFound
	if err != nil && !errors.As(err, &gone) {
		l.wrong(workflow, "%v", err)
		return false
	}
	return true
}

func (l *clients) signals(id, run string, plan Plan) bool {
	for number := 1; number <= plan.Signals; number++ {
		if !l.unlessEnded(id, l.insist("signal", id, 10*time.Second, facts{"number": number}, func(ctx context.Context, _ facts) error {
			return l.client.SignalWorkflow(ctx, id, run, "number", number)
		})) {
			return false
		}
		if number < plan.Signals && l.roll(3) == 0 {
			err := l.insist("query", id, 10*time.Second, nil, func(ctx context.Context, line facts) error {
				value, err := l.client.QueryWorkflow(ctx, id, run, "signals")
				if err != nil {
					return err
				}
				var seen int
				err = value.Get(&seen)
				line["seen"] = seen
				return err
			})
			if err != nil {
				l.wrong(id, "a query: %v", err)
			}
		}
	}
	return true
}

func (l *clients) update(id, run string, value int) error {
	name := fmt.Sprintf("u%d", value)
	return l.insist("update", id, 10*time.Second, facts{"update": name}, func(ctx context.Context, line facts) error {
		handle, err := l.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{UpdateID: name, WorkflowID: id, RunID: run,
			UpdateName: "add", Args: []any{value}, WaitForStage: client.WorkflowUpdateStageCompleted})
		if err != nil {
			return err
		}
		var out int
		err = handle.Get(ctx, &out)
		line["value"] = out
		return err
	})
}

func (l *clients) updates(id, run string, plan Plan) bool {
	if plan.Updates > 0 && l.roll(5) == 0 {
		var application *temporal.ApplicationError
		if err := l.update(id, run, -1); !errors.As(err, &application) {
			l.wrong(id, "an update that the validator rejects: %v", err)
		}
	}
	for value := 1; value <= plan.Updates; value++ {
		if err := l.update(id, run, value); err != nil {
			l.wrong(id, "update %d: %v", value, err)
			return false
		}
	}
	return true
}

// untilItWaits: a cancel before that would meet it in its steps, or in a run that continues as another.
func (l *clients) untilItWaits(id string) {
	for time.Since(time.Unix(0, l.last.Load())) < patience {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		events := l.client.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			if err != nil {
				break
			}
			if event.GetTimerStartedEventAttributes().GetStartToFireTimeout().AsDuration() == waits {
				cancel()
				return
			}
		}
		cancel()
		time.Sleep(500 * time.Millisecond)
	}
}

func (l *clients) one(id string, plan Plan) {
	var run string
	err := l.insist("start", id, 10*time.Second, nil, func(ctx context.Context, line facts) error {
		begun, err := l.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: queue, WorkflowTaskTimeout: 5 * time.Second,
			WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE}, Planned, plan)
		if err == nil { // of an earlier try, too, whose answer was lost: nobody else uses this id
			run = begun.GetRunID()
			line["run"] = run
		}
		return err
	})
	if err != nil {
		l.wrong(id, "start: %v", err)
		return
	}
	if !l.signals(id, run, plan) || !l.updates(id, run, plan) {
		return
	}
	if plan.Waits {
		l.untilItWaits(id)
		if !l.unlessEnded(id, l.insist("cancel", id, 10*time.Second, nil, func(ctx context.Context, _ facts) error {
			return l.client.CancelWorkflow(ctx, id, "")
		})) {
			return
		}
	}
	err = l.insist("result", id, 30*time.Second, facts{"wanted": plan.result()}, func(ctx context.Context, line facts) error {
		var out int
		err := l.client.GetWorkflow(ctx, id, "").Get(ctx, &out)
		line["value"] = out
		return err
	})
	if err != nil {
		l.wrong(id, "%+v: %v", plan, err)
	}
}

func load() {
	log, err := os.OpenFile(*logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	fail(err)
	l := &clients{client: connected(), log: log, enough: make(chan struct{}), dice: rand.New(rand.NewSource(*seed))}
	l.last.Store(time.Now().UnixNano())
	go func() {
		bufio.NewScanner(os.Stdin).Scan()
		close(l.enough)
	}()
	var group sync.WaitGroup
	for starter := range *many {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := 1; !l.over(); n++ {
				l.one(fmt.Sprintf("go%d-%d", starter, n), l.plan())
				time.Sleep(time.Duration(float64(l.roll(1000)) * *pause * float64(time.Millisecond)))
			}
		}()
	}
	group.Wait()
}
