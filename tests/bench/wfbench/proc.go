// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// usage is what a set of processes has used so far, and holds now.
type usage struct {
	cpuSeconds float64
	rssKB      int64
}

const ticksPerSecond = 100 // USER_HZ, the same on every Linux that this runs on

func measure(pids []int) usage {
	var total usage
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The command's name, in brackets, may hold spaces: fields are counted from behind it.
		text := string(raw)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 22 {
			continue
		}
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		total.cpuSeconds += (user + system) / ticksPerSecond
		total.rssKB += pages * int64(os.Getpagesize()) / 1024
	}
	return total
}
