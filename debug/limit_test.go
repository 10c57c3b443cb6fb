package debug_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
)

func newLimit(name string) *limit.Limit {
	return resilience.Must(limit.New(limit.Config{Name: name}))
}

// overload has more than twice as many requests come as a handler with four workers can
// do, until l says so, and calls then while they still come.
func overload(t *testing.T, l *limit.Limit, p resilience.Policy, then func()) {
	t.Helper()
	workers := make(chan struct{}, 4)
	var all sync.WaitGroup
	defer all.Wait()
	for n := 0; !l.Stats().Overload || l.Stats().Shed == 0; n++ {
		if n == 20_000 {
			t.Fatalf("no overload: %+v", l.Stats())
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_ = resilience.Run(ctx, p, func(ctx context.Context) error {
				select {
				case workers <- struct{}{}:
					time.Sleep(10 * time.Millisecond)
					<-workers
				case <-ctx.Done():
				}
				return ctx.Err()
			})
		})
		time.Sleep(time.Millisecond)
		synctest.Wait() // for all that happens at this moment
	}
	then()
}

func TestALimitIsShownWithItsNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resilience.Must(limit.New(limit.Config{Name: "orders", Max: 2, MaxQueue: 1}))
		leave := make(chan struct{})
		for range 3 {
			go run(t, l, func(context.Context) error { <-leave; return nil })
		}
		synctest.Wait()
		if err := resilience.Run(t.Context(), l, succeed); !errors.Is(err, limit.ErrLimited) {
			t.Errorf("error %v", err)
		}
		r := asJSON(t, l)
		if got := r.Limits[0]; got.Name != "orders" || got.State != "NORMAL" || got.InFlight != 2 || *got.Limit != 2 || got.Waiting != 1 || got.Knee != nil {
			t.Errorf("limit %+v", got)
		}
		if got := r.Limits[0].Calls; got.Rejected["queue_full"] != 1 || got.Useful != 0 || len(got.Rejected) != 2 || len(got.Tests) != 5 {
			t.Errorf("calls %+v", got)
		}
		if r.Summary.Text != "The limit is NORMAL" || r.Summary.Limits != 1 || r.Summary.Overloaded != 0 {
			t.Errorf("summary %+v", r.Summary)
		}
		page := asHTML(t, l)
		elements(t, page)
		for _, want := range []string{"orders", "NORMAL", "2 of 2", "1 queue full", "not yet", "2 in flight, 1 may wait"} {
			if !strings.Contains(text(page), want) {
				t.Errorf("the page does not say %q:\n%s", want, text(page))
			}
		}
		for _, never := range []string{"OVERLOAD", "shed", "abandoned", "overload so far"} {
			if strings.Contains(text(page), never) {
				t.Errorf("the page says %q, which never happened", never)
			}
		}
		close(leave)
		synctest.Wait()
		if got := asJSON(t, l).Limits[0]; got.Calls.Useful != 3 || got.InFlight != 0 || got.Waiting != 0 {
			t.Errorf("limit %+v", got)
		}
	})
}

func TestAnOverloadIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit("orders")
		overload(t, l, l, func() {
			s, r := l.Stats(), asJSON(t, l, newLimit("reports"))
			if got := r.Limits[0]; got.State != "OVERLOAD" || got.InFlight != s.InFlight || *got.Limit != s.Limit || *got.Knee != s.Knee ||
				got.Waiting != s.Queued || got.Calls.Overloads != s.Overloads || got.Calls.Rejected["shed"] != s.Shed ||
				got.Calls.Useful != s.Useful || got.Calls.Gone != s.Abandoned || got.Calls.Canceled != s.Canceled {
				t.Errorf("limit %+v %+v, counted %+v", got, got.Calls, s)
			}
			tests := r.Limits[0].Calls.Tests
			if got := (limit.Trials{
				Raised: tests["raised"], NotRaised: tests["not_raised"], Lowered: tests["lowered"],
				NotLowered: tests["not_lowered"], Inconclusive: tests["abandoned"],
			}); got != s.Trials || got == (limit.Trials{}) {
				t.Errorf("tests %v, counted %+v", tests, s.Trials)
			}
			if got := r.Limits[1]; got.State != "NORMAL" {
				t.Errorf("the other one is %+v", got)
			}
			if r.Summary.Text != "1 of 2 limits is in OVERLOAD" || r.Summary.Limits != 2 || r.Summary.Overloaded != 1 {
				t.Errorf("summary %+v", r.Summary)
			}
			page := asHTML(t, l)
			elements(t, page)
			for _, want := range []string{"1 of 1 limit is in OVERLOAD", "1 overload so far", fmt.Sprintf("%d shed", s.Shed), fmt.Sprintf(" %.1f ", s.Knee)} {
				if !strings.Contains(text(page), want) {
					t.Errorf("the page does not say %q:\n%s", want, text(page))
				}
			}
			for _, want := range []string{"<title>0 not CLOSED, 1 in OVERLOAD - resilience</title>", `class="summary bad"`, `class="state overload"`} {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not have %s", want)
				}
			}
			b := newBreaker(clock.NewMock(), "b")
			run(t, b, fail)
			if got := asJSON(t, l, b).Summary.Text; got != "1 of 1 breaker is not CLOSED; 1 of 1 limit is in OVERLOAD" {
				t.Errorf("summary %q", got)
			}
		})
	})
}

func TestTheLimitsOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit("routes")
		g := newGroup(t, l, keyed.Config{Name: "api"})
		run(t, g.For("a"), succeed)
		if got := asJSON(t, g).Summary.Text; got != "The limit is NORMAL" {
			t.Errorf("summary %q", got)
		}
		run(t, g.For("b"), succeed)
		if got := asJSON(t, g).Summary.Text; got != "All 2 limits are NORMAL" {
			t.Errorf("summary %q", got)
		}
		p := g.For("c")
		run(t, p, succeed)
		var fork *limit.Limit
		for key, q := range g.All() {
			if key == "c" {
				fork = q.(*limit.Limit)
			}
		}
		overload(t, fork, p, func() {
			r := asJSON(t, g)
			keys := r.Groups[0].Keys
			if r.Groups[0].Overloaded != 1 || keys[0].Key != "c" || keys[0].Limits[0].State != "OVERLOAD" || keys[1].Limits[0].State != "NORMAL" {
				t.Errorf("group %+v", r.Groups[0])
			}
			if got := keys[0].Limits[0]; got.Calls != nil || got.Key != "c" || *got.Limit != fork.Stats().Limit {
				t.Errorf("limit of a key %+v", got)
			}
			if got := r.Limits[0]; len(r.Limits) != 1 || got.State != "" || got.Limit != nil || got.Knee != nil || *got.Group != "api" || got.Calls.Overloads != 1 {
				t.Errorf("limit of all keys %+v", got)
			}
			if r.Summary.Limits != 3 || r.Summary.Text != "1 of 3 limits is in OVERLOAD" {
				t.Errorf("summary %+v", r.Summary)
			}
			page := asHTML(t, g)
			elements(t, page)
			for _, want := range []string{"3 keys now, 1 in OVERLOAD", "c OVERLOAD, ", "of each key", fmt.Sprintf("of %d in flight, knee ", fork.Stats().Limit)} {
				if !strings.Contains(text(page), want) {
					t.Errorf("the page does not say %q:\n%s", want, text(page))
				}
			}
		})
	})
}
