package main

import "time"

// The size of everything. Both copies have the same, and the result
// follows from these numbers and, as far as possible, not from the machine.
//
// A service is fine at 100 requests a second: they keep 100 x 20 ms = 2 of its 8
// workers busy, a quarter of its 400 a second. Slow, it can do 8 / 200 ms = 40 a
// second, less than half of the load.
//
// The unprotected front then holds a request for all of its attempts and waits,
// 3 x 500 + 50 + 100 = 1650 ms, so 100 a second want 165 slots, and there are
// 128. In that state 128 / 1.65 s = 78 requests a second get in on the broken
// route, and the same share on the healthy one: about a quarter of its requests
// is rejected. The queue holds all attempts that are still alive (at most 300 a
// second x 500 ms = 150), so that slow means late and not rejected.
//
// While the broken service does not answer, the protected front holds at most 24 + 12
// requests for it: the slots of its bulkhead, and the queue.
const (
	rate      = 100 // requests a second on each route of each copy
	slots     = 128 // requests that a front works on at once
	workers   = 8   // requests that a service works on at once
	queue     = 256 // requests that may wait for a worker
	work      = 20 * time.Millisecond
	slowdown  = 10
	attempt   = 500 * time.Millisecond // the timeout that both operators set
	goodUntil = 2 * time.Second        // later than this a 2xx is no good
	giveUp    = 3 * time.Second        // the load generator stops waiting
)

// naiveWaits come between the attempts of the unprotected front.
var naiveWaits = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}

// The indices of the two copies, of the two services and of the routes to them.
const (
	unprotected, protected = 0, 1
	healthy, broken        = 0, 1
)

var (
	systemNames = [2]string{"unprotected", "protected"}
	routeNames  = [2]string{"healthy", "broken"}
)

type fault string

const (
	noFault  fault = "none"
	slow     fault = "slow"     // works, but takes slowdown times as long
	hanging  fault = "hanging"  // accepts connections and never answers
	refusing fault = "refusing" // has closed its socket
)

// down reports whether nothing can succeed.
func (f fault) down() bool { return f == hanging || f == refusing }

type phase struct {
	Name  string `json:"name"`
	Fault fault  `json:"fault"`
	Units int    `json:"units"`
}

// script is the sequence of faults. Phases last whole units, and everything that is
// counted over time is counted per unit, so that no count falls into two phases.
type script struct {
	Unit   time.Duration `json:"unit_ns"` // one second, less in tests
	Phases []phase       `json:"phases"`
}

func theScript(unit time.Duration) script {
	return script{unit, []phase{
		{"healthy", noFault, 5},
		{"slow", slow, 5},
		{"hanging", hanging, 5},
		{"refusing", refusing, 4},
		{"recovered", noFault, 6},
	}}
}

// units is the length of the script.
func (s script) units() int { return s.begin(len(s.Phases)) }

func (s script) length() time.Duration { return time.Duration(s.units()) * s.Unit }

// begin is the unit with which phase i begins.
func (s script) begin(i int) int {
	n := 0
	for _, p := range s.Phases[:i] {
		n += p.Units
	}
	return n
}

// phaseOf is the phase that a unit belongs to. Before the start it is the first
// phase, after the end the last one.
func (s script) phaseOf(unit int) int {
	for i := range s.Phases {
		if unit < s.begin(i+1) {
			return i
		}
	}
	return len(s.Phases) - 1
}

// unitOf is the unit that an instant after the start belongs to; an instant
// outside of the script has none.
func (s script) unitOf(d time.Duration) (unit int, ok bool) {
	if d < 0 || d >= s.length() {
		return 0, false
	}
	return int(d / s.Unit), true
}
