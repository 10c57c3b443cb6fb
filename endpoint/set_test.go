package endpoint_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/testkit"
)

// New returns an error that says what to change, and no error for the zero value.
func TestNew(t *testing.T) {
	_, err := endpoint.New(endpoint.Config{Name: "orders", Subset: -2})
	if err == nil || !strings.Contains(err.Error(), `endpoint "orders": Config.Subset is -2: must not be negative`) {
		t.Error(err)
	}
	if s := newSet(t, endpoint.Config{}); s.Name() != "" || len(s.Endpoints()) != 0 {
		t.Errorf("%q with %d endpoints", s.Name(), len(s.Endpoints()))
	}
}

func names(endpoints []*endpoint.Endpoint) (names []string) {
	for _, e := range endpoints {
		names = append(names, e.Address())
	}
	slices.Sort(names)
	return names
}

// Update replaces the addresses: duplicates count once, an address that stays keeps its
// Endpoint, and the endpoints whose addresses are gone are returned.
func TestSet_Update(t *testing.T) {
	r := newRig(t, 0)
	made := map[string]int{}
	value := func(a string) any { made[a]++; return "value of " + a }
	if dropped := r.Update([]string{"b", "c", "a", "b"}, value); len(dropped) != 0 {
		t.Errorf("dropped %v", names(dropped))
	}
	before := r.Endpoints()
	if got := fmt.Sprint(names(before)); got != "[a b c]" || before[0].Address() != "a" {
		t.Errorf("endpoints %s", got)
	}
	dropped := r.Update([]string{"d", "b", "", "b"}, value)
	if got := fmt.Sprint(names(dropped)); got != "[a c]" {
		t.Errorf("dropped %s", got)
	}
	after := r.Endpoints()
	if got := fmt.Sprintf("%q", names(after)); got != `["" "b" "d"]` || after[1] != before[1] || after[2].Value() != "value of d" {
		t.Errorf("endpoints %s", got)
	}
	for a, n := range made {
		if n != 1 {
			t.Errorf("%d values for %q", n, a)
		}
	}
	after[0] = nil // a copy
	if dropped := r.Update(nil, value); len(dropped) != 3 || r.Endpoints() != nil {
		t.Errorf("dropped %v", names(dropped))
	}
	if _, ok := r.Pick(nil); ok {
		t.Error("picked one of no endpoints")
	}
	if r.Update([]string{"a"}, nil); r.Endpoints()[0] == before[0] || r.Endpoints()[0].Value() != nil {
		t.Error("an address that comes back has its old Endpoint")
	}
}

// An endpoint that is added to others starts slowly. The first ones do not.
func TestSet_Update_slowStart(t *testing.T) {
	r := newRig(t, 2)
	r.Update(addresses(3), nil)
	r.want(0, endpoint.In)
	r.want(2, endpoint.Returning)
	for range 30 {
		r.pick(nil)
	}
	if n := r.Endpoints()[2].InFlight(); n != 1 {
		t.Errorf("%d in flight at the new endpoint", n)
	}
}

// A dropped endpoint changes nothing, whatever its attempts come to.
func TestSet_Update_dropped(t *testing.T) {
	r := newRig(t, 4)
	r.warm()
	var open []*endpoint.Pick
	for range 8 {
		open = append(open, r.at(0))
	}
	r.eject(3)
	probe := r.at(3)
	dropped := r.Update(addresses(3)[1:], nil)
	events, before := len(r.kinds()), r.Stats()
	for i, p := range open {
		p.Answered([]endpoint.Result{endpoint.Failure, endpoint.Unreachable}[i%2], errWork)
		p.End()
	}
	probe.Answered(endpoint.Success, nil)
	probe.End()
	late := dropped[0].PickAt() // of a goroutine that has read the old endpoints
	late.Answered(endpoint.Unreachable, nil)
	late.End()
	if after := r.Stats(); fmt.Sprint(after) != fmt.Sprint(before) || len(r.kinds()) != events {
		t.Errorf("%+v, before %+v, events %q", after, before, r.kinds())
	}
	for _, e := range dropped {
		if e.InFlight() != 0 {
			t.Errorf("%d in flight at %s", e.InFlight(), e.Address())
		}
	}
}

// Nothing is known of the only endpoint: it keeps neither a run of failures nor a slow start.
func TestSet_Update_onlyOne(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	for range 3 {
		r.attempt(0, endpoint.Failure, ms)
	}
	r.Update(addresses(3), nil)
	r.Update([]string{"e00"}, nil)
	if s := r.Stats().Endpoints[0]; s.Latency != 0 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	r.attempt(0, endpoint.Failure, ms)
	r.Update(addresses(2), nil)
	r.attempt(1, endpoint.Success, 10*ms)
	r.attempt(0, endpoint.Failure, ms)
	r.want(0, endpoint.In)
}

// Config.Subset of the addresses are used, by default 100. When an address comes or goes, at
// most one endpoint is replaced.
func TestSet_Update_subset(t *testing.T) {
	for subset, want := range map[int]int{0: 100, 7: 7, 300: 200, endpoint.All: 200} {
		s := newSet(t, endpoint.Config{Subset: subset})
		s.Update(addresses(200), nil)
		if n := len(s.Endpoints()); n != want {
			t.Errorf("%d endpoints, want %d", n, want)
		}
	}
	s, other := newSet(t, endpoint.Config{Subset: 20}), newSet(t, endpoint.Config{Subset: 20})
	s.Update(addresses(200), nil)
	other.Update(addresses(200), nil)
	if slices.Equal(names(s.Endpoints()), names(other.Endpoints())) {
		t.Error("two sets have chosen the same endpoints")
	}
	for n := 199; n > 100; n-- {
		if dropped := s.Update(addresses(n), nil); len(dropped) > 1 {
			t.Fatalf("without one address, %d endpoints are dropped", len(dropped))
		}
	}
	for n := 100; n < 200; n++ {
		if dropped := s.Update(addresses(n), nil); len(dropped) > 1 {
			t.Fatalf("with one more address, %d endpoints are dropped", len(dropped))
		}
	}
}

// A function for values that panics or ends the goroutine leaves the set as it was.
func TestSet_Update_valueAborts(t *testing.T) {
	for name, abort := range testkit.Aborts("value") {
		r := newRig(t, 2)
		old := r.Endpoints()
		got := testkit.Unwind(func() error {
			r.Update([]string{"e01", "new"}, func(string) any { abort.Abort(); return nil })
			return nil
		})
		if got.Panic != abort.Panic || got.Goexit != abort.Goexit {
			t.Errorf("%s: %+v", name, got)
		}
		if !slices.Equal(r.Endpoints(), old) {
			t.Errorf("%s: %v", name, names(r.Endpoints()))
		}
		r.eject(0)
		if dropped := r.Update([]string{"e01", "new"}, nil); len(dropped) != 1 {
			t.Errorf("%s: dropped %v", name, names(dropped))
		}
	}
}

// A function for values that takes long delays no call, and may use the set.
func TestSet_Update_valueTakesLong(t *testing.T) {
	r := newRig(t, 3)
	r.Update(addresses(4), func(string) any {
		r.eject(0)
		r.attempt(0, endpoint.Success, ms)
		r.want(0, endpoint.Returning)
		return r.Explain()
	})
	if v, _ := r.Endpoints()[3].Value().(string); !strings.Contains(v, "e00 is RETURNING") {
		t.Errorf("%q", v)
	}
}

// An observer may call Update.
func TestSet_Update_inObserver(t *testing.T) {
	var s *endpoint.Set
	s = newSet(t, endpoint.Config{Observer: testkit.Observer(func(e resilience.Event) {
		if e.Kind == endpoint.EventReturned {
			s.Update(addresses(5), nil)
		}
	})})
	s.Update(addresses(2), nil)
	p := s.Endpoints()[0].PickAt()
	p.Answered(endpoint.Unreachable, nil)
	s.Update(addresses(1), nil)
	if n := len(s.Endpoints()); n != 5 {
		t.Errorf("%d endpoints", n)
	}
}

// Addresses that change on every call leak no memory.
func TestSet_Update_noLeak(t *testing.T) {
	s := newSet(t, endpoint.Config{Subset: endpoint.All})
	var before, after runtime.MemStats
	for round := range 300 {
		var all []string
		for i := range 30 {
			all = append(all, fmt.Sprintf("host-%d-%d", round, i))
		}
		s.Update(all, func(string) any { return make([]byte, 4<<10) })
		p, _ := s.Pick(nil)
		p.Answered(endpoint.Unreachable, errWork)
		p.End()
		if round == 20 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes more", grown)
	}
	runtime.KeepAlive(s)
}

// 10 000 addresses are as good as three.
func TestSet_Update_many(t *testing.T) {
	s := newSet(t, endpoint.Config{Subset: endpoint.All})
	s.Update(addresses(10_000), nil)
	seen := map[*endpoint.Endpoint]bool{}
	for range 2000 {
		p, _ := s.Pick(nil)
		seen[p.Endpoint()] = true
	}
	if len(seen) < 1900 {
		t.Errorf("%d endpoints of 2000 picks", len(seen))
	}
}

// A Fork has no endpoints before its Update is called. It shares the configuration and the
// counters, and nothing else.
func TestSet_Fork(t *testing.T) {
	r := newRig(t, 2)
	fork := r.Fork("eu").(*endpoint.Set)
	if len(fork.Endpoints()) != 0 || fork.Name() != "orders" {
		t.Errorf("%v", fork)
	}
	fork.Update(addresses(2), nil)
	p := fork.Endpoints()[0].PickAt()
	p.Answered(endpoint.Unreachable, nil)
	r.want(0, endpoint.In)
	if got := fork.Stats(); got.Counters != r.Stats().Counters || got.Unreachable != 1 || got.Endpoints[0].State != endpoint.Ejected {
		t.Errorf("%+v", got)
	}
	if e := r.events[0]; e.Key != "eu" || e.Name != "orders" {
		t.Errorf("%+v", e)
	}
	if got := fork.String(); !strings.Contains(got, "eu") {
		t.Error(got)
	}
}

// A set is idle if no attempt is in flight and no endpoint is ejected, or has been for so long
// that a probe is due.
func TestSet_Idle(t *testing.T) {
	r := newRig(t, 2)
	if !r.Idle() || !newRig(t, 0).Idle() {
		t.Error("a new set is not idle")
	}
	p := r.at(0)
	p.Answered(endpoint.Success, nil)
	if r.Idle() {
		t.Error("idle with an attempt in flight")
	}
	p.End()
	if !r.Idle() {
		t.Error("not idle after the attempt")
	}
	r.eject(1)
	if r.Idle() {
		t.Error("idle with an ejected endpoint")
	}
	r.clock.Move(36 * time.Second)
	if !r.Idle() {
		t.Error("not idle although no call has come for 36 s")
	}
	r.at(1)
	if r.Idle() {
		t.Error("idle with a probe")
	}
}

// A Rand or a Clock that panics leaves the set usable.
func TestSet_userCodePanics(t *testing.T) {
	for name, abort := range testkit.Aborts("user") {
		for _, code := range []string{"Rand", "Clock"} {
			armed := -1
			hit := func(which string) {
				if which == code && armed >= 0 {
					if armed--; armed < 0 {
						abort.Abort()
					}
				}
			}
			clock := testkit.NewClock()
			s := newSet(t, endpoint.Config{Clock: clock, Rand: func() uint64 { hit("Rand"); return 1 << 62 }, Observer: testkit.Observer(func(resilience.Event) {})})
			s.Update(addresses(3), nil)
			clock.OnSince = func() { hit("Clock") }
			for at := range 12 {
				armed = at
				testkit.Unwind(func() error {
					p, _ := s.Pick(nil)
					defer p.End()
					clock.Move(2 * time.Second)
					p.Answered(endpoint.Unreachable, nil)
					next, _ := s.Pick(nil)
					defer next.End()
					next.Answered(endpoint.Success, nil)
					s.Update(addresses(2+at%2), nil)
					return nil
				})
			}
			armed = -1
			in := 0
			for _, e := range s.Stats().Endpoints {
				if e.State != endpoint.Ejected {
					in++
				}
				if e.InFlight != 0 {
					t.Errorf("%s of %s: %+v", name, code, e)
				}
			}
			if in == 0 {
				t.Errorf("%s of %s: all are ejected", name, code)
			}
			for range 5000 {
				clock.Move(100 * ms)
				p, _ := s.Pick(nil)
				p.Answered(endpoint.Success, nil)
				p.End()
			}
			for _, e := range s.Stats().Endpoints {
				if e.State == endpoint.Ejected {
					t.Errorf("%s of %s: %+v", name, code, e)
				}
			}
		}
	}
}

// If Rand panics while an endpoint is to be ejected, it is not, and the next failure ejects it.
func TestSet_ejects_randPanics(t *testing.T) {
	for name, abort := range testkit.Aborts("rand") {
		armed := false
		s := newSet(t, endpoint.Config{Rand: func() uint64 {
			if armed {
				abort.Abort()
			}
			return 0
		}})
		s.Update(addresses(2), nil)
		fail := func() {
			p := s.Endpoints()[0].PickAt()
			defer p.End()
			p.Answered(endpoint.Unreachable, nil)
		}
		armed = true
		testkit.Unwind(func() error { fail(); return nil })
		armed = false
		if got := s.Stats(); got.Endpoints[0].State != endpoint.In || got.Endpoints[0].InFlight != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if fail(); s.Stats().Endpoints[0].State != endpoint.Ejected {
			t.Errorf("%s: %+v", name, s.Stats())
		}
	}
}
