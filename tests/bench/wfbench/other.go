// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// runPark holds n polls, each on a queue of its own, and measures the server while they wait.
func runPark(s settings, out *report) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	clients := dial(s)
	before := measure(s.pids)
	var errors, ended atomic.Int64
	stamp := time.Now().UnixNano()
	for i := range s.n {
		client := clients[i%len(clients)]
		go func() {
			for ctx.Err() == nil {
				poll, stop := context.WithTimeout(ctx, pollLimit)
				_, err := client.PollWorkflowTaskQueue(poll, &workflowservice.PollWorkflowTaskQueueRequest{
					Namespace: s.namespace, Identity: identity,
					TaskQueue: &taskqueuepb.TaskQueue{Name: fmt.Sprintf("park-%d-%d", stamp, i)}})
				stop()
				if ctx.Err() != nil {
					return
				}
				ended.Add(1)
				if err != nil {
					if errors.Add(1) <= errorsShown {
						fmt.Fprintln(os.Stderr, "wfbench: poll:", err)
					}
					time.Sleep(time.Second)
				}
			}
		}()
	}
	time.Sleep(s.hold)
	first := measure(s.pids)
	time.Sleep(s.hold)
	after := measure(s.pids)
	out.set("errors", errors.Load())
	out.set("polls_ended", ended.Load())
	out.set("rss_before_kb", before.rssKB)
	out.set("rss_after_kb", after.rssKB)
	out.set("parked_cpu_percent", 100*(after.cpuSeconds-first.cpuSeconds)/s.hold.Seconds())
	return errors.Load() == 0
}

// runQuery asks the questions of an operator: list and count by type, by status and by both, and the
// count of each status.
func runQuery(s settings, out *report) bool {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	client := dial(s)[0]
	closed := fmt.Sprintf("WorkflowType = '%s'", s.word)
	both := closed + " AND ExecutionStatus = 'Completed'"
	questions := []string{"", closed, "ExecutionStatus = 'Running'", "ExecutionStatus = 'Completed'", both}
	var lists, counts []time.Duration
	list := func(query string) bool {
		began := time.Now()
		page, err := client.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: s.namespace, PageSize: 100, Query: query})
		if err != nil {
			fmt.Fprintln(os.Stderr, "wfbench: list:", err)
			return false
		}
		lists = append(lists, time.Since(began))
		out.set("page_rows", len(page.Executions))
		return true
	}
	count := func(query string) (int64, bool) {
		began := time.Now()
		answer, err := client.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: s.namespace, Query: query})
		if err != nil {
			fmt.Fprintln(os.Stderr, "wfbench: count:", err)
			return 0, false
		}
		counts = append(counts, time.Since(began))
		return answer.Count, true
	}
	for range s.n {
		for _, query := range questions {
			rows, counted := count(query)
			if !counted || !list(query) {
				return false
			}
			out.set("count", rows) // of both, the last one
		}
		for _, query := range []string{"GROUP BY ExecutionStatus", closed + " GROUP BY ExecutionStatus"} {
			if _, counted := count(query); !counted {
				return false
			}
		}
	}
	out.set("list_p50_ms", percentile(lists, .5))
	out.set("list_max_ms", percentile(lists, 1))
	out.set("count_p50_ms", percentile(counts, .5))
	out.set("count_max_ms", percentile(counts, 1))
	return true
}

// runProbe is started together with the server: it knocks every half millisecond, and makes one
// call as soon as the port is open.
func runProbe(s settings, out *report) bool {
	began := time.Now()
	for {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Since(began) > s.limit {
			return false
		}
		time.Sleep(500 * time.Microsecond)
	}
	open := time.Since(began)
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond}}))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	client := workflowservice.NewWorkflowServiceClient(conn)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err = client.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: s.namespace})
		cancel()
		if err == nil {
			break
		}
		if time.Since(began) > s.limit {
			fmt.Fprintln(os.Stderr, "wfbench: probe:", err)
			return false
		}
		time.Sleep(500 * time.Microsecond)
	}
	out.set("open_unix_ns", began.Add(open).UnixNano())
	out.set("answered_unix_ns", time.Now().UnixNano())
	return true
}
