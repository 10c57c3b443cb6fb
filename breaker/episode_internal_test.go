package breaker

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
)

// final returns a breaker in which a result has ended HALF_OPEN with that credit and the
// next episode is not installed yet. No external test can hold it in that moment.
func final(t *testing.T, left int) (*Breaker, *episode) {
	t.Helper()
	b, err := New(Config{CloseAfter: 3})
	if err != nil {
		t.Fatal(err)
	}
	h, token := b.halfOpen(&episode{rejection: &rejection{}}, 0)
	h.free(token)
	h.word.Store(credit{left: left}.pack())
	b.episode.Store(h)
	return b, h
}

// TestEpisode_closingNeedsNoSlot: while CLOSED is being installed, calls need no slot
// and move no credit.
func TestEpisode_closingNeedsNoSlot(t *testing.T) {
	b, h := final(t, 4)
	for range 5 {
		if _, err := b.Acquire(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, ended := h.leave(0, 1, resilience.Failure, false); ended {
		t.Error("it has ended twice")
	}
	if c := unpack(h.word.Load()); c.inFlight != 0 || c.left != 4 {
		t.Errorf("a final credit has changed: %+v", c)
	}
}

// TestEpisode_finalCreditIsKept: while OPEN is being installed, calls are rejected and
// move no credit.
func TestEpisode_finalCreditIsKept(t *testing.T) {
	b, h := final(t, 0)
	if _, err := b.Acquire(context.Background()); err == nil {
		t.Error("admitted")
	}
	if c := unpack(h.word.Load()); c != (credit{}) {
		t.Errorf("a final credit has changed: %+v", c)
	}
}

// TestBreaker_changeAwaitsEpisode: change waits for the episode that is being
// installed.
func TestBreaker_changeAwaitsEpisode(t *testing.T) {
	b, h := final(t, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.change(match{}, func(e *episode) *episode {
			if e == h {
				t.Error("it changes an episode that is over")
			}
			return nil
		})
	}()
	for range 1000 {
		runtime.Gosched()
	}
	b.episode.Store(b.follow(h, Open, 0))
	<-done
}

// TestLease_idIsNeverZero: the id of a lease is never 0, which is a free slot.
func TestLease_idIsNeverZero(t *testing.T) {
	_, h := final(t, 2)
	lastLease.Store(1<<idBits - 3)
	for range 4 {
		token := h.claim(never)
		if _, held := h.free(token); !held {
			t.Fatalf("token %#x holds no slot", token)
		}
	}
}

// TestAnnouncer_linksLateEpisode: a transition that is not linked yet is announced
// before the next one.
func TestAnnouncer_linksLateEpisode(t *testing.T) {
	var announced []string
	b, err := New(Config{Observer: testkit.Observer(func(e resilience.Event) { announced = append(announced, e.Reason) })})
	if err != nil {
		t.Fatal(err)
	}
	// Another goroutine has come as far as to install this one.
	first := b.episode.Load()
	slow := b.follow(first, Open, 0)
	slow.note = b.newNote(context.Background(), b.transition(first, slow, match{rule: "first"}), nil)
	slow.prev.Store(first)
	b.episode.Store(slow)

	b.Reset()
	slow.link()
	b.events.announce(b.cfg.Observer)
	if got := strings.Join(announced, " "); got != "first Reset" {
		t.Errorf("announced %s", got)
	}
}

// TestBreaker_resumeBoundsCredit: a result after a change of mode does not end the
// resumed HALF_OPEN.
func TestBreaker_resumeBoundsCredit(t *testing.T) {
	for left, want := range map[int]int{0: 1, 2: 2, 4: 3} {
		b, h := final(t, left)
		if c := unpack(b.resume(h, 0).word.Load()); c.left != want || c.inFlight != 0 {
			t.Errorf("a credit of %d becomes %+v, want %d", left, c, want)
		}
	}
}

// TestCounters_probeAfterHalfOpen: a probe that ends after another has ended HALF_OPEN
// is not counted.
func TestCounters_probeAfterHalfOpen(t *testing.T) {
	for _, left := range []int{0, 4} {
		b, h := final(t, left)
		for o := range resilience.Ignored + 1 {
			b.record(context.Background(), h.claim(never-1), o, &noFailure)
		}
		if s := b.Stats(); s.ProbesSucceeded+s.ProbesFailed+s.ProbesIgnored+s.ProbesLate != 3 || s.ProbesLate != 3 {
			t.Errorf("late: %+v", s)
		}
		_, end := b.lease()
		for o := range resilience.Ignored + 1 {
			b.record(context.Background(), h.claim(end), o, &noFailure)
		}
		if s := b.Stats(); s.ProbesSucceeded+s.ProbesFailed+s.ProbesIgnored != 0 {
			t.Errorf("with a credit of %d: %+v", left, s)
		}
	}
}

// TestEpisode_replacedHasNoTime: an OPEN episode that was replaced adds no time, even
// to a reader that still has it.
func TestEpisode_replacedHasNoTime(t *testing.T) {
	mock := clock.NewMock()
	b, err := New(Config{Clock: mock})
	if err != nil {
		t.Fatal(err)
	}
	b.SetMode(ForcedOpen)
	e := b.episode.Load()
	mock.Add(time.Second)
	b.Reset()
	b.SetMode(Auto)
	mock.Add(time.Second)
	if d := e.uncounted(b.clock.Nanos()); d != 0 {
		t.Errorf("%d ns are not counted", d)
	}
	if s := b.stats(e); s.OpenTime != time.Second {
		t.Errorf("open for %v, want a second", s.OpenTime)
	}
}

// TestCredit_admittedBefore: a call was admitted before the last success if its id is not newer,
// also where the ids wrap.
func TestCredit_admittedBefore(t *testing.T) {
	for _, newest := range []uint64{1, 2, 1000, ids / 2, ids - 1, ids} {
		c := credit{newest: newest}
		for _, d := range []uint64{0, 1, 2, 100, ids/2 - 1} {
			older := leaseID(newest - 1 + ids - d)
			newer := leaseID(newest + d)
			if !c.admittedBefore(older) || c.admittedBefore(newer) {
				t.Errorf("newest %d: %d is older: %v, %d is: %v", newest, older, c.admittedBefore(older), newer, c.admittedBefore(newer))
			}
		}
	}
}
