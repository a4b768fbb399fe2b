// SPDX-License-Identifier: MIT

// The Go SDK against a server: real scenarios, then a replay of every history that they made.
//
//	go run . -address HOST:PORT [-namespace NS] [-only WORD]
//
// One line a case, "go: N passed, N failed" at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
)

const (
	caseLimit = 60 * time.Second
	runLimit  = 4 * time.Minute
)

// quiet is a logger that says nothing: failing tasks are part of the plan.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

type execution struct{ id, run string }

// shared is what all cases have in common.
type shared struct {
	client                          client.Client
	address, namespace, word, queue string
	mutex                           sync.Mutex
	started                         []execution
}

// env is one case's view; its checks end the case by a panic that carries the reason.
type env struct {
	*shared
	ctx context.Context
}

type failure string

func (e *env) check(good bool, format string, values ...any) {
	if !good {
		_, _, line, _ := runtime.Caller(2)
		panic(failure(fmt.Sprintf(format, values...) + fmt.Sprintf(" (line %d)", line)))
	}
}

func (e *env) must(err error)      { e.check(err == nil, "%v", err) }
func (e *env) equal(got, want any) { e.check(same(got, want), "%v, not %v", got, want) }

func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprintf("%v", a) == fmt.Sprintf("%v", b)
}

func (e *env) contains(text, part string) {
	e.check(strings.Contains(text, part), "%q is not in %q", part, text)
}

func (e *env) until(what string, test func() bool) {
	for end := time.Now().Add(20 * time.Second); !test(); time.Sleep(50 * time.Millisecond) {
		e.check(time.Now().Before(end), "not in time: %s", what)
	}
}

func (s *shared) id(what string) string { return s.word + "-" + what + "-" + uuid.NewString()[:6] }

func (s *shared) track(id, run string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.started = append(s.started, execution{id, run})
}

func (e *env) start(workflow any, args ...any) client.WorkflowRun {
	return e.startWith(client.StartWorkflowOptions{}, workflow, args...)
}

func (e *env) startWith(options client.StartWorkflowOptions, workflow any, args ...any) client.WorkflowRun {
	if options.ID == "" {
		options.ID = e.id("w")
	}
	if options.TaskQueue == "" {
		options.TaskQueue = e.queue
	}
	run, err := e.client.ExecuteWorkflow(e.ctx, options, workflow, args...)
	e.must(err)
	e.track(run.GetID(), run.GetRunID())
	return run
}

func result[T any](e *env, run client.WorkflowRun) T {
	var out T
	e.must(run.Get(e.ctx, &out))
	return out
}

// fails awaits a run that must end with an application error of this message and type.
func (e *env) fails(run client.WorkflowRun, message, kind string) {
	var found *temporal.ApplicationError
	err := run.Get(e.ctx, nil)
	e.check(errors.As(err, &found), "%v is no application error", err)
	e.contains(found.Message(), message)
	e.check(kind == "" || found.Type() == kind, "type %q, not %q", found.Type(), kind)
}

type score struct {
	mutex          sync.Mutex
	passed, failed int
}

func (s *score) say(name string, why string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if why == "" {
		s.passed++
		fmt.Println("ok", name)
		return
	}
	s.failed++
	fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(why, "\n", " "))
}

func runCase(s *shared, c testCase, result *score) {
	ctx, cancel := context.WithTimeout(context.Background(), caseLimit)
	defer cancel()
	defer func() {
		switch trouble := recover().(type) {
		case nil:
			result.say(c.name, "")
		case failure:
			result.say(c.name, string(trouble))
		default:
			panic(trouble)
		}
	}()
	c.run(&env{shared: s, ctx: ctx})
}

func newWorker(c client.Client, queue string) worker.Worker {
	w := worker.New(c, queue, worker.Options{})
	for _, workflow := range workflows {
		w.RegisterWorkflow(workflow)
	}
	for _, activity := range activities {
		w.RegisterActivity(activity)
	}
	return w
}

// followers are the runs that an event leads to: children and next runs of the chain.
func followers(id string, event *historypb.HistoryEvent) []execution {
	if child := event.GetChildWorkflowExecutionStartedEventAttributes(); child != nil {
		return []execution{{child.WorkflowExecution.WorkflowId, child.WorkflowExecution.RunId}}
	}
	for _, next := range []string{
		event.GetWorkflowExecutionCompletedEventAttributes().GetNewExecutionRunId(),
		event.GetWorkflowExecutionFailedEventAttributes().GetNewExecutionRunId(),
		event.GetWorkflowExecutionTimedOutEventAttributes().GetNewExecutionRunId(),
		event.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()} {
		if next != "" {
			return []execution{{id, next}}
		}
	}
	return nil
}

// replay puts every history that can be reached from what was started through the SDK's replayer.
func replay(e *env, result *score) {
	replayer := worker.NewWorkflowReplayer()
	for _, workflow := range workflows {
		replayer.RegisterWorkflow(workflow)
	}
	seen := map[execution]bool{}
	todo := e.started
	count, bad := 0, 0
	for len(todo) > 0 {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[next] {
			continue
		}
		seen[next] = true
		events := e.history(next.id, next.run)
		for _, event := range events {
			todo = append(todo, followers(next.id, event)...)
		}
		// A run without a completed task has nothing to replay, and the replayer refuses it.
		if len(events) < 4 {
			continue
		}
		count++
		if err := replayer.ReplayWorkflowHistory(quiet{}, &historypb.History{Events: events}); err != nil {
			bad++
			result.say(fmt.Sprintf("replay of %s %s", next.id, next.run), err.Error())
		}
	}
	why := ""
	if bad > 0 || count == 0 {
		why = fmt.Sprintf("%d failed", bad)
	}
	result.say(fmt.Sprintf("replay of %d histories", count), why)
}

func main() {
	address := flag.String("address", "127.0.0.1:7233", "server")
	namespace := flag.String("namespace", "default", "namespace")
	only := flag.String("only", "", "cases whose name holds this")
	flag.Parse()
	began := time.Now()
	total := &score{}
	closing := func() {
		fmt.Printf("go: %d passed, %d failed\n", total.passed, total.failed)
		fmt.Fprintf(os.Stderr, "# %.1f s\n", time.Since(began).Seconds())
		if total.failed > 0 {
			os.Exit(1)
		}
		os.Exit(0)
	}
	time.AfterFunc(runLimit, func() {
		total.say("the whole run", "not over in time")
		closing()
	})
	c, err := client.Dial(client.Options{HostPort: *address, Namespace: *namespace, Logger: quiet{}})
	if err != nil {
		total.say("connect", err.Error())
		closing()
	}
	word := "go" + uuid.NewString()[:8]
	s := &shared{client: c, address: *address, namespace: *namespace, word: word, queue: word + "-queue"}
	prepare(context.Background(), c, *namespace)
	w := newWorker(c, s.queue)
	if err := w.Start(); err != nil {
		total.say("worker", err.Error())
		closing()
	}
	var group sync.WaitGroup
	gate := make(chan struct{}, 16)
	for _, one := range cases {
		if !strings.Contains(one.name, *only) {
			continue
		}
		group.Add(1)
		gate <- struct{}{}
		go func() {
			defer group.Done()
			runCase(s, one, total)
			<-gate
		}()
	}
	group.Wait()
	w.Stop()
	runCase(s, testCase{"replay", func(e *env) { replay(e, total) }}, total)
	closing()
}
