package cascade_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
)

// A stream is calls of one kind. Loads are multiples of what the workers can do in good
// times.
type stream struct {
	name     string
	priority resilience.Priority
	callers  int           // that have names and make the calls, 0: they have no names
	attempt  time.Duration // limit of an attempt, 0: as of the overload
	calm     float64       // load before the trouble and after it
	load     func(at time.Duration) float64

	// The limit must serve ok percent of the calls, and most percent of the capacity. Zeros
	// demand nothing.
	ok, most float64
}

// mixes are the overloads with several streams. The slack of what one stream may get beyond
// its fair share is 2 points of the capacity.
var mixes = []overload{
	// Bulk is 12 times what critical calls leave.
	critical(0.5, 0.2, 4.8), shortly(critical(0.7, 0.1, 2.4)), critical(0.9, 0.01, 1.2),
	shortly(greedy(9, 0.45, 1, 99, 0.55)), greedy(9, 0.81, 1, 99, 0.19), greedy(9, 0.9, 1, 0, 0.1), greedy(9, 1.35, 1.5, 0, 0.1),
	greedy(99, 0.8, 1, 99, 0.2), greedy(999, 0.8, 1, 99, 0.2), greedy(999, 1.6, 1, 0, 0.001),

	// No constant of the limit has been chosen for the following.
	renamed("8 shared cores", critical(0.7, 0.1, 2.4), func(o *overload) { o.workers, o.shared = 8, true }),
	renamed("100 workers", critical(0.8, 0.05, 1.2), func(o *overload) { o.workers, o.trouble = 100, 5*secs }),
	renamed("4 workers", critical(0.7, 0.1, 2.4), func(o *overload) { o.workers = 4 }),
	renamed("brown-out, 5x slower", critical(0.1, 0.5, 0.5), func(o *overload) {
		o.slow = constant(5)
		o.streams[0].ok = 99 // work of 50 ms, while callers wait 500 ms
	}),
	renamed("1 % take 20x", critical(0.7, 0.1, 2.4), func(o *overload) { o.takes = oneInAHundred }),
	renamed("pauses of 200 ms", critical(0.7, 0.1, 2.4), func(o *overload) {
		o.pause, o.demand.good = 200*ms, 0
		o.streams[0].ok = 98.3 // a pause leaves a queue that critical calls fill
	}),
	mixed("four priorities",
		stream{name: "critical", priority: resilience.Critical, calm: 0.3, load: constant(0.3), ok: 99.9},
		stream{name: "normal", calm: 0.2, load: constant(0.4), ok: 99.9},
		stream{name: "low", priority: resilience.Low, calm: 0.1, load: constant(0.6)},
		stream{name: "lowest", priority: resilience.Lowest, calm: 0.1, load: constant(0.6)}),
	mixed("critical calls alone are too many",
		stream{name: "critical", priority: resilience.Critical, calm: 0.5, load: constant(1.2)},
		stream{name: "bulk", priority: resilience.Lowest, calm: 0.1, load: constant(1)}),
	mixed("a hog claims to be critical, callers are known",
		stream{name: "critical", priority: resilience.Critical, callers: 10, calm: 0.5, ok: 99},
		stream{name: "hog", priority: resilience.Critical, callers: 1, calm: 0.05, load: constant(5), most: 52}),
	mixed("a hog claims to be critical, callers are not known",
		stream{name: "critical", priority: resilience.Critical, calm: 0.5},
		stream{name: "hog", priority: resilience.Critical, calm: 0.05, load: constant(5)}),
	mixed("five hogs, 50 others",
		stream{name: "others", callers: 50, calm: 0.4, ok: 99},
		stream{name: "hogs", callers: 5, calm: 0.2, load: constant(2.5), most: 62}),
	renamed("100 workers", greedy(99, 0.8, 1, 99, 0.2), func(o *overload) { o.workers, o.trouble = 100, 5*secs }),
	renamed("brown-out, 5x slower", greedy(9, 0.08, 0.6, 99, 0.12), func(o *overload) { o.slow = constant(5) }),
	{name: "no overload: gusts and pauses of 200 ms", workers: 10, mean: 10 * ms, pause: 200 * ms, trouble: 18 * secs, after: 3 * secs,
		demand: demand{neverRejects: true, near: 1, withoutOverload: true},
		streams: []stream{
			{name: "critical", priority: resilience.Critical, calm: 0.3},
			{name: "bulk", priority: resilience.Lowest, calm: 0.2, load: func(at time.Duration) float64 {
				if at%(500*ms) < 30*ms {
					return 4
				}
				return 0.2
			}}}},

	// The contexts of the requests have deadlines.
	hurried(100*ms, 2, 1, 0, demand{good: 98}),
	hurried(40*ms, 2, 1, 0, demand{good: 97, hopeless: true}),
	hurried(200*ms, normal, 5, 0, demand{good: 97}),
	hurried(100*ms, normal, 5, 0, demand{good: 85, hopeless: true}), // 84 if nothing is hopeless
	hurried(100*ms, 1.5, 1, 200*ms, demand{good: 92}),               // the pauses are 6.7 % of the time
	shortly(hurried(100*ms, normal, 1, 400*ms, demand{neverRejects: true, near: 1, withoutOverload: true})),
}

func mixed(name string, streams ...stream) overload {
	return overload{name: name, workers: 10, mean: 10 * ms, trouble: 18 * secs, after: 3 * secs, streams: streams, demand: demand{good: 98}}
}

// critical is important calls and bulk, whose load becomes another.
func critical(load, calm, bulk float64) overload {
	return mixed(fmt.Sprintf("critical %v, bulk %v", load, bulk),
		stream{name: "critical", priority: resilience.Critical, calm: load, ok: 99.9},
		stream{name: "bulk", priority: resilience.Lowest, calm: calm, load: constant(bulk)})
}

// greedy is a caller among others, that calls more often during the trouble. Fair is its
// share of the capacity.
func greedy(others int, load, hog, ok, fair float64) overload {
	return mixed(fmt.Sprintf("%d callers with %v, one with %v", others, load, hog),
		stream{name: "others", callers: others, calm: min(load, normal), load: constant(load), ok: ok},
		stream{name: "hog", callers: 1, calm: 0.05, load: constant(hog), most: 100*fair + 2})
}

// hurried is callers of which half have little time and half have 2 s.
func hurried(little time.Duration, load, slower float64, pause time.Duration, d demand) overload {
	name := fmt.Sprintf("deadlines of %d ms and 2 s, %vx", little.Milliseconds(), load)
	if slower > 1 {
		name += fmt.Sprintf(", %vx slower", slower)
	}
	o := mixed(name,
		stream{name: "hurried", attempt: little, calm: normal / 2, load: constant(load / 2)},
		stream{name: "patient", calm: normal / 2, load: constant(load / 2)})
	o.attempt, o.slow, o.pause, o.demand = 2*secs, constant(slower), pause, d
	if pause > 0 {
		o.name += fmt.Sprintf(", pauses of %d ms", pause.Milliseconds())
	}
	return o
}

// renamed is o with another server.
func renamed(what string, o overload, change func(*overload)) overload {
	change(&o)
	o.name = what + ": " + o.name
	return o
}

func shortly(o overload) overload {
	o.short = true
	return o
}

// judgeStreams reports what the limit serves too little or too much of.
func (m *match) judgeStreams(t *testing.T, limited *summary) {
	for i, part := range limited.parts {
		s := &m.streams[i]
		if got := part.during.percent(); got < s.ok-m.slack()/10 {
			t.Errorf("%s: %.2f %% succeed, %v wanted", s.name, got, s.ok)
		}
		if got := part.got.mean(); s.most > 0 && got > s.most+m.slack() {
			t.Errorf("%s: served %.1f %% of the capacity, at most %.1f wanted", s.name, got, s.most)
		}
	}
}

// streamRows are the match in the table of streams.
func (m *match) streamRows() (rows []string) {
	bare, random, limited := &m.with[0], &m.with[2], &m.with[3]
	name, rejected, hopeless := m.overload.name, number("%.0f", limited.refused.mean()), number("%.0f", limited.hopeless.mean())
	for i := range m.streams {
		part := func(s *summary) *summary {
			if s.parts == nil {
				return &summary{} // it has not run
			}
			return &s.parts[i]
		}
		x, worst := part(limited), "-"
		if len(x.each) > 1 {
			worst = number("%.1f", x.worst())
		}
		rows = append(rows, "| "+strings.Join([]string{name, m.streams[i].name,
			number("%.2f", part(bare).during.percent()), number("%.2f", part(random).during.percent()), number("%.2f", x.during.percent()),
			worst, number("%.1f", x.got.mean()), number("%.0f", p99(x.calm)), number("%.0f", p99(x.rushed)), rejected, hopeless,
		}, " | ")+" |")
		name, rejected, hopeless = "", "", ""
	}
	return rows
}
