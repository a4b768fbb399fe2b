// SPDX-License-Identifier: MIT
//
// Writes random schedule specifications and what a Temporal server's own library makes of them: the table of
// test_schedule_times.c.  Run it inside a checkout of that server (its module has the library):
//
//	cd temporal && go run .../schedule_times.go -n 250 -c >.../schedule_times.inc      the committed table
//	cd temporal && go run .../schedule_times.go -n 20000 -seed 7 >/tmp/table           the long form:
//	TENON_SCHEDULE_TABLE=/tmp/table build/tests/unit/history/test_schedule_times
package main

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand"
	"strings"
	"time"

	schedulepb "go.temporal.io/api/schedule/v1"
	"go.temporal.io/server/service/worker/scheduler"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var r *rand.Rand

func pick(of ...string) string { return of[r.Intn(len(of))] }
func chance(percent int) bool  { return r.Intn(100) < percent }

func value(min, max int, names []string) string {
	if len(names) > 0 && chance(20) {
		name := names[r.Intn(len(names))]
		return name[:3+r.Intn(len(name)-2)]
	}
	if chance(1) {
		return fmt.Sprint(max + 1 + r.Intn(3))
	}
	return fmt.Sprint(min + r.Intn(max-min+1))
}

func field(min, max, width int, names []string) string {
	if chance(35) {
		return "*"
	}
	var parts []string
	for n := 1 + r.Intn(width); n > 0; n-- {
		part := value(min, max, names)
		switch r.Intn(5) {
		case 0:
			a, b := min+r.Intn(max-min+1), min+r.Intn(max-min+1)
			if a > b && !chance(2) {
				a, b = b, a
			}
			part = fmt.Sprintf("%d-%d", a, b)
		case 1:
			part = "*"
		}
		if chance(30) {
			part += fmt.Sprintf("/%d", r.Intn(20)+1)
		}
		if chance(1) {
			part += pick("/", "-", "/0", "/x", "-1-2", "/1/2", " ")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

var months = []string{"january", "February", "MARCH", "april", "may", "june", "july", "august", "september", "october",
	"november", "december"}
var days = []string{"sunday", "monday", "Tuesday", "wednesday", "thursday", "FRIDAY", "saturday"}

func second() string { return field(0, 59, 3, nil) }
func hour() string   { return field(0, 23, 4, nil) }
func year() string {
	if chance(80) {
		return "*"
	}
	return field(2000, 2100, 2, nil)
}

func calendar() *schedulepb.CalendarSpec {
	c := &schedulepb.CalendarSpec{Second: second(), Minute: second(), Hour: hour(),
		DayOfMonth: field(1, 31, 4, nil), Month: field(1, 12, 3, months), DayOfWeek: field(0, 7, 3, days), Year: year()}
	for _, f := range []*string{&c.Second, &c.Minute, &c.Hour, &c.DayOfMonth, &c.Month, &c.DayOfWeek, &c.Year} {
		if chance(20) {
			*f = ""
		}
	}
	return c
}

var zones = []string{"", "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo",
	"Asia/Kolkata", "Africa/Casablanca", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Antarctica/Troll",
	"America/St_Johns", "Europe/Dublin", "Asia/Kathmandu", "Pacific/Chatham", "Africa/Cairo", "America/Santiago"}

func cron() string {
	s := ""
	if chance(15) {
		s = pick("TZ=", "CRON_TZ=") + pick(zones...) + " "
	}
	switch r.Intn(12) {
	case 0:
		s += pick("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@never")
	case 1:
		s += "@every " + pick("1h", "90m", "14h/3h", "1d", "1.5d/30s", "1h30m/5m", "5s", "0.5s", "2h/3h", "1x", "")
	default:
		parts := []string{second(), hour(), field(1, 31, 3, nil), field(1, 12, 3, months), field(0, 7, 3, days)}
		switch r.Intn(5) {
		case 0:
			parts = append(parts, year())
		case 1:
			parts = append([]string{second()}, append(parts, year())...)
		}
		if chance(1) {
			parts = parts[1:]
		}
		s += strings.Join(parts, " ")
	}
	if chance(15) {
		s += " # " + pick("nightly", "a b", "")
	}
	return s
}

func dump(b *strings.Builder, tag string, cals []*schedulepb.StructuredCalendarSpec) {
	for _, c := range cals {
		b.WriteString(tag)
		for _, f := range [][]*schedulepb.Range{c.Second, c.Minute, c.Hour, c.DayOfMonth, c.Month, c.Year, c.DayOfWeek} {
			for _, one := range f {
				fmt.Fprintf(b, "%d.%d.%d,", one.Start, one.End, one.Step)
			}
			b.WriteString(";")
		}
		b.WriteString(c.Comment)
	}
}

func canonical(spec *schedulepb.ScheduleSpec) uint64 {
	var b strings.Builder
	dump(&b, "C", spec.StructuredCalendar)
	dump(&b, "X", spec.ExcludeStructuredCalendar)
	for _, iv := range spec.Interval {
		fmt.Fprintf(&b, "I%d/%d", int64(iv.Interval.AsDuration()), int64(iv.Phase.AsDuration()))
	}
	b.WriteString("Z" + spec.TimezoneName)
	h := fnv.New64a()
	h.Write([]byte(b.String()))
	return h.Sum64()
}

func texts(c *schedulepb.CalendarSpec) string {
	return strings.Join([]string{c.Second, c.Minute, c.Hour, c.DayOfMonth, c.Month, c.DayOfWeek, c.Year}, ";")
}

func spec(out *[]string) *schedulepb.ScheduleSpec {
	s := &schedulepb.ScheduleSpec{}
	if chance(60) {
		s.TimezoneName = pick(zones...)
	} else if chance(2) {
		s.TimezoneName = pick("Mars/Olympus", "../etc")
	}
	*out = append(*out, "z="+s.TimezoneName)
	add := func(key, v string) { *out = append(*out, key+"="+v) }
	for n := r.Intn(3); n > 0; n-- {
		c := calendar()
		s.Calendar = append(s.Calendar, c)
		add("s", texts(c))
	}
	for n := r.Intn(2); n > 0; n-- {
		c := cron()
		s.CronString = append(s.CronString, c)
		add("c", c)
	}
	for chance(25) {
		iv := int64(1+r.Intn(300000)) * int64(time.Second)
		if chance(3) {
			iv = int64(time.Millisecond) * 10
		}
		phase := r.Int63n(iv)
		if chance(40) {
			phase = 0
		}
		s.Interval = append(s.Interval, &schedulepb.IntervalSpec{Interval: durationpb.New(time.Duration(iv)),
			Phase: durationpb.New(time.Duration(phase))})
		add("i", fmt.Sprintf("%d/%d", iv, phase))
	}
	for chance(20) {
		c := calendar()
		c.Second = pick("*", "*", second())
		s.ExcludeCalendar = append(s.ExcludeCalendar, c)
		add("x", texts(c))
	}
	if chance(20) {
		t := moment()
		s.StartTime = timestamppb.New(t)
		add("S", fmt.Sprint(t.UnixNano()))
	}
	if chance(20) {
		t := moment()
		s.EndTime = timestamppb.New(t)
		add("E", fmt.Sprint(t.UnixNano()))
	}
	if chance(30) {
		j := time.Duration(r.Int63n(int64(48 * time.Hour)))
		s.Jitter = durationpb.New(j)
		add("j", fmt.Sprint(int64(j)))
	}
	return s
}

func moment() time.Time {
	from := time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	to := time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	t := time.Unix(from+r.Int63n(to-from), 0)
	if chance(30) { // around changes of the clocks
		t = time.Date(2010+r.Intn(25), time.Month([]int{3, 4, 9, 10, 11}[r.Intn(5)]), 1+r.Intn(31), r.Intn(5), 55, r.Intn(60), 0, time.UTC)
	}
	if chance(30) {
		t = t.Add(time.Duration(r.Intn(1e9)))
	}
	return t
}

func main() {
	n := flag.Int("n", 2500, "specifications")
	seed := flag.Int64("seed", 1, "of the random ones")
	times := flag.Int("times", 6, "of each")
	asC := flag.Bool("c", false, "as C strings")
	flag.Parse()
	r = rand.New(rand.NewSource(*seed))
	zero := func() int { return 0 }
	builder := scheduler.NewSpecBuilder(zero, func() int { return 20000 })
	for i := 0; i < *n; i++ {
		var line []string
		s := spec(&line)
		jitterSeed := fmt.Sprintf("9d2f3c4e-0000-4000-8000-%012x-schedule%d", r.Int63n(1<<40), i)
		from := moment()
		line = append(line, "e="+jitterSeed, fmt.Sprintf("f=%d", from.UnixNano()))
		compiled, err := builder.NewCompiledSpec(s)
		if err != nil {
			line = append(line, "!="+err.Error())
		} else {
			line = append(line, fmt.Sprintf("h=%x", canonical(compiled.CanonicalForm())))
			var results []string
			sparse := false
			t := from
			for k := 0; k < *times; k++ {
				next, err := compiled.GetNextTime(jitterSeed, t)
				sparse = sparse || err != nil
				if next.Next.IsZero() {
					results = append(results, "-")
					break
				}
				results = append(results, fmt.Sprintf("%d/%d", next.Next.UnixMilli(), next.Next.Sub(next.Nominal).Milliseconds()))
				t = next.Next
			}
			if sparse {
				continue // nearly all is excluded: there is a limit on either side
			}
			line = append(line, "="+strings.Join(results, ","))
		}
		if *asC {
			fmt.Printf("%q,\n", strings.Join(line, "|"))
		} else {
			fmt.Println(strings.Join(line, "|"))
		}
	}
}
