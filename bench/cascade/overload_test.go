package cascade_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	onlySeed = flag.Int("seed", -1, "the one seed to run overloads with; those from 3 on are no part of the tables")
	onlyArm  = flag.String("arm", "", "the one front to run overloads with: none, bulkhead or limit")
	watching = flag.Bool("watch", false, "print each tenth of a second what the limit does in overloads")
)

// A match is an overload with one crowd, and what came of it with each front.
type match struct {
	*overload
	crowd
	with [3]summary // as fronts
}

func matches() (all []*match) {
	for i := range overloads {
		o := overloads[i].withDefaults()
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

func (m *match) run(t *testing.T) {
	from, to := 0, 3
	if brief() {
		to = 1
	}
	if *onlySeed >= 0 {
		from, to = *onlySeed, *onlySeed+1
	}
	for i, f := range fronts {
		if *onlyArm != "" && *onlyArm != f.name {
			continue
		}
		for seed := from; seed < to; seed++ {
			m.simulate(t, m.crowd, f, uint64(seed), &m.with[i])
		}
	}
}

// judge reports what the limit does worse than it may.
func (m *match) judge(t *testing.T) {
	bare, limited := &m.with[0], &m.with[2]
	if len(limited.good) == 0 {
		return
	}
	slack := 0.
	if brief() {
		slack = 1 // single runs stray
	}
	want := m.demand
	if got := mean(limited.good); got < want.good-slack {
		t.Errorf("%.1f %% of what is possible, %v wanted", got, want.good)
	}
	if calm, got := p99(limited.calm), p99(limited.rushed); want.p99 > 0 && m.client == nil && float64(got) > (want.p99+slack/5)*float64(calm) {
		t.Errorf("99th percentile %v under overload, %v without: at most %v times that is wanted", got, calm, want.p99)
	}
	if want.noRefusal && limited.refusedBefore > 0 {
		t.Errorf("%d calls refused before the overload", limited.refusedBefore)
	}
	if cost := bare.during.percent() - limited.during.percent(); want.near > 0 && len(bare.good) > 0 && cost > want.near+slack {
		t.Errorf("%.2f %% succeed, %.2f %% without a limit", limited.during.percent(), bare.during.percent())
	}
}

// row is the match in the table.
func (m *match) row() string {
	cells := func(format string, of func(*summary) any) string {
		var all []string
		for i := range m.with {
			if len(m.with[i].good) == 0 {
				all = append(all, "-")
				continue
			}
			all = append(all, fmt.Sprintf(format, of(&m.with[i])))
		}
		return strings.Join(all, " / ")
	}
	msOf := func(d time.Duration) any { return d.Milliseconds() }
	return "| " + strings.Join([]string{m.overload.name, m.crowd.String(),
		cells("%.1f", func(s *summary) any { return s.before.percent() }),
		cells("%.1f", func(s *summary) any { return mean(s.good) }),
		cells("%.1f", func(s *summary) any { return mean(s.first) }),
		cells("%.1f", func(s *summary) any { return s.during.percent() }),
		cells("%d", func(s *summary) any { return msOf(p99(s.calm)) }),
		cells("%d", func(s *summary) any { return msOf(p99(s.rushed)) }),
		cells("%d", func(s *summary) any { return s.refusedBefore }),
		cells("%d", func(s *summary) any { return s.refused }),
		cells("%.1f", func(s *summary) any { return mean(s.recoveries).Seconds() }),
		cells("%.1f", func(s *summary) any { return s.later.percent() }),
	}, " | ") + " |"
}

// TestAServerWithTheLimitDoesWhatItCanUnderOverload runs each overload without a
// front, with the bulkhead that a server otherwise has, and with the limit. All
// columns are none / bulkhead / limit.
func TestAServerWithTheLimitDoesWhatItCanUnderOverload(t *testing.T) {
	rows := []string{
		"| overload | clients | ok % before | good % | good % first 2 s | ok % meanwhile | p99 ms before | p99 ms meanwhile | refused before | refused | recovery s | ok % after |",
		"|---|---|---|---|---|---|---|---|---|---|---|---|",
	}
	for _, m := range matches() {
		t.Run(m.String(), func(t *testing.T) {
			m.run(t)
			rows = append(rows, m.row())
			m.judge(t)
		})
	}
	show(t, rows)
}
