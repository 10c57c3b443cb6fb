package endpoint_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/testkit"
)

// Apply runs next with an endpoint, which Of returns, and records ResultOf the error.
func TestSet_Apply(t *testing.T) {
	r := newRig(t, 3)
	if endpoint.Of(t.Context()) != nil {
		t.Error("an endpoint without a Set")
	}
	var trail endpoint.Trail
	ctx := endpoint.WithTrail(t.Context(), &trail)
	for range 3 {
		var used *endpoint.Endpoint
		err := resilience.Run(ctx, r, func(ctx context.Context) error {
			used = endpoint.Of(ctx)
			if used.InFlight() != 1 {
				t.Errorf("%d in flight", used.InFlight())
			}
			return &net.OpError{Op: "dial", Err: errWork}
		})
		if !errors.Is(err, errWork) || used.InFlight() != 0 || !trail.Has(used) {
			t.Errorf("%v, %d in flight", err, used.InFlight())
		}
	}
	if s := r.Stats(); s.Unreachable != 2 || s.Endpoints[0].Attempts != 1 || s.Endpoints[1].Attempts != 1 || s.Endpoints[2].Attempts != 1 {
		t.Errorf("%+v", s)
	}
}

// A set without endpoints returns an error that is Ignored.
func TestSet_Apply_noEndpoints(t *testing.T) {
	err := resilience.Run(t.Context(), newRig(t, 0), func(context.Context) error { t.Error("ran"); return nil })
	if err == nil || err.Error() != `endpoint "orders": there are no endpoints: call Set.Update with addresses` {
		t.Error(err)
	}
	if o := resilience.OutcomeOf(t.Context(), err, nil); o != resilience.Ignored {
		t.Error(o)
	}
}

// If ctx is already done, Apply counts nothing.
func TestSet_Apply_done(t *testing.T) {
	r := newRig(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []resilience.Policy{r, r.Endpoints()[0]} {
		err := p.Apply(ctx, resilience.Next{})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if s := r.Stats(); s.Picks != 0 || s.Endpoints[0].Attempts+s.Endpoints[1].Attempts != 0 {
		t.Errorf("%+v", s)
	}
}

// Endpoint.Apply runs next at the endpoint, whatever its state, and adds it to the Trail.
func TestEndpoint_Apply(t *testing.T) {
	r := newRig(t, 2)
	r.eject(1)
	e := r.Endpoints()[1]
	var trail endpoint.Trail
	err := resilience.Run(endpoint.WithTrail(t.Context(), &trail), e, func(ctx context.Context) error {
		if endpoint.Of(ctx) != e || e.InFlight() != 1 {
			t.Errorf("at %v", endpoint.Of(ctx))
		}
		return nil
	})
	if err != nil || !trail.Has(e) || e.InFlight() != 0 {
		t.Error(err)
	}
	r.want(1, endpoint.Returning)
}

// The attempt has its result when Run returns, and ends at resilience.Ended.
func TestSet_Apply_ended(t *testing.T) {
	r := newRig(t, 2)
	op := &testkit.Lasting{}
	if err := resilience.RunOperation(t.Context(), r, op); err != nil {
		t.Fatal(err)
	}
	e := endpoint.Of(op.Ctx)
	if e.InFlight() != 1 {
		t.Errorf("%d in flight before the end", e.InFlight())
	}
	op.Finish(errWork)
	if e.InFlight() != 0 || r.Stats().Endpoints[0].Failures+r.Stats().Endpoints[1].Failures != 0 {
		t.Errorf("%+v", r.Stats())
	}
}

// An operation that panics or ends the goroutine is a failure, and its attempt ends. So does
// the attempt of an observer that ends the goroutine, and of an error whose methods panic.
func TestSet_Apply_aborts(t *testing.T) {
	for name, abort := range testkit.Aborts("user") {
		var armed bool
		s := newSet(t, endpoint.Config{Observer: testkit.Observer(func(resilience.Event) {
			if armed {
				abort.Abort()
			}
		})})
		s.Update(addresses(2), nil)
		ends := map[string]func(context.Context) error{
			"operation": func(context.Context) error { abort.Abort(); return nil },
			"observer": func(context.Context) error {
				armed = true
				return &net.OpError{Op: "dial", Err: errWork}
			},
			"error": func(context.Context) error { return hostile{s, abort} },
		}
		for what, end := range ends {
			failed := s.Stats()
			testkit.Unwind(func() error { return resilience.Run(t.Context(), s, end) })
			armed = false
			for _, e := range s.Stats().Endpoints {
				if e.InFlight != 0 {
					t.Errorf("%s in %s: %d in flight", name, what, e.InFlight)
				}
			}
			if what == "operation" && s.Stats().Endpoints[0].Failures+s.Stats().Endpoints[1].Failures <= failed.Endpoints[0].Failures+failed.Endpoints[1].Failures {
				t.Errorf("%s in %s is no failure", name, what)
			}
		}
	}
}

// hostile is an error whose methods use the set, and then panic or end the goroutine.
type hostile struct {
	s     *endpoint.Set
	abort testkit.Ending
}

func (h hostile) Error() string {
	h.s.Explain()
	h.s.Update(addresses(3), nil)
	h.abort.Abort()
	return ""
}

func (h hostile) Unwrap() error { h.s.Stats(); h.abort.Abort(); return nil }

// The text of an error may use the set, panic or end the goroutine. It is called once for an
// ejection, and not while the last endpoint fails.
func TestPick_Answered_errorText(t *testing.T) {
	for name, abort := range testkit.Aborts("user") {
		r := newRig(t, 3)
		p := r.at(0)
		testkit.Unwind(func() error { p.Answered(endpoint.Unreachable, hostile{r.Set, abort}); return nil })
		p.End()
		if e := r.Stats().Endpoints[0]; e.InFlight != 0 || !abort.Goexit && e.State != endpoint.Ejected {
			t.Errorf("%s: %+v", name, e)
		}
		r.Update(addresses(4), nil) // needs the lock
	}
	r := newRig(t, 2)
	texts := 0
	for range 100 {
		p := r.pick(nil)
		p.Answered(endpoint.Unreachable, counted{&texts})
		p.End()
	}
	if texts != 1 {
		t.Errorf("the text was made %d times", texts)
	}
}

// counted is an error that counts how often its text is made.
type counted struct{ n *int }

func (c counted) Error() string { *c.n++; return "counted" }

// A later policy's Goexit ends the attempt as a failure.
func TestSet_Apply_nextGoexit(t *testing.T) {
	r := newRig(t, 2)
	p := resilience.Compose(r, testkit.Policy(func(context.Context, resilience.Next) error { runtime.Goexit(); return nil }))
	testkit.Unwind(func() error { return resilience.Run(t.Context(), p, func(context.Context) error { return nil }) })
	if s := r.Stats(); s.Endpoints[0].InFlight+s.Endpoints[1].InFlight != 0 || s.Endpoints[0].Failures+s.Endpoints[1].Failures != 1 {
		t.Errorf("%+v", s)
	}
}

// ResultOf is the outcome of the error; a failure is a Timeout if a timeout ended ctx, and
// Unreachable if the dial of a connection failed.
func TestResultOf(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errWork}
	expired, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-expired.Done()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want endpoint.Result
	}{
		{t.Context(), nil, endpoint.Success},
		{t.Context(), resilience.Answer(errWork), endpoint.Success},
		{t.Context(), errWork, endpoint.Failure},
		{t.Context(), resilience.ErrAborted, endpoint.Failure},
		{t.Context(), resilience.Ignore(errWork), endpoint.Ignored},
		{t.Context(), &resilience.Rejection{}, endpoint.Ignored},
		{t.Context(), fmt.Errorf("get: %w", dial), endpoint.Unreachable},
		{t.Context(), &net.OpError{Op: "read", Err: errWork}, endpoint.Failure},
		{t.Context(), &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, endpoint.Unreachable},
		{expired, dial, endpoint.Timeout},
		{expired, errWork, endpoint.Timeout},
		{expired, nil, endpoint.Success},
		{canceled, dial, endpoint.Ignored},
		{canceled, context.Canceled, endpoint.Ignored},
	} {
		if got := endpoint.ResultOf(c.ctx, c.err); got != c.want {
			t.Errorf("%v, ctx %v: %v, want %v", c.err, c.ctx.Err(), got, c.want)
		}
	}
}

// String is in lower case. What is no Result is ignored.
func TestResult_String(t *testing.T) {
	text := ""
	for r := endpoint.Success; r <= endpoint.Ignored+1; r++ {
		text += r.String() + " "
	}
	if text != "success busy failure timeout unreachable ignored ignored " {
		t.Error(text)
	}
}
