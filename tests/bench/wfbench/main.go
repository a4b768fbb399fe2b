// SPDX-License-Identifier: MIT

// wfbench loads a Temporal-compatible server with plain gRPC calls, playing the starters and the
// workers itself, so that what is measured is the server and not an SDK.
//
//	-mode start     starts n workflows that nobody works on
//	-mode noop      starts n workflows; their first task completes them
//	-mode activity  starts n workflows with one activity each
//	-mode timer     starts n workflows that wait on a timer of a day
//	-mode park      opens n long polls on n task queues and holds them for -hold
//	-mode query     lists and counts by type, status and both, n times each
//	-mode probe     tries until the first call is answered; prints how long that took
//
// It prints one line: key=value pairs, or JSON with -json. CPU and memory are those of the processes
// named by -pids.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

type settings struct {
	addr, namespace, mode, word string
	n, starters, pollers, conns int
	tenants, queues, open       int
	payload                     int
	rate                        float64
	pids                        []int
	limit, hold, lasting        time.Duration
	asJSON                      bool
}

func parse() settings {
	s := settings{}
	flag.StringVar(&s.addr, "addr", "127.0.0.1:7233", "host:port, or several with commas: connections take turns")
	flag.StringVar(&s.namespace, "namespace", "default", "namespace")
	flag.StringVar(&s.mode, "mode", "activity", "start | noop | activity | timer | park | query | probe")
	flag.StringVar(&s.word, "word", "", "workflow type (default w), to be found again by -mode query")
	flag.IntVar(&s.n, "n", 2000, "workflows, polls or queries")
	flag.IntVar(&s.starters, "c", 32, "concurrent starters")
	flag.IntVar(&s.pollers, "pollers", 16, "workflow and activity pollers, each")
	flag.IntVar(&s.conns, "conns", 4, "connections")
	flag.Float64Var(&s.rate, "rate", 0, "starts a second at most, evenly spaced; 0: as fast as the starters can")
	flag.IntVar(&s.payload, "payload", 128, "input bytes")
	flag.IntVar(&s.queues, "queues", 1, "task queues, of which workflows and pollers take turns")
	flag.IntVar(&s.open, "open", 0, "workflows open at once at most; 0: however many the starters start")
	flag.IntVar(&s.tenants, "tenants", 0, "fairness keys, with all priorities; 0: neither")
	flag.DurationVar(&s.limit, "limit", 120*time.Second, "give up after")
	flag.DurationVar(&s.lasting, "for", 0, "start no more after; -n is then only a bound; 0: all of -n")
	flag.DurationVar(&s.hold, "hold", 5*time.Second, "how long -mode park holds its polls")
	flag.BoolVar(&s.asJSON, "json", false, "print JSON")
	list := flag.String("pids", "", "server process ids, comma separated")
	flag.Parse()
	for _, word := range strings.Split(*list, ",") {
		if pid, err := strconv.Atoi(word); err == nil {
			s.pids = append(s.pids, pid)
		}
	}
	if s.queues < 1 || s.pollers < s.queues {
		fmt.Fprintln(os.Stderr, "wfbench: each of -queues needs one of -pollers")
		os.Exit(2)
	}
	if s.word == "" {
		s.word = "w"
	}
	return s
}

// report is what a run found out, in the order in which it is printed.
type report struct {
	keys   []string
	values map[string]any
}

func (r *report) set(key string, value any) {
	if r.values == nil {
		r.values = map[string]any{}
	}
	if _, known := r.values[key]; !known {
		r.keys = append(r.keys, key)
	}
	r.values[key] = value
}

func (r *report) print(asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r.values)
		return
	}
	words := make([]string, 0, len(r.keys))
	for _, key := range r.keys {
		if number, ok := r.values[key].(float64); ok {
			words = append(words, fmt.Sprintf("%s=%.3f", key, number))
		} else {
			words = append(words, fmt.Sprintf("%s=%v", key, r.values[key]))
		}
	}
	fmt.Println(strings.Join(words, " "))
}

// percentile of durations in ms; the slice is put in order.
func percentile(all []time.Duration, part float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	return float64(all[int(float64(len(all)-1)*part)].Microseconds()) / 1000
}

func main() {
	s := parse()
	out := &report{}
	out.set("mode", s.mode)
	out.set("n", s.n)
	var good bool
	switch s.mode {
	case "start", "noop", "activity", "timer":
		good = runLoad(s, out)
	case "park":
		good = runPark(s, out)
	case "query":
		good = runQuery(s, out)
	case "probe":
		good = runProbe(s, out)
	default:
		fmt.Fprintln(os.Stderr, "wfbench: unknown mode", s.mode)
		os.Exit(2)
	}
	out.print(s.asJSON)
	if !good {
		os.Exit(1)
	}
}
