package resilience_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
)

// blocking is a Settler that does not return before it is released.
type blocking struct {
	began, release chan struct{}
	returned       atomic.Bool
	then           func()
}

func newBlocking() *blocking {
	return &blocking{began: make(chan struct{}), release: make(chan struct{})}
}

func (b *blocking) Settle(uint64, error) {
	defer b.returned.Store(true)
	close(b.began)
	<-b.release
	if b.then != nil {
		b.then()
	}
}

// settling calls f on another goroutine, and returns when f is inside b.
func (b *blocking) settling(f func()) {
	go func() {
		defer func() { _ = recover() }()
		f()
	}()
	<-b.began
}

// waits checks that f does not return before b has returned.
func (b *blocking) waits(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
		if !b.returned.Load() {
			t.Error("returned before the settler")
		}
	}()
	synctest.Wait()
	close(b.release)
	<-done
}

// moments are the ways in which another goroutine can be settling a run.
var moments = map[string]func(l *lasting){
	"Answer":       func(l *lasting) { l.Answer(l.run) },
	"End":          func(l *lasting) { l.End(l.run, nil) },
	"End, failing": func(l *lasting) { l.End(l.run, errDown) },
}

// While another goroutine settles the last run, Discard waits for it, so that the
// policies inside are free.
func TestNextDiscard_waitsForSettlers(t *testing.T) {
	unwinds := map[string]func(){"returns": nil, "panics": func() { panic("settler") }, "Goexit": runtime.Goexit}
	for moment, come := range moments {
		for how, then := range unwinds {
			for _, others := range []int{0, 1, 7} {
				synctest.Test(t, func(t *testing.T) {
					t.Logf("during %s, settler %s, %d others", moment, how, others)
					l, b := &lasting{}, newBlocking()
					b.then = then
					_ = inside(t.Context(), l, func(next resilience.Next) error {
						err := next.Run(t.Context())
						for range others {
							next.Settle(resilience.Ended, nil, new(heard), 0)
						}
						next.Settle(resilience.Answered, nil, b, 0)
						b.settling(func() { come(l) })
						b.waits(t, next.Discard)
						return err
					})
				})
			}
		}
	}
}

// If one goroutine settles the answer and another one the end, Discard waits for both.
func TestNextDiscard_waitsForAnswerAndEnd(t *testing.T) {
	for name, first := range map[string]int{"answer returns first": 0, "end returns first": 1} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			l, both := &lasting{}, []*blocking{newBlocking(), newBlocking()}
			_ = inside(t.Context(), l, func(next resilience.Next) error {
				err := next.Run(t.Context())
				next.Settle(resilience.Answered, nil, both[0], 0)
				next.Settle(resilience.Ended, nil, both[1], 0)
				both[0].settling(func() { l.Answer(l.run) })
				both[1].settling(func() { l.End(l.run, errDown) })
				over := make(chan struct{})
				go func() {
					defer close(over)
					next.Discard()
				}()
				for _, i := range []int{first, 1 - first} {
					synctest.Wait()
					select {
					case <-over:
						t.Error("Discard returned before both settlers")
					default:
					}
					close(both[i].release)
				}
				<-over
				return err
			})
		})
	}
}

// A policy that retries at once finds the slot inside free, whichever goroutine ends the run.
func TestNextDiscard_slotIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := &lasting{err: errDown}, newBlocking()
		var taken atomic.Int32
		b.then = func() { taken.Add(-1) }
		slot := apply(func(ctx context.Context, next resilience.Next) error {
			if taken.Load() != 0 {
				return resilience.ErrRejected
			}
			taken.Add(1)
			err := next.Run(ctx)
			if !b.returned.Load() {
				next.Settle(resilience.Ended, err, b, 0)
			}
			return err
		})
		retry := apply(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			b.settling(func() { l.End(l.run, errLater) })
			go close(b.release)
			next.Discard()
			return next.Run(ctx)
		})
		if err := resilience.RunOperation(t.Context(), resilience.Compose(retry, slot), l); err != errDown {
			t.Errorf("the second run: %v, want %v", err, errDown)
		}
	})
}

// kept is an operation whose Discard leaves the run going on.
type kept struct{ lasting }

func (*kept) Discard() {}

// Discard does not wait for the answer of a run that goes on, and does not wait
// without a Tail.
func TestNextDiscard_runGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := &kept{}, newBlocking()
		_ = inside(t.Context(), l, func(next resilience.Next) error {
			next.Discard() // before the first run
			err := next.Run(t.Context())
			next.Settle(resilience.Answered, nil, b, 0)
			b.settling(func() { l.Answer(l.run) })
			next.Discard()
			if b.returned.Load() {
				t.Error("Discard waited for the answer")
			}
			close(b.release)
			return err
		})
	})
}

// A Hold that finds the run ended has the error of the end, though End is only just
// setting it. Run with -race.
func TestTailHold_duringEnd(t *testing.T) {
	for range 5000 {
		var tail resilience.Tail
		var h heard
		run := tail.Begin()
		testkit.AtOnce(3, func(i int) {
			if i == 0 {
				tail.Hold(resilience.Ended, &h, 0)
				return
			}
			tail.End(run, errDown)
		})
		if got := h.all(); len(got) != 1 || got[0] != errDown {
			t.Fatalf("settled with %v, want %v once", got, errDown)
		}
	}
}
