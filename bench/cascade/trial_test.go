package cascade_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"
)

// A trial is a scenario with one fleet, and what came of it with each arm.
type trial struct {
	scenario
	fleet
	bare, simple, ours result
}

func trials() (all []*trial) {
	for _, s := range slices.Concat(failing, outages, slow, healthy) {
		if brief() && !s.short {
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

// wants reports whether the arm runs.
func wants(a arm) bool {
	if *onlyArm != "" {
		return a.name == *onlyArm
	}
	return a.name != naive.name || *printTable || testing.Verbose()
}

// spare is by how many points a scenario must meet its demands in its first run, so that it
// need not run again.
const spare = 0.5

func (l *trial) run(t *testing.T) {
	if wants(naive) { // for the table
		l.simulate(t, l.fleet, naive, uint64(max(0, *onlySeed)), &l.simple)
	}
	for seed := range l.seeds {
		if *onlySeed >= 0 && seed != uint64(*onlySeed) {
			continue
		}
		if wants(none) {
			l.simulate(t, l.fleet, none, seed, &l.bare)
		}
		if wants(protected) {
			l.simulate(t, l.fleet, protected, seed, &l.ours)
		}
		if brief() || *onlyArm == "" && !*printTable && len(l.faults(-spare)) == 0 {
			return
		}
	}
}

// faults returns what the stack does worse than it may, and by more than slack points.
func (l *trial) faults(slack float64) (all []string) {
	fault := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	if l.reported {
		return nil
	}
	ok, bare := l.ours.success(), l.bare.success()
	fault(bare-ok > cmp.Or(l.worse, 1)+slack, "%.2f %% succeed, without protection %.2f %%", ok, bare)
	least := l.atLeast[l.fleet]
	fault(least > 0 && ok < least-slack, "%.2f %% succeed, at least %v %% wanted", ok, least)
	fault(l.load > 0 && l.ours.load() > l.load, "%.3f requests for each call, at most %v wanted", l.ours.load(), l.load)
	fault(l.admitsAll && l.ours.rejected > 0, "policies rejected %d of %d calls", l.ours.rejected, l.ours.calls)
	if l.rate < 50 {
		return all // a process with few calls notices late, and takes bad luck for silence
	}
	_, most, _ := l.ours.recovery()
	fault(l.recovery > 0 && most > l.recovery, "nine of ten processes recovered within %v, at most %v wanted", most, l.recovery)
	fault(l.closed && l.ours.opened > 0, "opened %d times", l.ours.opened)
	return all
}

// row is the trial in the table.
func (l *trial) row() string {
	recovery := "| |"
	if l.recovery > 0 {
		mean, most, all := l.ours.recovery()
		recovery = fmt.Sprintf("%.1f | %.1f | %.1f", mean.Seconds(), most.Seconds(), all.Seconds())
	}
	row := fmt.Sprintf("| %s | %v | %.1f | %.1f | %.1f | %.2f | %.3f | %s | %.2f |", l.name, l.fleet,
		l.bare.success(), l.simple.success(), l.ours.success(), l.simple.load(), l.ours.load(), recovery, l.ours.openings())
	if *printP99 {
		ms := func(r *result) int64 { return r.p99().Round(time.Millisecond).Milliseconds() }
		row += fmt.Sprintf(" %d | %d | %d |", ms(&l.bare), ms(&l.simple), ms(&l.ours))
	}
	return row
}

// The default client stack is never worse than no protection. Each scenario runs
// with all arms. The points that an outage costs are lost in its recovery: a breaker
// pays them for keeping the load low during the outage.
func TestClient_neverWorseThanNoProtection(t *testing.T) {
	rows := []string{
		"| scenario | processes | ok %: none | naive | stack | load: naive | stack | recovery s: mean | 9 of 10 | all | openings |",
		"|---|---|---|---|---|---|---|---|---|---|---|",
	}
	if *printP99 {
		rows[0] += " p99 ms: none | naive | stack |"
		rows[1] += "---|---|---|"
	}
	for _, l := range trials() {
		t.Run(l.name+", "+l.fleet.String(), func(t *testing.T) {
			l.run(t)
			for _, r := range []struct {
				arm
				result
			}{{none, l.bare}, {naive, l.simple}, {protected, l.ours}} {
				if r.calls > 0 {
					t.Logf("%s: %v", r.name, &r.result)
				}
			}
			if *onlyArm != "" {
				return
			}
			slack := 0.
			if brief() {
				slack = spare // single runs stray
			}
			for _, fault := range l.faults(slack) {
				t.Error(fault)
			}
			rows = append(rows, l.row())
		})
	}
	if !brief() && *onlyArm == "" {
		show(t, rows)
	}
}
