package bulkhead

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
)

func sizing(t *testing.T, c Config) *Bulkhead {
	t.Helper()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// took returns the time since the ticket was made, at a resolution of 65 µs, also after its
// clock has wrapped.
func TestTicket_took(t *testing.T) {
	for _, start := range []time.Duration{time.Millisecond, time.Hour, 78*time.Hour + 11*time.Minute, 1000 * time.Hour} {
		for _, d := range []time.Duration{0, time.Microsecond, time.Millisecond, time.Second, 10 * time.Hour} {
			clock := testkit.NewClock()
			b := sizing(t, Config{Clock: clock})
			clock.Move(start)
			tk := b.ticket(7)
			clock.Move(d)
			got := time.Duration(tk.took(b.clock.Nanos()))
			if got <= 0 || (got-d).Abs() > 1<<tick || tk.number(7) != 7 || !tk.timed() {
				t.Errorf("%v after %v: took %v", d, start, got)
			}
		}
	}
}

// A call that begins and ends at once does not take long, at any time, even in the instant in
// which the bulkhead is made and the one in which a ticket's time is 0 again.
func TestTicket_took_atZero(t *testing.T) {
	for _, start := range []time.Duration{0, 1 << (32 + tick)} {
		clock := testkit.NewClock()
		b := sizing(t, Config{Clock: clock})
		clock.Move(start)
		if took := time.Duration(b.ticket(1).took(b.clock.Nanos())); took > 2<<tick {
			t.Errorf("at %v: took %v, want nearly nothing", start, took)
		}
	}
}

// If the clock is set back while a call runs, it is not known how long the call took.
func TestTicket_took_clockSetBack(t *testing.T) {
	clock := testkit.NewClock()
	b := sizing(t, Config{Clock: clock})
	clock.Move(time.Hour)
	tk := b.ticket(1)
	clock.Move(-time.Second)
	if took := time.Duration(tk.took(b.clock.Nanos())); took != 0 {
		t.Errorf("took %v, want 0, because that is not known", took)
	}
}

// While there are many calls, one in 64 is timed, and otherwise each.
func TestBulkhead_ticket_timedShare(t *testing.T) {
	for rate, share := range map[int]int{3600: 1, 8000: timedShare} {
		synctest.Test(t, func(t *testing.T) {
			b := sizing(t, Config{})
			for range 2 * rate {
				time.Sleep(time.Second / time.Duration(rate))
				_ = resilience.Run(t.Context(), b, func(context.Context) error { return nil })
			}
			timed := 0
			for n := range int64(6400) {
				if b.ticket(n).timed() {
					timed++
				}
			}
			if timed != 6400/share {
				t.Errorf("%d calls a second: %d of 6400 are timed, want one in %d", rate, timed, share)
			}
		})
	}
}

// A bulkhead with Config.Slots reads no clock.
func TestBulkhead_ticket_configuredSlots(t *testing.T) {
	if tk := sizing(t, Config{Slots: 1}).ticket(5); tk != 0 {
		t.Errorf("ticket %x", tk)
	}
}
