package cascade_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// An onset is an overload of 3 s, 3 s without, and another one of 3 s.
type onset struct {
	workers  int
	load     float64
	attempt  time.Duration
	reported bool // there is no demand
	short    bool
}

var onsets = []onset{
	{workers: 10, load: 2, attempt: attempt, short: true},
	{workers: 100, load: 2, attempt: attempt},
	{workers: 10, load: 1.4, attempt: attempt, reported: true},
	{workers: 4, load: 2, attempt: attempt, reported: true},
	{workers: 10, load: 2, attempt: 100 * ms, reported: true},
}

const (
	gust      = 3 * secs
	onsetGoal = 95.0 // percent of the capacity in each step from reaction on
	reaction  = 200 * ms
	onsetRuns = 40
	// strays is one standard deviation of a step of 100 answers in onsetRuns runs.
	strays = 1.5
)

func (s onset) String() string {
	return fmt.Sprintf("%d x 10 ms, %vx, callers wait %d ms", s.workers, s.load, s.attempt.Milliseconds())
}

func (s onset) overload() *overload {
	o := overload{workers: s.workers, mean: 10 * ms, attempt: s.attempt, lead: 2 * secs, trouble: 3 * gust, after: step}
	o.load = func(at time.Duration) float64 {
		if gust <= at && at < 2*gust {
			return normal
		}
		return s.load
	}
	return o.withDefaults()
}

// runs is how often it runs. A step of a server with ten times as many workers has ten times
// as many answers.
func (s onset) runs() int {
	switch {
	case brief():
		return onsetRuns / 8
	case !*printTable:
		return onsetRuns * 10 / max(10, s.workers)
	}
	return onsetRuns
}

// The throughput is the capacity from 200 ms after the onset of an overload on, in the first
// overload and in the second.
func TestLimit_onset(t *testing.T) {
	rows := []string{"| server | overload | % of capacity in each tenth of a second |", "|---|---|---|"}
	for _, s := range onsets {
		if !s.short && brief() || s.reported && !*printTable {
			continue
		}
		t.Run(s.String(), func(t *testing.T) {
			o, sum := s.overload(), summary{}
			for seed := range s.runs() {
				o.simulate(t, plain, limitFront, uint64(100+seed), &sum)
			}
			possible := o.capacity() * step.Seconds() * float64(s.runs())
			slack := max(strays, strays*math.Sqrt(onsetRuns*10/float64(s.runs()*s.workers)))
			for i, name := range []string{"first", "second"} {
				row := ""
				from := time.Duration(i) * 2 * gust
				for at := from; at < from+gust; at += step {
					got := 100 * sum.bins[at/step] / possible
					row += fmt.Sprintf(" %.0f", got)
					if !s.reported && at >= from+reaction && got < onsetGoal-slack {
						t.Errorf("%s overload: %.1f %% of the capacity %v after the onset, at least %v wanted", name, got, at-from, onsetGoal)
					}
				}
				rows = append(rows, "| "+strings.Join([]string{s.String(), name, strings.TrimSpace(row)}, " | ")+" |")
			}
		})
	}
	show(t, rows)
}
