// Package cascade simulates processes and their dependency in virtual time, to
// show what the default client stack is good for, and that it costs nothing
// elsewhere, and a server under overload, to show what its limit is good for.
//
//	go test -C bench/cascade -table
//
// prints the tables in bench/README.md.
//
//	go test -C bench/cascade -run Overload/^2x,_no -v -arm limit -seed 7 -watch
//
// is one overload with one front and one seed; -watch prints what the limit does.
package cascade_test

import (
	"cmp"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

var printTable = flag.Bool("table", false, "print the tables as markdown")

// TestMain keeps to one thread. Virtual time passes when all goroutines wait, so
// most of the time there is one that can run, and with more threads it would only
// be handed from one to the other. There is much garbage and little else.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(1000)
	m.Run()
}

// A trial is a scenario with one fleet, and what came of it with each arm.
type trial struct {
	scenario
	fleet
	bare, simple, ours result
}

// brief reports whether each scenario runs only once, with a wider tolerance. The
// long simulations run once in CI, in a plain 64-bit go test ./...: virtual time
// gives the same results with the race detector and with 32 bits.
func brief() bool { return raceEnabled || strconv.IntSize == 32 || testing.Short() }

func trials() (all []*trial) {
	for _, s := range scenarios {
		if raceEnabled && !s.short { // the race detector makes a scenario ten times slower
			continue
		}
		fleets := s.fleets
		if fleets == nil {
			fleets = []fleet{few, many}
		}
		if brief() {
			fleets = fleets[:1]
		}
		for _, f := range fleets {
			all = append(all, &trial{scenario: s, fleet: f})
		}
	}
	return all
}

func (l *trial) run(t *testing.T) {
	if brief() {
		l.seeds = 1
	} else {
		l.simulate(t, l.fleet, naive, 0, &l.simple) // for the table
	}
	for seed := range l.seeds {
		l.simulate(t, l.fleet, none, seed, &l.bare)
		l.simulate(t, l.fleet, protected, seed, &l.ours)
	}
}

// judge reports what the stack does worse than it may.
func (l *trial) judge(t *testing.T) {
	if l.reported {
		return
	}
	worse := cmp.Or(l.worse, 1)
	if brief() {
		worse += 0.5 // single runs stray
	}
	if l.bare.success()-l.ours.success() > worse {
		t.Errorf("%.2f %% succeed, without protection %.2f %%", l.ours.success(), l.bare.success())
	}
	if l.load > 0 && l.ours.load() > l.load {
		t.Errorf("%.3f requests for each call, at most %v wanted", l.ours.load(), l.load)
	}
	if l.rate < 50 {
		return // a process with few calls notices late, and takes bad luck for silence
	}
	if _, most, _ := l.ours.recovery(); l.recovery > 0 && most > l.recovery {
		t.Errorf("nine of ten processes recovered within %v, at most %v wanted", most, l.recovery)
	}
	if l.closed && l.ours.opened > 0 {
		t.Errorf("opened %d times", l.ours.opened)
	}
}

// row is the trial in the table.
func (l *trial) row() string {
	recovery := "| |"
	if l.recovery > 0 {
		mean, most, all := l.ours.recovery()
		recovery = fmt.Sprintf("%.1f | %.1f | %.1f", mean.Seconds(), most.Seconds(), all.Seconds())
	}
	return fmt.Sprintf("| %s | %v | %.1f | %.1f | %.1f | %.2f | %.3f | %s | %.2f |", l.name, l.fleet,
		l.bare.success(), l.simple.success(), l.ours.success(), l.simple.load(), l.ours.load(), recovery, l.ours.openings())
}

// The default client stack is never worse than no protection. Each scenario runs
// with all arms. The points that an outage costs are lost in its recovery: a breaker
// pays them for keeping the load low during the outage.
func TestClient_neverWorseThanNoProtection(t *testing.T) {
	rows := []string{
		"| scenario | processes | ok %: none | naive | stack | load: naive | stack | recovery s: mean | 9 of 10 | all | openings |",
		"|---|---|---|---|---|---|---|---|---|---|---|",
	}
	for _, l := range trials() {
		t.Run(l.name+", "+l.fleet.String(), func(t *testing.T) {
			l.run(t)
			l.judge(t)
			rows = append(rows, l.row())
		})
	}
	if !brief() {
		show(t, rows)
	}
}

// show prints a table.
func show(t *testing.T, rows []string) {
	text := "\n" + strings.Join(rows, "\n") + "\n"
	t.Log(text)
	if *printTable {
		fmt.Println(text)
	}
}
