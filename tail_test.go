package resilience_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
)

var errLater = errors.New("later")

// A Settler is called at its moment, with its error, in each order of Answer and End.
func TestTail_moments(t *testing.T) {
	for _, tt := range []struct {
		name            string
		do              func(tail *resilience.Tail, run uint32)
		answered, ended []error
	}{
		{"going", func(*resilience.Tail, uint32) {}, nil, nil},
		{"answered", func(tail *resilience.Tail, run uint32) { tail.Answer(run) }, []error{nil}, nil},
		{"answered twice", func(tail *resilience.Tail, run uint32) { tail.Answer(run); tail.Answer(run) }, []error{nil}, nil},
		{"ended without an answer", func(tail *resilience.Tail, run uint32) { tail.End(run, errDown) }, []error{errDown}, []error{errDown}},
		{"ended well without an answer", func(tail *resilience.Tail, run uint32) { tail.End(run, nil) }, []error{nil}, []error{nil}},
		{"answered, then ended", func(tail *resilience.Tail, run uint32) { tail.Answer(run); tail.End(run, errDown) }, []error{nil}, []error{errDown}},
		{"answer after the end", func(tail *resilience.Tail, run uint32) { tail.End(run, errDown); tail.Answer(run) }, []error{errDown}, []error{errDown}},
		{"the first end wins", func(tail *resilience.Tail, run uint32) { tail.End(run, errDown); tail.End(run, errLater) }, []error{errDown}, []error{errDown}},
		{"end of another run", func(tail *resilience.Tail, run uint32) { tail.End(run+1, errDown); tail.End(run-1, errDown) }, nil, nil},
		{"answer of another run", func(tail *resilience.Tail, run uint32) { tail.Answer(run + 1); tail.Answer(run - 1) }, nil, nil},
		{"begun again", func(tail *resilience.Tail, _ uint32) { tail.Begin() }, []error{resilience.ErrAborted}, []error{resilience.ErrAborted}},
		{"answered, then begun again", func(tail *resilience.Tail, run uint32) { tail.Answer(run); tail.Begin() }, []error{nil}, []error{resilience.ErrAborted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tail resilience.Tail
			var answered, ended heard
			run := tail.Begin()
			if !tail.Hold(resilience.Answered, &answered, 1) || !tail.Hold(resilience.Ended, &ended, 2) {
				t.Fatal("not held")
			}
			tt.do(&tail, run)
			if got := answered.all(); !slices.Equal(got, tt.answered) {
				t.Errorf("at Answered: %v, want %v", got, tt.answered)
			}
			if got := ended.all(); !slices.Equal(got, tt.ended) {
				t.Errorf("at Ended: %v, want %v", got, tt.ended)
			}
		})
	}
}

// Hold reports whether it has kept or settled the Settler, before, during and after a
// run.
func TestTailHold_outsideRun(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   resilience.Moment
		do   func(tail *resilience.Tail)
		held bool
		want []error
	}{
		{"zero value", resilience.Ended, func(*resilience.Tail) {}, false, nil},
		{"answered already", resilience.Answered, func(tail *resilience.Tail) { tail.Answer(tail.Begin()) }, false, nil},
		{"answered, for the end", resilience.Ended, func(tail *resilience.Tail) { tail.Answer(tail.Begin()) }, true, nil},
		{"ended already, with the error of the end", resilience.Ended, func(tail *resilience.Tail) { tail.End(tail.Begin(), errDown) }, true, []error{errDown}},
		{"ended without an answer", resilience.Answered, func(tail *resilience.Tail) { tail.End(tail.Begin(), errDown) }, true, []error{errDown}},
		{"answered well, ended badly", resilience.Answered, func(tail *resilience.Tail) {
			run := tail.Begin()
			tail.Answer(run)
			tail.End(run, errDown)
		}, false, nil},
		{"ended, answered late", resilience.Answered, func(tail *resilience.Tail) {
			run := tail.Begin()
			tail.End(run, errDown)
			tail.Answer(run)
		}, true, []error{errDown}},
		{"ended twice", resilience.Ended, func(tail *resilience.Tail) {
			run := tail.Begin()
			tail.End(run, errDown)
			tail.End(run, nil)
		}, true, []error{errDown}},
		{"ended without a beginning", resilience.Ended, func(tail *resilience.Tail) { tail.End(0, errDown) }, false, nil},
		{"a run after one that answered", resilience.Answered, func(tail *resilience.Tail) {
			tail.Answer(tail.Begin())
			tail.Begin()
		}, true, nil},
		{"a run after one that ended", resilience.Ended, func(tail *resilience.Tail) {
			tail.End(tail.Begin(), errDown)
			tail.Begin()
		}, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tail resilience.Tail
			var h heard
			tt.do(&tail)
			if held := tail.Hold(tt.at, &h, 0); held != tt.held {
				t.Errorf("held: %v", held)
			}
			if got := h.all(); !slices.Equal(got, tt.want) {
				t.Errorf("heard %v, want %v", got, tt.want)
			}
		})
	}
}

// A late End of a run does not end the next run. A body may be closed twice, and a
// stream may finish after it was discarded.
func TestTailEnd_late(t *testing.T) {
	var tail resilience.Tail
	var h heard
	first := tail.Begin()
	tail.End(first, nil)
	second := tail.Begin()
	tail.Hold(resilience.Ended, &h, 0)
	tail.Answer(first)
	tail.End(first, errDown)
	if got := h.all(); got != nil {
		t.Fatalf("the end of the first run was heard as the end of the second: %v", got)
	}
	tail.End(second, errLater)
	if got := h.all(); !slices.Equal(got, []error{errLater}) {
		t.Errorf("heard %v", got)
	}
}

func TestTailHeld(t *testing.T) {
	var tail resilience.Tail
	check := func(when string, want bool) {
		t.Helper()
		if got := tail.Held(); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	check("zero", false)
	run := tail.Begin()
	check("no settler is held", false)
	tail.Hold(resilience.Answered, new(heard), 0)
	check("until Answered", true)
	tail.Answer(run)
	check("answered", false)
	tail.Hold(resilience.Ended, new(heard), 0)
	check("until Ended", true)
	tail.End(run, nil)
	check("ended", false)
	tail.Hold(resilience.Ended, new(heard), 0)
	check("held after the end", false)
}

// Both moments settle in the order of Hold, also when more than six Settlers do not fit
// inline.
func TestTail_order(t *testing.T) {
	for _, n := range []int{1, 5, 6, 7, 12, 13, 40} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			var tail resilience.Tail
			var h heard
			var want []uint64
			run := tail.Begin()
			for i := range n {
				at := resilience.Ended
				if i%3 == 0 {
					at = resilience.Answered
					want = append(want, uint64(i))
				}
				tail.Hold(at, &h, uint64(i))
			}
			for i := range n {
				if i%3 != 0 {
					want = append(want, uint64(i))
				}
			}
			tail.Answer(run)
			tail.End(run, nil)
			if !slices.Equal(h.tokens, want) {
				t.Errorf("got %v, want %v", h.tokens, want)
			}
		})
	}
}

// A Settler that panics or ends the goroutine does not keep the others from being
// settled.
func TestTail_settlerUnwinds(t *testing.T) {
	moments := map[string]func(tail *resilience.Tail, run uint32){
		"Answer": func(tail *resilience.Tail, run uint32) { tail.Answer(run) },
		"End":    func(tail *resilience.Tail, run uint32) { tail.End(run, nil) },
		"Begin":  func(tail *resilience.Tail, _ uint32) { tail.Begin() },
	}
	unwinds := map[string]func(){
		"panic":  func() { panic("settler") },
		"Goexit": runtime.Goexit,
	}
	for moment, come := range moments {
		for how, unwind := range unwinds {
			for _, bad := range []int{0, 3, 5, 6, 8} {
				t.Run(moment+"/"+how+"/"+strconv.Itoa(bad), func(t *testing.T) {
					var tail resilience.Tail
					var h heard
					run := tail.Begin()
					for i := range 9 {
						tail.Hold(resilience.Answered, settler(func(token uint64, err error) {
							h.Settle(token, err)
							if i == bad {
								unwind()
							}
						}), uint64(i))
					}
					var recovered any
					over := make(chan struct{})
					go func() {
						defer close(over)
						defer func() { recovered = recover() }()
						come(&tail, run)
					}()
					<-over
					if (recovered != nil) != (how == "panic") {
						t.Errorf("recovered %v", recovered)
					}
					if want := []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(h.tokens, want) {
						t.Errorf("settled %v", h.tokens)
					}
				})
			}
		}
	}
}

// If all Settlers panic, each is settled.
func TestTail_allSettlersPanic(t *testing.T) {
	var tail resilience.Tail
	var h heard
	run := tail.Begin()
	for i := range uint64(8) {
		tail.Hold(resilience.Ended, settler(func(token uint64, err error) {
			h.Settle(token, err)
			panic(token)
		}), i)
	}
	func() {
		defer func() { _ = recover() }()
		tail.End(run, nil)
	}()
	if len(h.tokens) != 8 {
		t.Errorf("settled %v", h.tokens)
	}
}

// A Settler may use the Tail that settles it: there is no deadlock, and what it holds is
// settled too.
func TestTail_settlerUsesTail(t *testing.T) {
	var tail resilience.Tail
	var h heard
	run := tail.Begin()
	tail.Hold(resilience.Answered, settler(func(uint64, error) {
		tail.Hold(resilience.Ended, &h, 1)
		if tail.Hold(resilience.Answered, &h, 2) {
			t.Error("held for a moment that has come")
		}
		tail.Answer(run)
		tail.End(run, errDown)
		tail.Hold(resilience.Ended, &h, 3)
	}), 0)
	tail.Hold(resilience.Ended, &h, 0)
	tail.Answer(run)
	if got := h.tokens; !slices.Equal(got, []uint64{0, 1, 3}) {
		t.Errorf("settled %v", got)
	}
	if got := h.all(); !slices.Equal(got, []error{errDown, errDown, errDown}) {
		t.Errorf("heard %v", got)
	}
}

// A Settler may begin the next run, which does not end with the old one.
func TestTail_settlerBeginsRun(t *testing.T) {
	var tail resilience.Tail
	var h heard
	run := tail.Begin()
	tail.Hold(resilience.Ended, settler(func(uint64, error) {
		run = tail.Begin()
		tail.Hold(resilience.Ended, &h, 1)
	}), 0)
	tail.End(run, errDown)
	if got := h.all(); got != nil {
		t.Errorf("the new run ended with the old one: %v", got)
	}
	tail.End(run, errLater)
	if got := h.all(); !slices.Equal(got, []error{errLater}) {
		t.Errorf("heard %v", got)
	}
}

// Each Settler is settled exactly once while one goroutine runs and holds, and eleven
// answer and end; run with -race.
func TestTail_settlesOnce(t *testing.T) {
	const holdings, goroutines = 24_000, 11
	var tail resilience.Tail
	var run atomic.Uint32
	var settled [holdings]atomic.Int32
	count := settler(func(token uint64, _ error) { settled[token].Add(1) })
	run.Store(tail.Begin())
	var over atomic.Bool
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := 0; !over.Load(); i++ {
				switch (g + i) % 5 {
				case 0, 1, 2:
					tail.Answer(run.Load())
				case 3:
					tail.End(run.Load(), errDown)
				case 4:
					tail.End(run.Load(), nil)
				}
			}
		})
	}
	for token := range holdings {
		if !tail.Hold(resilience.Moment(1+token%2), count, uint64(token)) {
			count.Settle(uint64(token), nil)
		}
		switch token % 17 {
		case 0, 5, 6:
			run.Store(tail.Begin())
		case 7:
			tail.Held()
		}
	}
	over.Store(true)
	wg.Wait()
	tail.Begin()
	for token := range settled {
		if n := settled[token].Load(); n != 1 {
			t.Fatalf("settler %d was settled %d times", token, n)
		}
	}
}

// Settle settles at the given moment: when Apply has returned, or when a lasting
// operation has ended.
func TestNext_settle(t *testing.T) {
	for _, tt := range []struct {
		name  string
		at    resilience.Moment
		err   error
		op    func() resilience.Operation
		now   []error // settled when Apply has returned
		later []error // settled when the operation has ended with errLater
	}{
		{"of a Func, now", resilience.Ended, nil, plain, []error{nil}, []error{nil}},
		{"of a Func, its error now", resilience.Answered, errDown, plain, []error{errDown}, []error{errDown}},
		{"of a Lasting that is over, now", resilience.Ended, errDown, over, []error{errDown}, []error{errDown}},
		{"at the end, with the error of the end", resilience.Ended, nil, going, nil, []error{errLater}},
		{"at the end, with the error given", resilience.Ended, errDown, going, nil, []error{errDown}},
		{"zero is the end", 0, nil, going, nil, []error{errLater}},
		{"an unknown moment is the end", 7, errDown, going, nil, []error{errDown}},
		{"at the answer, which never came", resilience.Answered, nil, going, nil, []error{errLater}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h heard
			op := tt.op()
			_ = inside(t.Context(), op, func(next resilience.Next) error {
				err := next.Run(t.Context())
				next.Settle(tt.at, tt.err, &h, 42)
				return err
			})
			if got := h.all(); !slices.Equal(got, tt.now) {
				t.Errorf("at once: %v, want %v", got, tt.now)
			}
			if l, ok := op.(*lasting); ok {
				l.End(l.run, errLater)
			}
			if got := h.all(); !slices.Equal(got, tt.later) {
				t.Errorf("in the end: %v, want %v", got, tt.later)
			}
			if !slices.Equal(h.tokens, []uint64{42}) {
				t.Errorf("tokens %v", h.tokens)
			}
		})
	}
}

func plain() resilience.Operation {
	return resilience.Func(func(context.Context) error { return nil })
}

func going() resilience.Operation { return &lasting{} }

// over returns a Lasting operation whose runs end when they return.
func over() resilience.Operation { return &brief{} }

type brief struct{ lasting }

func (b *brief) Run(context.Context) error { return nil }

// A deferred Settle with ErrAborted preset settles with it when the operation panics or
// ends the goroutine.
func TestNextSettle_operationUnwinds(t *testing.T) {
	for how, unwind := range map[string]func(){"panic": func() { panic(errDown) }, "Goexit": runtime.Goexit} {
		t.Run(how, func(t *testing.T) {
			var h heard
			var recovered any
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { recovered = recover() }()
				op := func(context.Context) error { unwind(); return nil }
				_ = inside(t.Context(), resilience.Func(op), func(next resilience.Next) error {
					err := resilience.ErrAborted
					defer func() { next.Settle(resilience.Ended, err, &h, 0) }()
					err = next.Run(t.Context())
					return err
				})
			}()
			<-done
			if got := h.all(); !slices.Equal(got, []error{resilience.ErrAborted}) {
				t.Errorf("heard %v", got)
			}
			if (recovered == error(errDown)) != (how == "panic") {
				t.Errorf("recovered %v", recovered)
			}
		})
	}
}
