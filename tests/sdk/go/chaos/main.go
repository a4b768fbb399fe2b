// SPDX-License-Identifier: MIT

// The Go SDK's part of the chaos load (tests/cluster/goload.py starts it, kills it and judges):
//
//	chaos worker -address A -effects FILE   a worker that goes on until it is killed
//	chaos client -address A -log FILE       starts workflows and talks with them until its input ends or says a line; then waits
//	                                        for what is left.  Each try of a call is a line of the log.
//	chaos replay -address A                 replays each "WORKFLOW RUN" of its input; says what does not replay, and how many did
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

const queue = "official-go"

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

var (
	address = flag.String("address", "127.0.0.1:7233", "server")
	logPath = flag.String("log", "", "where client notes its calls")
	effect  = flag.String("effects", "", "where activities of worker note that they run")
	seed    = flag.Int64("seed", 0, "of client's dice")
	slackNs = flag.Int64("slack-ns", 0, "by how much servers' clocks differ")
	many    = flag.Int("starters", 8, "of client")
	pause   = flag.Float64("pause", 1, "at most so many seconds between two workflows of a starter")
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// connected insists: the servers may be away.
func connected() client.Client {
	for {
		c, err := client.Dial(client.Options{HostPort: *address, Logger: quiet{}})
		if err == nil {
			return c
		}
		fmt.Fprintln(os.Stderr, err)
		time.Sleep(200 * time.Millisecond)
	}
}

func work() {
	var err error
	effects, err = os.OpenFile(*effect, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	fail(err)
	w := worker.New(connected(), queue, worker.Options{StickyScheduleToStartTimeout: 2 * time.Second,
		MaxConcurrentActivityExecutionSize: 500})
	for _, one := range workflows {
		w.RegisterWorkflow(one)
	}
	for _, one := range activities {
		w.RegisterActivity(one)
	}
	for w.Start() != nil { // the namespace is asked for, and nobody may answer now
		time.Sleep(200 * time.Millisecond)
	}
	select {}
}

// history insists for as long as any other is read.
func history(c client.Client, id, run string, last *atomic.Int64) (*historypb.History, error) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		events, err := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT), error(nil)
		out := &historypb.History{}
		for events.HasNext() && err == nil {
			var event *historypb.HistoryEvent
			if event, err = events.Next(); err == nil {
				out.Events = append(out.Events, event)
			}
		}
		cancel()
		if err == nil {
			last.Store(time.Now().UnixNano())
			return out, nil
		}
		if time.Since(time.Unix(0, last.Load())) > patience {
			return nil, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func replay() {
	c := connected()
	lines, last := make(chan string), &atomic.Int64{}
	last.Store(time.Now().UnixNano())
	var group sync.WaitGroup
	var count, bad atomic.Int64
	for range 2 {
		replayer := worker.NewWorkflowReplayer()
		for _, one := range workflows {
			replayer.RegisterWorkflow(one)
		}
		group.Add(1)
		go func() {
			defer group.Done()
			for line := range lines {
				id, run, _ := strings.Cut(line, " ")
				events, err := history(c, id, run, last)
				// A run without a completed task has nothing to replay, and the replayer refuses it.
				if err == nil && len(events.Events) < 4 {
					continue
				}
				if err == nil {
					err = replayer.ReplayWorkflowHistory(quiet{}, events)
				}
				count.Add(1)
				if err != nil {
					bad.Add(1)
					fmt.Printf("bad %s/%s: %s\n", id, run, strings.ReplaceAll(err.Error(), "\n", " "))
				}
			}
		}()
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		lines <- in.Text()
	}
	close(lines)
	group.Wait()
	fmt.Printf("replayed %d\n", count.Load())
}

func main() {
	what := "nothing"
	if len(os.Args) > 1 {
		what = os.Args[1]
		fail(flag.CommandLine.Parse(os.Args[2:]))
	}
	switch what {
	case "worker":
		work()
	case "client":
		load()
	case "replay":
		replay()
	default:
		fail(fmt.Errorf("worker, client or replay, not %s", what))
	}
}
