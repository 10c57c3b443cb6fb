package cascade_test

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

var (
	onlySeed = flag.Int("seed", -1, "the one seed to run overloads with; the tests take 0 to 2, the tables 11 to 15")
	onlyArm  = flag.String("arm", "", "the one front to run overloads with: none, bulkhead, random or limit")
	watching = flag.Bool("watch", false, "print each tenth of a second what the limit does in overloads")
)

// A match is an overload with one crowd, and what came of it with each front.
type match struct {
	*overload
	crowd
	with [4]summary // as fronts
}

func matches() (all []*match) {
	for _, o := range slices.Concat(overloads, batches(), mixes) {
		o := o.withDefaults()
		if brief() && !o.short {
			continue
		}
		all = append(all, &match{overload: o, crowd: plain})
		if o.crowded && !brief() {
			for _, c := range crowds {
				all = append(all, &match{overload: o, crowd: c})
			}
		}
	}
	return all
}

func (m *match) String() string { return m.overload.name + ", " + m.crowd.String() }

// skips is whether nothing needs to be known of f.
func (m *match) skips(f front) bool {
	if *onlyArm != "" {
		return f.name != *onlyArm
	}
	mixed := len(m.streams) > 1
	switch f.name {
	case limitFront.name:
		return false
	case openFront.name:
		return m.demand.near == 0 && !*printTable
	case fixedFront.name:
		return mixed || !*printTable
	}
	return !*printTable
}

// once is whether one run must do: of clients with policies, unless the table is wanted.
func (m *match) once() bool { return brief() || m.client != nil && !*printTable }

// slack is how many points a single run may stray.
func (m *match) slack() float64 {
	if m.once() {
		return 2
	}
	return 0
}

func (m *match) run(t *testing.T) {
	from, to := 0, 3
	switch {
	case *onlySeed >= 0:
		from, to = *onlySeed, *onlySeed+1
	case *printTable: // no constant of the limit has been chosen with these
		from, to = 11, 16
	case m.once():
		to = 1
	}
	for i, f := range fronts {
		if m.skips(f) {
			continue
		}
		for seed := from; seed < to; seed++ {
			m.simulate(t, m.crowd, f, uint64(seed), &m.with[i])
		}
	}
}

// judge reports what the limit does worse than it may, and returns what goals it
// misses.
func (m *match) judge(t *testing.T) (missed []string) {
	bare, limited := &m.with[0], &m.with[len(fronts)-1]
	if len(limited.good) == 0 {
		return nil
	}
	want, slack := m.demand, m.slack()
	m.judgeStreams(t, limited)
	if got := limited.good.mean(); got < want.good-slack {
		t.Errorf("%.1f %% of what is possible, %v wanted", got, want.good)
	} else if got < want.goodGoal {
		missed = append(missed, fmt.Sprintf("%.1f %% of what is possible, the goal is %v", got, want.goodGoal))
	}
	if calm, got := p99(limited.calm), p99(limited.rushed); want.p99 > 0 && m.client == nil && got > (want.p99+slack/10)*calm {
		t.Errorf("99th percentile %.0f ms under overload, %.0f ms without: at most %v times that is wanted", got, calm, want.p99)
	}
	if want.noRefusal && limited.refusedBefore.mean() > 0 {
		t.Errorf("%.0f calls refused before the overload", limited.refusedBefore.mean())
	}
	if want.neverRejects && limited.refused.mean() > 0 {
		t.Errorf("%.1f calls rejected without an overload", limited.refused.mean())
	}
	if want.hopeless && limited.hopeless.mean() == 0 {
		t.Error("no call rejected because too little time was left")
	}
	if got := limited.before.percent(); got < want.before-slack {
		t.Errorf("%.1f %% succeed before the overload, %v wanted", got, want.before)
	}
	if len(bare.good) == 0 {
		return missed
	}
	cost := bare.during.percent() - limited.during.percent()
	if want.near > 0 && cost > want.near+slack {
		t.Errorf("%.2f %% succeed, without a limit it would be %.2f %%", limited.during.percent(), bare.during.percent())
	}
	if want.nearGoal > 0 && cost > want.nearGoal {
		missed = append(missed, fmt.Sprintf("%.1f points fewer succeed than without a limit, the goal is %v", cost, want.nearGoal))
	}
	if got := bare.good.mean(); m.client == nil && len(m.streams) == 1 && !want.withoutOverload && got > 95 {
		t.Errorf("without a limit %.1f %% of what is possible: that is no overload", got)
	}
	return missed
}

// number is x, or a dash if there is none.
func number(format string, x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf(format, x)
}

// row is the match in the table.
func (m *match) row() string {
	bare, fixed, random, limited := &m.with[0], &m.with[1], &m.with[2], &m.with[3]
	return "| " + strings.Join([]string{m.overload.name, m.crowd.String(),
		number("%.1f", bare.good.mean()), number("%.1f", fixed.good.mean()), number("%.1f", random.good.mean()), number("%.1f", limited.good.mean()), number("%.1f", limited.first.mean()),
		number("%.1f", bare.during.percent()), number("%.1f", limited.during.percent()),
		number("%.0f", p99(limited.calm)), number("%.0f", p99(limited.rushed)),
		number("%.1f", bare.before.percent()), number("%.1f", limited.before.percent()),
		number("%.0f", limited.heldBefore.mean()), number("%.0f", limited.refusedBefore.mean()), number("%.0f", limited.refused.mean()),
		number("%.1f", limited.later.percent()), number("%.1f", limited.recoveries.mean()),
	}, " | ") + " |"
}

// detail is all that is known of the runs with a front.
func (s *summary) detail(f front) string {
	return fmt.Sprintf("%-8s good %.1f (%.1f), first 2 s %.1f, ok before %.2f, meanwhile %.2f, after %.2f, p99 before %.0f ms, meanwhile %.0f ms, held up before %.0f, refused before %.0f, in all %.0f, hopeless %.0f, recovery %.1f s",
		f.name, s.good.mean(), s.good, s.first.mean(), s.before.percent(), s.during.percent(), s.later.percent(),
		p99(s.calm), p99(s.rushed), s.heldBefore.mean(), s.refusedBefore.mean(), s.refused.mean(), s.hopeless.mean(), s.recoveries.mean())
}

// A server with the limit does what it can under overload. Each overload runs without
// a front, with the bulkhead that a server otherwise has, and with the limit.
func TestLimit_servesUnderOverload(t *testing.T) {
	rows := []string{
		"| overload | clients | good %: none | bulkhead | random | limit | limit, first 2 s | ok % meanwhile: none | limit | limit, p99 ms: before | meanwhile | ok % before: none | limit | held up before | refused before | refused | ok % after | recovery s |",
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
	}
	streams := []string{
		"| overload | calls | ok %: none | random | limit | limit, worst caller | limit, got % of capacity | limit, p99 ms: before | meanwhile | rejected | hopeless |",
		"|---|---|---|---|---|---|---|---|---|---|---|",
	}
	var goals []string
	for _, m := range matches() {
		t.Run(m.String(), func(t *testing.T) {
			m.run(t)
			for i, f := range fronts {
				if len(m.with[i].good) > 0 {
					t.Log(m.with[i].detail(f))
				}
			}
			if len(m.streams) > 1 {
				streams = append(streams, m.streamRows()...)
			} else {
				rows = append(rows, m.row())
			}
			for _, missed := range m.judge(t) {
				goals = append(goals, "- "+m.String()+": "+missed+".")
			}
		})
	}
	show(t, rows)
	show(t, streams)
	if len(goals) > 0 {
		show(t, append([]string{"Goals that are missed:", ""}, goals...))
	}
}
