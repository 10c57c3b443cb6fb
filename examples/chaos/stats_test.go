package main

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// Phases follow each other without gaps.
func TestScript(t *testing.T) {
	s := theScript(time.Second)
	if s.length() != 25*time.Second {
		t.Errorf("length %v", s.length())
	}
	tests := []struct {
		at   time.Duration
		unit int
		ok   bool
		name string
	}{
		{0, 0, true, "healthy"},
		{4999 * ms, 4, true, "healthy"},
		{5000 * ms, 5, true, "slow"},
		{10 * time.Second, 10, true, "hanging"},
		{15 * time.Second, 15, true, "refusing"},
		{18999 * ms, 18, true, "refusing"},
		{19 * time.Second, 19, true, "recovered"},
		{25*time.Second - 1, 24, true, "recovered"},
		{25 * time.Second, 0, false, ""},
		{-1, 0, false, ""},
	}
	for _, tt := range tests {
		unit, ok := s.unitOf(tt.at)
		if unit != tt.unit || ok != tt.ok {
			t.Errorf("unitOf(%v) = %d, %v; want %d, %v", tt.at, unit, ok, tt.unit, tt.ok)
		}
		if got := s.Phases[s.phaseOf(unit)].Name; ok && got != tt.name {
			t.Errorf("%v is in %s, want %s", tt.at, got, tt.name)
		}
	}
	if got := s.phaseOf(25); got != 4 {
		t.Errorf("after the end: phase %d", got)
	}
}

// A schedule has the same number of requests in each second, and is the same in every run.
func TestSchedule(t *testing.T) {
	a, b := schedule(healthy, 25*time.Second), schedule(broken, 25*time.Second)
	for _, at := range [][]time.Duration{a, b} {
		perSecond := make([]int, 25)
		for i, d := range at {
			perSecond[d/time.Second]++
			if i > 0 && d < at[i-1] {
				t.Fatalf("not in order at %d", i)
			}
		}
		for second, n := range perSecond {
			if n != rate {
				t.Errorf("%d requests in second %d", n, second)
			}
		}
	}
	if a[0] == b[0] {
		t.Error("both routes have the same schedule")
	}
	if again := schedule(healthy, 25*time.Second); again[77] != a[77] {
		t.Error("the schedule changes from run to run")
	}
	if n := len(schedule(healthy, 100*ms)); n == 0 || n > rate {
		t.Errorf("%d requests in a tenth of a second", n)
	}
}

// A 2xx within goodUntil counts as good.
func TestTally_goodput(t *testing.T) {
	tests := []struct {
		name string
		r    record
		good bool
	}{
		{"at once", record{Status: 200, Took: 20 * ms}, true},
		{"any 2xx", record{Status: 204, Took: 20 * ms}, true},
		{"just in time", record{Status: 200, Took: 2 * time.Second}, true},
		{"too late", record{Status: 200, Took: 2*time.Second + 1}, false},
		{"redirect", record{Status: 302}, false},
		{"rejected", record{Status: 503}, false},
		{"no answer", record{}, false},
	}
	for _, tt := range tests {
		if tt.r.good() != tt.good {
			t.Errorf("%s: good is %v", tt.name, tt.r.good())
		}
	}
	if (tally{}).percent() != 0 || (tally{}).atLeast(0) {
		t.Error("no request at all counts as good")
	}
	if !(tally{100, 99}).atLeast(99) || (tally{1000, 989}).atLeast(99) {
		t.Error("atLeast(99) is not exact")
	}
}

// A request belongs to the phase in which it was to be sent, although it ends in
// the next.
func TestSummarize_phases(t *testing.T) {
	s := theScript(time.Second)
	got := summarize(s, "x", []record{
		{At: 4999 * ms, Took: 900 * ms, Status: 200},
		{At: 5000 * ms, Took: 3 * time.Second, Status: 200}, // late, but it has a latency
		{At: 5001 * ms, Took: 1 * ms, Status: 503},          // quick, but it has none
		{At: 25 * time.Second, Status: 200},                 // outside
	})
	if f := got.Phases[0]; f.Requests != 1 || f.Good != 1 || f.Goodput != 100 || *f.P99 != 900 {
		t.Errorf("healthy: %+v", f)
	}
	if f := got.Phases[1]; f.Requests != 2 || f.Good != 0 || *f.P99 != 3000 {
		t.Errorf("slow: %+v", f)
	}
	if f := got.Phases[2]; f.Requests != 0 || f.P99 != nil || f.Goodput != 0 {
		t.Errorf("hanging: %+v", f)
	}
	if got.Units[4] != (tally{1, 1}) || got.Units[5] != (tally{2, 0}) {
		t.Errorf("units: %v", got.Units)
	}
}

// units returns a tally for each second of the script, all good but those given.
func units(bad map[int]int) []tally {
	out := make([]tally, 25)
	for i := range out {
		out[i] = tally{100, 100 - bad[i]}
	}
	return out
}

// Only attempts and requests while the service is down count.
func TestAmplification(t *testing.T) {
	s := theScript(time.Second)
	attempts := make([]int, 25)
	attempts[9], attempts[19] = 1000, 1000 // before and after
	attempts[10], attempts[14], attempts[15], attempts[18] = 40, 10, 30, 10
	if got := amplification(s, attempts, units(nil)); got != 0.1 {
		t.Errorf("90 attempts for 900 requests: %v", got)
	}
	if got := amplification(s, attempts, make([]tally, 25)); got != 0 {
		t.Errorf("no requests: %v", got)
	}
}

// A route has recovered in the first whole second with 99 % goodput.
func TestRecovery(t *testing.T) {
	never := map[int]int{}
	for i := 19; i < 25; i++ {
		never[i] = 2
	}
	tests := []struct {
		name string
		bad  map[int]int
		want time.Duration
		ok   bool
	}{
		{"at once", nil, 0, true},
		{"one of a hundred failed", map[int]int{19: 1}, 0, true},
		{"two of a hundred failed", map[int]int{19: 2}, time.Second, true},
		{"failures before the end do not matter", map[int]int{18: 100, 19: 50, 20: 3}, 2 * time.Second, true},
		{"failures afterwards do not either", map[int]int{20: 50}, 0, true},
		{"never", never, 0, false},
	}
	for _, tt := range tests {
		d, ok := recovery(theScript(time.Second), units(tt.bad))
		if d != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, d, ok, tt.want, tt.ok)
		}
	}
	if _, ok := recovery(theScript(time.Second), make([]tally, 25)); ok {
		t.Error("a second without requests counts as recovered")
	}
}

// Lateness is the largest p99 of a phase.
func TestLateOf(t *testing.T) {
	s := theScript(time.Second)
	if got := lateOf(s, nil); got != (lateness{}) {
		t.Errorf("of nothing: %+v", got)
	}
	records := make([]record, 1000)
	for i := range records {
		records[i].At = time.Duration(i) * 25 * ms
	}
	records[3].Late = 300 * ms // one of the 200 in the first phase
	records[990].Late, records[991].Late, records[992].Late = 90*ms, 70*ms, 80*ms
	if got := lateOf(s, records); got != (lateness{1000, 70, 300}) {
		t.Errorf("%+v", got)
	}
}
