// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	identity    = "wfbench"
	pollLimit   = 70 * time.Second
	errorsShown = 5
	errorsMax   = 2000
)

func dial(s settings) []workflowservice.WorkflowServiceClient {
	clients := make([]workflowservice.WorkflowServiceClient, 0, s.conns)
	addresses := strings.Split(s.addr, ",")
	for i := range max(s.conns, len(addresses)) {
		conn, err := grpc.NewClient(addresses[i%len(addresses)], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			fmt.Fprintln(os.Stderr, "wfbench:", err)
			os.Exit(2)
		}
		clients = append(clients, workflowservice.NewWorkflowServiceClient(conn))
	}
	return clients
}

// load is one run of workflows: its clients, its ids and what it has counted.
type load struct {
	settings
	clients  []workflowservice.WorkflowServiceClient
	name     string
	tqs      []*taskqueuepb.TaskQueue // those of workflow i and of poller i: tqs[i % len(tqs)]
	open     chan struct{}            // with -open: a place for each open workflow
	input    *commonpb.Payloads
	began    []time.Time
	started  []time.Duration
	finished []time.Duration
	done     atomic.Int64
	errors   atomic.Int64
	target   atomic.Int64
	over     chan struct{}
	once     sync.Once
	polls    context.Context
}

func newLoad(s settings, polls context.Context) *load {
	l := &load{
		settings: s,
		clients:  dial(s),
		name:     fmt.Sprintf("wfbench-%d", time.Now().UnixNano()),
		input: &commonpb.Payloads{Payloads: []*commonpb.Payload{{
			Metadata: map[string][]byte{"encoding": []byte("binary/plain")}, Data: make([]byte, s.payload)}}},
		began:    make([]time.Time, s.n),
		started:  make([]time.Duration, s.n),
		finished: make([]time.Duration, s.n),
		over:     make(chan struct{}),
		polls:    polls,
	}
	for i := range s.queues {
		l.tqs = append(l.tqs, &taskqueuepb.TaskQueue{
			Name: fmt.Sprintf("%s-q%d", l.name, i), Kind: enumspb.TASK_QUEUE_KIND_NORMAL})
	}
	l.target.Store(int64(s.n))
	if s.open > 0 {
		l.open = make(chan struct{}, s.open)
	}
	return l
}

func (l *load) queue(i int) *taskqueuepb.TaskQueue { return l.tqs[i%len(l.tqs)] }

func (l *load) failed(what string, err error) {
	if l.polls.Err() != nil {
		return
	}
	count := l.errors.Add(1)
	if count <= errorsShown {
		fmt.Fprintf(os.Stderr, "wfbench: %s: %v\n", what, err)
	}
	if count > errorsMax {
		fmt.Fprintln(os.Stderr, "wfbench: too many errors")
		os.Exit(1)
	}
}

func (l *load) oneMore() {
	l.leave()
	l.done.Add(1)
	l.isOver()
}

// isOver ends the run when all that are to be done are; starting sets with -for, at its end, how many that is.
func (l *load) isOver() {
	if l.done.Load() >= l.target.Load() {
		l.once.Do(func() { close(l.over) })
	}
}

// enter waits for a place among the -open; false: the run is over.
func (l *load) enter(ctx context.Context) bool {
	if l.open == nil {
		return true
	}
	select {
	case l.open <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *load) leave() {
	if l.open != nil {
		<-l.open
	}
}

// start begins workflow number i.
func (l *load) start(ctx context.Context, client workflowservice.WorkflowServiceClient, i int) {
	if !l.enter(ctx) {
		return
	}
	l.began[i] = time.Now()
	_, err := client.StartWorkflowExecution(ctx, &workflowservice.StartWorkflowExecutionRequest{
		Namespace: l.namespace, WorkflowId: fmt.Sprintf("%s-%d", l.name, i),
		WorkflowType: &commonpb.WorkflowType{Name: l.word}, TaskQueue: l.queue(i), Input: l.input,
		RequestId: fmt.Sprintf("%s-request-%d", l.name, i), Identity: identity,
		WorkflowTaskTimeout: durationpb.New(10 * time.Second), Priority: l.priority(i)})
	l.started[i] = time.Since(l.began[i])
	if err != nil {
		l.leave()
		l.failed("start", err)
	} else if l.mode == "start" {
		l.oneMore()
	}
}

// With -tenants: one of five priorities, and one of so many fairness keys.
func (l *load) priority(i int) *commonpb.Priority {
	if l.tenants == 0 {
		return nil
	}
	return &commonpb.Priority{PriorityKey: int32(1 + i%5), FairnessKey: fmt.Sprintf("tenant-%d", i%l.tenants)}
}

func has(events []eventKind, wanted enumspb.EventType) bool {
	for _, event := range events {
		if event.GetEventType() == wanted {
			return true
		}
	}
	return false
}

type eventKind interface{ GetEventType() enumspb.EventType }

// answer is the command for a task of workflow i, and whether the workflow is done with it.
func (l *load) answer(i int, activityDone bool) (*commandpb.Command, bool) {
	switch {
	case l.mode == "timer":
		return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_START_TIMER,
			Attributes: &commandpb.Command_StartTimerCommandAttributes{
				StartTimerCommandAttributes: &commandpb.StartTimerCommandAttributes{
					TimerId: "1", StartToFireTimeout: durationpb.New(24 * time.Hour)}}}, true
	case l.mode == "activity" && !activityDone:
		return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
			Attributes: &commandpb.Command_ScheduleActivityTaskCommandAttributes{
				ScheduleActivityTaskCommandAttributes: &commandpb.ScheduleActivityTaskCommandAttributes{
					ActivityId: "1", ActivityType: &commonpb.ActivityType{Name: "a"}, TaskQueue: l.queue(i),
					Input: l.input, StartToCloseTimeout: durationpb.New(60 * time.Second),
					ScheduleToCloseTimeout: durationpb.New(100 * time.Second)}}}, false
	}
	return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
		Attributes: &commandpb.Command_CompleteWorkflowExecutionCommandAttributes{
			CompleteWorkflowExecutionCommandAttributes: &commandpb.CompleteWorkflowExecutionCommandAttributes{
				Result: l.input}}}, true
}

func (l *load) workflowTask(client workflowservice.WorkflowServiceClient, poller int) {
	ctx, cancel := context.WithTimeout(l.polls, pollLimit)
	defer cancel()
	task, err := client.PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: l.namespace, TaskQueue: l.queue(poller), Identity: identity})
	if err != nil {
		l.failed("workflow poll", err)
		return
	}
	if len(task.TaskToken) == 0 {
		return
	}
	events := make([]eventKind, 0, 16)
	for _, event := range task.GetHistory().GetEvents() {
		events = append(events, event)
	}
	id := task.WorkflowExecution.WorkflowId
	number, _ := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	command, last := l.answer(number, has(events, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED))
	if _, err = client.RespondWorkflowTaskCompleted(l.polls, &workflowservice.RespondWorkflowTaskCompletedRequest{
		Namespace: l.namespace, TaskToken: task.TaskToken, Identity: identity,
		Commands: []*commandpb.Command{command}}); err != nil {
		l.failed("workflow task", err)
		return
	}
	if last {
		l.finished[number] = time.Since(l.began[number])
		l.oneMore()
	}
}

func (l *load) activityTask(client workflowservice.WorkflowServiceClient, poller int) {
	ctx, cancel := context.WithTimeout(l.polls, pollLimit)
	defer cancel()
	task, err := client.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
		Namespace: l.namespace, TaskQueue: l.queue(poller), Identity: identity})
	if err != nil {
		l.failed("activity poll", err)
		return
	}
	if len(task.TaskToken) == 0 {
		return
	}
	if _, err = client.RespondActivityTaskCompleted(l.polls, &workflowservice.RespondActivityTaskCompletedRequest{
		Namespace: l.namespace, TaskToken: task.TaskToken, Identity: identity, Result: l.input}); err != nil {
		l.failed("activity", err)
	}
}

func (l *load) work(task func(workflowservice.WorkflowServiceClient, int)) {
	for i := range l.pollers {
		client := l.clients[i%len(l.clients)]
		go func() {
			for l.polls.Err() == nil {
				task(client, i)
			}
		}()
	}
}

// startAll starts every workflow and answers how long that took.
func (l *load) startAll(ctx context.Context) time.Duration {
	began := time.Now()
	var next, begun atomic.Int64
	var group sync.WaitGroup
	for i := range l.starters {
		client := l.clients[i%len(l.clients)]
		group.Add(1)
		go func() {
			defer group.Done()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= l.n || l.lasting > 0 && time.Since(began) >= l.lasting {
					return
				}
				begun.Add(1)
				if l.rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))))
				}
				l.start(ctx, client, i)
			}
		}()
	}
	group.Wait()
	l.target.Store(begun.Load())
	l.isOver()
	return time.Since(began)
}

// made are those of all that there was time for.
func made(all []time.Duration) []time.Duration {
	some := make([]time.Duration, 0, len(all))
	for _, d := range all {
		if d > 0 {
			some = append(some, d)
		}
	}
	return some
}

func runLoad(s settings, out *report) bool {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	polls, stop := context.WithCancel(context.Background())
	defer stop()
	l := newLoad(s, polls)
	if s.mode != "start" {
		l.work(l.workflowTask)
	}
	if s.mode == "activity" {
		l.work(l.activityTask)
	}
	time.Sleep(300 * time.Millisecond) // the polls are to be parked before the clock starts
	before := measure(s.pids)
	began := time.Now()
	starting := l.startAll(ctx)
	select {
	case <-l.over:
	case <-ctx.Done():
	}
	elapsed := time.Since(began)
	after := measure(s.pids)
	stop()

	ended, started := made(l.finished), made(l.started)
	done := l.done.Load()
	cpu := after.cpuSeconds - before.cpuSeconds
	out.set("done", done)
	out.set("errors", l.errors.Load())
	out.set("elapsed_s", elapsed.Seconds())
	out.set("workflows_per_s", float64(done)/elapsed.Seconds())
	out.set("starts_per_s", float64(l.target.Load())/starting.Seconds())
	out.set("start_p50_ms", percentile(started, .5))
	out.set("start_p99_ms", percentile(started, .99))
	out.set("e2e_p50_ms", percentile(ended, .5))
	out.set("e2e_p99_ms", percentile(ended, .99))
	out.set("server_cpu_s", cpu)
	out.set("cpu_ms_per_workflow", cpu*1000/float64(max(done, 1)))
	out.set("rss_before_kb", before.rssKB)
	out.set("rss_after_kb", after.rssKB)
	return done == l.target.Load()
}
