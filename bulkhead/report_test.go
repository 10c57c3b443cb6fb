package bulkhead_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// value returns the value of a report with that name and whether there is one.
func value(r resilience.Report, name string) (v resilience.Value, ok bool) {
	for _, v := range r.Values {
		if v.Name == name {
			return v, true
		}
	}
	return v, false
}

// checkReport compares the report of b.
func checkReport(t *testing.T, b *bulkhead.Bulkhead, state string, since time.Time, why, next string) {
	t.Helper()
	r := b.Report(true)
	if r.State != state || r.Attention != (state == "CONGESTED") || r.Why != why || r.Next != next {
		t.Errorf("state %q, attention %v\nwhy  %q\nnext %q", r.State, r.Attention, r.Why, r.Next)
	}
	if !r.Since.Equal(since) || !r.Time.Equal(time.Now()) {
		t.Errorf("since %v at %v, want %v", r.Since, r.Time, since)
	}
	s := b.Stats()
	for name, want := range map[string]float64{
		"in_flight": float64(s.InFlight), "waiting": float64(s.Queued), "slots": float64(s.Slots),
		"congested": map[string]float64{"CONGESTED": 1}[state],
	} {
		if v, ok := value(r, name); !ok || v.Value != want {
			t.Errorf("%s is %v, %v: want %v", name, v.Value, ok, want)
		}
	}
	short := b.Report(false)
	if short.State != r.State || short.Attention != r.Attention || len(short.Values) != len(r.Values) {
		t.Errorf("without details %+v", short)
	}
	if short.Why+short.Next+short.Settings != "" || !short.Since.IsZero() || !short.Time.IsZero() {
		t.Errorf("details nobody asked for: %+v", short)
	}
}

// A report says what is evidence and what happens next.
func TestBulkhead_Report_normal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Name: "users"})
		made := time.Now()
		time.Sleep(time.Hour)
		checkReport(t, b, "NORMAL", made, "", "admits bursts until calls time out")
		burst(b, 1, takes(time.Millisecond, nil))
		checkReport(t, b, "NORMAL", made, "", "admits bursts while calls end within 25ms")
		for range 500 {
			burst(b, 1, takes(service, nil))
		}
		checkReport(t, b, "NORMAL", made, "", "admits bursts while calls end within 200ms")
		burst(b, 30, takes(time.Second, timeout{}))
		time.Sleep(time.Second)
		checkReport(t, b, "NORMAL", made, "1 of the last 30 calls answered, and 30 timed out", "rejects bursts until more calls answer")
		time.Sleep(8 * time.Second)
		checkReport(t, b, "NORMAL", made, "", "admits bursts while calls end within 200ms")
	})
}

// waves makes quick calls and then 40 at once, of which every second one times out and the others
// take 0.8 of a timeout, so that the bulkhead is congested. It returns when that was.
func waves(t *testing.T, b *bulkhead.Bulkhead, patience time.Duration) time.Time {
	t.Helper()
	check(t, b, patience/10, 8, 0)
	var in []*bulkhead.Permit
	for range 40 {
		in = append(in, acquire(t, b))
	}
	time.Sleep(patience * 8 / 10)
	for _, p := range in[:20] {
		p.Release(nil)
	}
	time.Sleep(patience * 2 / 10)
	for i := 20; i < 40; i++ {
		in[i].Release(timeout{})
	}
	if s := b.Stats(); !s.Congested {
		t.Fatalf("not congested: %+v", s)
	}
	return time.Now()
}

// check makes calls of which some time out, with one in flight.
func check(t *testing.T, b *bulkhead.Bulkhead, patience time.Duration, succeed, fail int) {
	t.Helper()
	for i := range succeed + fail {
		p := acquire(t, b)
		if i < succeed {
			time.Sleep(patience / 5)
			p.Release(nil)
		} else {
			time.Sleep(patience)
			p.Release(timeout{})
		}
	}
}

// A report of a congestion says what its window is and when it ends.
func TestBulkhead_Report_congested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Name: "users"})
		time.Sleep(time.Minute)
		began := waves(t, b, time.Second)
		window := b.Stats().Slots
		if window < 4 || window > 10 {
			t.Errorf("%d slots", window)
		}
		checks := strings.NewReplacer("N", number(window))
		time.Sleep(time.Second)
		checkReport(t, b, "CONGESTED", began, "over 30 % of the calls timed out after 1s, and the others took 800ms",
			checks.Replace("checks whether calls succeed with N in flight"))
		for range window {
			defer acquire(t, b).Release(nil)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _ = b.Acquire(ctx) // finds it full
		if s := b.Stats(); s.InFlight != window || s.Canceled != 1 {
			t.Errorf("%+v", s)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		began := waves(t, b, time.Second)
		window := b.Stats().Slots
		check(t, b, time.Second, 8, 0)
		checkReport(t, b, "CONGESTED", began, "calls take 200ms of 1s, and fewer time out with "+number(window)+" in flight",
			"ends when 3s pass in which no call finds all slots taken")
		time.Sleep(time.Minute)
		ended := time.Now().Add(200 * time.Millisecond)
		check(t, b, time.Second, 1, 0)
		checkReport(t, b, "NORMAL", ended, "", "admits bursts while calls end within 680ms")
	})
}

// A report of a congestion that was none says when the next one may begin.
func TestBulkhead_Report_rests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		waves(t, b, time.Second/10) // the congestion ends if its window is not full for three seconds
		check(t, b, time.Second/10, 5, 3)
		ended := time.Now()
		time.Sleep(18 * time.Second)
		checkReport(t, b, "NORMAL", ended, "calls timed out, and fewer calls in flight did not help", "checks that again in 42s at the earliest")
	})
}

// A bulkhead with Config.Slots has no state, and it is never congested.
func TestBulkhead_Report_configured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 2})
		timeOut(t, b)
		for range 100 {
			check(t, b, time.Second, 1, 1)
		}
		checkReport(t, b, "", time.Time{}, "", "")
	})
}

// The report of a fork has its own state, and no counters.
func TestBulkhead_Report_fork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		made := time.Now()
		f := b.Fork("a").(*bulkhead.Bulkhead)
		burst(f, 30, takes(time.Second, timeout{}))
		time.Sleep(time.Second)
		checkReport(t, b, "NORMAL", made, "", "admits bursts until calls time out")
		checkReport(t, f, "NORMAL", made, "0 of the last 30 calls answered, and 30 timed out", "rejects bursts until more calls answer")
		if _, ok := value(f.Report(true), "calls_total"); ok {
			t.Error("a fork reports the counters of its origin")
		}
		if v, ok := value(b.Report(true), "calls_total"); !ok || v.Value != 30 {
			t.Errorf("calls_total %+v", v)
		}
	})
}

func number(n int) string {
	return strconv.Itoa(n)
}

// A rejection says why: what is full, and what would hold more.
func TestBulkhead_Rejection_Detail(t *testing.T) {
	detail := func(t *testing.T, b *bulkhead.Bulkhead) string {
		t.Helper()
		var r *resilience.Rejection
		if err := resilience.Run(t.Context(), b, nothing); !errors.As(err, &r) || !errors.Is(err, bulkhead.ErrFull) {
			t.Fatalf("error %v", err)
		}
		return r.Detail
	}
	const sizes = " in flight (sizes itself; set bulkhead.Config.Slots to hold more)"
	synctest.Test(t, func(t *testing.T) {
		for _, queue := range []int{bulkhead.NoQueue, 1} {
			start := map[int]string{bulkhead.NoQueue: "queue is full: ", 1: "waited too long: "}[queue]

			b := newBulkhead(t, bulkhead.Config{Slots: 2, MaxQueue: queue})
			free := occupy(b, 2)
			if got, want := detail(t, b), start+"2 in flight, as configured"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			free()
			free()

			b = newBulkhead(t, bulkhead.Config{MaxQueue: queue})
			timeOut(t, b)
			free = occupy(b, 24)
			for range 2 { // the second error is the first one
				if got, want := detail(t, b), start+"24"+sizes; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			for range 24 {
				free()
			}

			b = newBulkhead(t, bulkhead.Config{MaxQueue: queue})
			waves(t, b, 3*time.Second) // too long for a pause
			slots := b.Stats().Slots
			free = occupy(b, slots)
			if got, want := detail(t, b), start+number(slots)+" in flight, bounded because calls time out"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			time.Sleep(4 * time.Second) // the congestion ends
			free2 := occupy(b, 1)
			more := b.Stats().Slots
			free3 := occupy(b, more-slots-1)
			if got, want := detail(t, b), start+number(more)+sizes; got != want || more < 24 {
				t.Errorf("got %q, want %q", got, want)
			}
			for range slots {
				free()
			}
			free2()
			for range more - slots - 1 {
				free3()
			}
		}
	})
}
