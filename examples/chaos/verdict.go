package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// The bounds of the verdict.
const (
	minGoodput   = 99    // percent, healthy route of the protected system, in every phase
	fallenBelow  = 90    // percent, healthy route of the unprotected system, in some phase
	p99Factor    = 1.5   // times the p99 of the healthy phase ...
	p99Extra     = 10.0  // ... plus so many ms, or
	p99Floor     = 150.0 // ms, whichever is more
	minWhileSlow = 50    // percent of what the slow service can do, broken route of the protected system
	maxAmplified = 0.3
	maxRecovery  = 2 * time.Second
	// maxLate is in ms. An answer needs several wake-ups of the kind that the load
	// generator measures. If these take longer than this, the p99 is the machine's,
	// and the load is not the intended one.
	maxLate = 50.0
)

// setup has the constants that a reader of the figures needs.
type setup struct {
	Rate        int     `json:"requests_per_second_per_route"`
	Slots       int     `json:"front_slots"`
	Workers     int     `json:"service_workers"`
	Queue       int     `json:"service_queue"`
	Work        float64 `json:"service_ms"`
	Slowdown    int     `json:"slow_factor"`
	Attempt     float64 `json:"attempt_timeout_ms"`
	GoodUntil   float64 `json:"good_within_ms"`
	NaiveWaits  [2]int  `json:"naive_waits_ms"`
	Description string  `json:"note"`
}

type systemResult struct {
	Name          string         `json:"system"`
	Routes        [2]routeResult `json:"routes"`
	Amplification float64        `json:"amplification"`
	// Recovery is in seconds, nil if there was none.
	Recovery *float64 `json:"recovery_s"`
	Attempts []int    `json:"attempts_per_second"`
}

// result is the outcome of a run.
type result struct {
	Setup     setup           `json:"setup"`
	Script    script          `json:"script"`
	Generator lateness        `json:"load_generator"`
	Systems   [2]systemResult `json:"systems"`
	Checks    []demo.Check    `json:"checks"`
}

func (r result) passed() bool { return demo.Passed(r.Checks) }

// valid reports whether the load generator kept its schedule.
func (r result) valid() bool { return judgeGenerator(r.Generator).OK }

func evaluate(s script, m measured) result {
	r := result{Setup: theSetup(), Script: s, Generator: lateOf(s, m.records)}
	for i, name := range systemNames {
		sys := systemResult{Name: name, Attempts: m.attempts[i]}
		for route := range routeNames {
			sys.Routes[route] = summarize(s, routeNames[route], where(m.records, i, route))
		}
		seen := sys.Routes[broken].Units
		sys.Amplification = amplification(s, m.attempts[i], seen)
		if d, ok := recovery(s, seen); ok {
			seconds := d.Seconds()
			sys.Recovery = &seconds
		}
		r.Systems[i] = sys
	}
	r.Checks = judge(r)
	return r
}

func theSetup() setup {
	return setup{
		Rate: rate, Slots: slots, Workers: workers, Queue: queue,
		Work: milliseconds(work), Slowdown: slowdown,
		Attempt: milliseconds(attempt), GoodUntil: milliseconds(goodUntil),
		NaiveWaits:  [2]int{int(naiveWaits[0].Milliseconds()), int(naiveWaits[1].Milliseconds())},
		Description: "goodput: 2xx within good_within_ms of the intended time; p99: of all 2xx, from the intended time",
	}
}

// judge returns the conditions of the verdict, met or not.
func judge(r result) []demo.Check {
	return []demo.Check{
		judgeGoodput(r.Systems[protected].Routes[healthy].Phases),
		judgeP99(r.Systems[protected].Routes[healthy].Phases),
		judgeSlow(r.Script, r.Systems[protected].Routes[broken].Phases),
		judgeAmplification(r.Script, r.Systems[protected]),
		judgeRecovery(r.Systems[protected]),
		judgeFall(r.Systems[unprotected].Routes[healthy].Phases),
		judgeGenerator(r.Generator),
	}
}

func judgeGoodput(phases []figure) demo.Check {
	c := demo.Check{What: "protected: healthy goodput", Want: fmt.Sprintf("every phase >= %d %%", minGoodput), OK: true}
	worst := worstPhase(phases)
	for _, f := range phases {
		c.OK = c.OK && f.atLeast(minGoodput)
	}
	c.Got = fmt.Sprintf("%.2f %% (%s)", worst.percent(), worst.Phase)
	return c
}

func worstPhase(phases []figure) figure {
	worst := phases[0]
	for _, f := range phases {
		if f.percent() < worst.percent() {
			worst = f
		}
	}
	return worst
}

func judgeP99(phases []figure) demo.Check {
	c := demo.Check{What: "protected: healthy p99", Got: "no answer"}
	base := phases[0].P99
	if base == nil {
		c.Want = "some answer in the healthy phase"
		return c
	}
	bound := max(p99Factor**base+p99Extra, p99Floor)
	c.Want = fmt.Sprintf("every phase <= %.0f ms", bound)
	worst, in := 0.0, ""
	for _, f := range phases {
		if f.P99 == nil {
			c.Got = "no answer (" + f.Phase + ")"
			return c
		}
		if *f.P99 >= worst {
			worst, in = *f.P99, f.Phase
		}
	}
	c.Got = fmt.Sprintf("%.0f ms (%s)", worst, in)
	c.OK = worst <= bound
	return c
}

// judgeSlow fails if the slow service answers less than half of the requests that it could.
func judgeSlow(s script, phases []figure) demo.Check {
	const able = int(100 * workers * time.Second / work / (slowdown * rate)) // percent of the requests
	c := demo.Check{What: "protected: broken goodput", Want: fmt.Sprintf("while slow >= %d %%", minWhileSlow*able/100)}
	for i, f := range phases {
		if s.Phases[i].Fault == slow {
			c.Got = fmt.Sprintf("%.1f %% of %d %%", f.percent(), able)
			c.OK = f.Requests > 0 && f.atLeast(minWhileSlow*able/100)
		}
	}
	return c
}

func judgeAmplification(s script, sys systemResult) demo.Check {
	requests := 0
	for unit, t := range sys.Routes[broken].Units {
		if s.Phases[s.phaseOf(unit)].Fault.down() {
			requests += t.Requests
		}
	}
	return demo.Check{
		What: "protected: attempts per request",
		Want: fmt.Sprintf("<= %.1f", maxAmplified),
		Got:  fmt.Sprintf("%.3f", sys.Amplification),
		OK:   requests > 0 && sys.Amplification <= maxAmplified,
	}
}

func judgeRecovery(sys systemResult) demo.Check {
	c := demo.Check{What: "protected: recovery", Want: fmt.Sprintf("<= %.0f s", maxRecovery.Seconds()), Got: recoveryText(sys)}
	c.OK = sys.Recovery != nil && *sys.Recovery <= maxRecovery.Seconds()
	return c
}

func recoveryText(sys systemResult) string {
	if sys.Recovery == nil {
		return "never"
	}
	return fmt.Sprintf("%.3g s", *sys.Recovery)
}

// judgeFall fails if the unprotected system stood: then nothing was shown.
func judgeFall(phases []figure) demo.Check {
	c := demo.Check{What: "unprotected: healthy goodput", Want: fmt.Sprintf("some phase < %d %%", fallenBelow)}
	worst := worstPhase(phases)
	c.Got = fmt.Sprintf("%.2f %% (%s)", worst.percent(), worst.Phase)
	c.OK = worst.Requests > 0 && !worst.atLeast(fallenBelow)
	return c
}

func judgeGenerator(l lateness) demo.Check {
	return demo.Check{
		What: "load generator: late, p99",
		Want: fmt.Sprintf("every phase <= %.0f ms", maxLate),
		Got:  fmt.Sprintf("%.1f ms", l.P99),
		OK:   l.Requests > 0 && l.P99 <= maxLate,
	}
}

func encode(r result) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(r)
	return b.Bytes(), err
}
