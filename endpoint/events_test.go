package endpoint_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/testkit"
)

// An ejection and a return are one event each, with all that is known.
func TestObserver_event(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	r.attempt(1, endpoint.Failure, ms)
	r.attempt(1, endpoint.Timeout, ms)
	r.attempt(1, endpoint.Failure, ms)
	r.attempt(1, endpoint.Failure, ms)
	ejected := r.clock.Now()
	r.clock.Move(1500 * ms)
	r.attempt(1, endpoint.Failure, ms) // a probe
	r.clock.Move(1500 * ms)
	r.attempt(1, endpoint.Success, ms)
	want := []resilience.Event{
		{
			Kind: endpoint.EventEjected, Level: slog.LevelWarn, Time: ejected, Policy: "endpoint", Name: "orders", Endpoint: "e01",
			From: endpoint.In, To: endpoint.Ejected, Reason: "failed 4 times in a row: work failed", Failures: 4, Err: errWork,
		},
		{
			Kind: endpoint.EventReturned, Time: r.clock.Now(), Policy: "endpoint", Name: "orders", Endpoint: "e01",
			From: endpoint.Ejected, To: endpoint.Returning, Reason: "was ejected for 3s: it failed 4 times in a row: work failed",
		},
	}
	if got := fmt.Sprintf("%+v", r.events); got != fmt.Sprintf("%+v", want) {
		t.Errorf("%s\nwant %+v", got, want)
	}
}

// The reason says what the last attempt came to.
func TestObserver_reason(t *testing.T) {
	for _, c := range []struct {
		result endpoint.Result
		err    error
		want   string
	}{
		{endpoint.Unreachable, errWork, "could not be connected: work failed"},
		{endpoint.Unreachable, nil, "could not be connected"},
		{endpoint.Timeout, nil, "gave no answer in 1.2s"},
	} {
		r := newRig(t, 2)
		r.warm()
		r.attempt(0, endpoint.Success, 10*ms)
		p := r.at(1)
		r.clock.Move(1234 * ms)
		p.Answered(c.result, c.err)
		if len(r.events) != 1 || r.events[0].Reason != c.want || r.events[0].Err != c.err || r.events[0].Failures != 1 {
			t.Errorf("%+v, want %q", r.events, c.want)
		}
	}
}

// The event of a return because the other endpoints are gone comes before Update returns.
func TestObserver_update(t *testing.T) {
	r := newRig(t, 2)
	r.eject(0)
	r.Update(addresses(1), nil)
	if got := fmt.Sprint(r.kinds()); got != "[e00 endpoint ejected e00 endpoint returned]" {
		t.Error(got)
	}
}

// An observer that panics or ends the goroutine loses no event, and each comes once and in
// order, also the events of changes that the observer makes.
func TestObserver_aborts(t *testing.T) {
	for name, abort := range testkit.Aborts("observer") {
		var s *endpoint.Set
		var got []string
		nested := false
		s = newSet(t, endpoint.Config{Observer: testkit.Observer(func(e resilience.Event) {
			got = append(got, e.Endpoint+" "+e.To)
			if !nested { // an observer that uses the set
				nested = true
				for i := range 3 {
					p := s.Endpoints()[i+1].PickAt()
					p.Answered(endpoint.Unreachable, nil)
					p.End()
				}
				s.Stats()
				s.Explain()
				s.Report(true)
			}
			abort.Abort()
		})})
		s.Update(addresses(6), nil)
		ending := testkit.Unwind(func() error {
			p := s.Endpoints()[0].PickAt()
			p.Answered(endpoint.Unreachable, nil)
			return nil
		})
		if ending.Panic != nil || ending.Goexit != abort.Goexit {
			t.Errorf("%s: %+v", name, ending)
		}
		if text := fmt.Sprint(got); text != "[e00 EJECTED e01 EJECTED e02 EJECTED e03 EJECTED]" {
			t.Errorf("%s: %s", name, text)
		}
		got = nil
		p := s.Endpoints()[4].PickAt()
		testkit.Unwind(func() error { p.Answered(endpoint.Unreachable, nil); return nil })
		if text := fmt.Sprint(got); text != "[e04 EJECTED]" {
			t.Errorf("%s: then %s", name, text)
		}
	}
}

// The events of all goroutines come one at a time, and an endpoint's events in order.
func TestObserver_order(t *testing.T) {
	var mu sync.Mutex
	states := map[string]string{}
	running := 0
	s := newSet(t, endpoint.Config{Observer: testkit.Observer(func(e resilience.Event) {
		mu.Lock()
		if running++; running > 1 {
			t.Error("two events at a time")
		}
		if was := states[e.Endpoint]; was == e.To || was == "" && e.From != endpoint.In {
			t.Errorf("%s: %s after %s", e.Endpoint, e.To, was)
		}
		states[e.Endpoint] = e.To
		mu.Unlock()
		time.Sleep(10 * time.Microsecond)
		mu.Lock()
		running--
		mu.Unlock()
	})})
	s.Update(addresses(5), nil)
	testkit.AtOnce(8, func(g int) {
		for i := range 200 {
			p := s.Endpoints()[(g+i)%5].PickAt()
			p.Answered([]endpoint.Result{endpoint.Success, endpoint.Unreachable}[(g+i/3)%2], nil)
			p.End()
		}
	})
	for _, e := range s.Stats().Endpoints {
		// After its last event an endpoint may have come to the end of its slow start.
		if got := states[e.Address]; (got == endpoint.Ejected) != (e.State == endpoint.Ejected) {
			t.Errorf("%s is %s, and its last event says %s", e.Address, e.State, got)
		}
	}
}

// An error's text is one line without secrets.
func TestObserver_text(t *testing.T) {
	r := newRig(t, 2)
	p := r.at(0)
	p.Answered(endpoint.Unreachable, fmt.Errorf("get https://user:secret@host/?key=secret\n%s", strings.Repeat("x", 5000)))
	why := r.Stats().Endpoints[0].Why
	if strings.Contains(why, "secret") || strings.Contains(why, "\n") || len(why) > 250 {
		t.Errorf("%q", why)
	}
}

// bigError is an error that costs memory.
type bigError struct{ _ [1 << 10]byte }

func (*bigError) Error() string { return "big" }

// A set does not keep the error of an ejection, only its text.
func TestSet_ejects_errorNotKept(t *testing.T) {
	s := newSet(t, endpoint.Config{})
	s.Update(addresses(2), nil)
	fail := func() weak.Pointer[bigError] {
		err := new(bigError)
		p := s.Endpoints()[0].PickAt()
		p.Answered(endpoint.Unreachable, err)
		return weak.Make(err)
	}
	err := fail()
	runtime.GC()
	if err.Value() != nil {
		t.Error("the error is kept")
	}
	if why := s.Stats().Endpoints[0].Why; why != "could not be connected: big" {
		t.Error(why)
	}
}
