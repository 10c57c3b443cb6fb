package stale_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/stale"
)

var (
	errBoom = errors.New("boom")
	errOwn  = errors.New("own")
)

// opinion is an error with an Outcome method.
type opinion struct{ outcome resilience.Outcome }

func (o opinion) Error() string               { return "outcome " + o.outcome.String() }
func (o opinion) Outcome() resilience.Outcome { return o.outcome }

func must(t testing.TB, c stale.Config) *stale.Stale[int] {
	t.Helper()
	s, err := stale.New[int](c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type fetch = func(context.Context) (int, error)

func value(v int) fetch      { return func(context.Context) (int, error) { return v, nil } }
func failed(err error) fetch { return func(context.Context) (int, error) { return -1, err } }

// learn makes s remember v for key.
func learn(t testing.TB, s *stale.Stale[int], key string, v int) {
	t.Helper()
	if got, age, err := s.Do(t.Context(), nil, key, value(v)); got != v || age != 0 || err != nil {
		t.Fatalf("a fresh %d is %d of age %v, %v", v, got, age, err)
	}
}

// knows returns the value that s answers with when the fetch for key fails.
func knows(t testing.TB, s *stale.Stale[int], key string) (v int, ok bool) {
	t.Helper()
	v, age, err := s.Do(t.Context(), nil, key, failed(errBoom))
	if err != nil && (err != errBoom || age != 0) || err == nil && age <= 0 {
		t.Errorf("age %v, error %v", age, err)
	}
	return v, err == nil
}

func wantStats(t testing.TB, s *stale.Stale[int], want stale.Stats) {
	t.Helper()
	if got := s.Stats(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// The last good value answers for a failure, with its age.
func TestStale_answers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{Name: "rates"})
		learn(t, s, "eur", 1)
		learn(t, s, "eur", 2)
		learn(t, s, "usd", 3)
		time.Sleep(time.Minute)
		if v, age, err := s.Do(t.Context(), nil, "eur", failed(errBoom)); v != 2 || age != time.Minute || err != nil {
			t.Errorf("%d of age %v, %v", v, age, err)
		}
		wantStats(t, s, stale.Stats{Fresh: 3, Stale: 1, Refreshes: 4, Keys: 2})
		if s.Name() != "rates" {
			t.Errorf("name %q", s.Name())
		}
	})
}

// Without a remembered value, the fetch's error is returned.
func TestStale_nothingRemembered(t *testing.T) {
	s := must(t, stale.Config{})
	learn(t, s, "usd", 1)
	for range 2 {
		if v, age, err := s.Do(t.Context(), nil, "eur", failed(errBoom)); v != -1 || age != 0 || err != errBoom {
			t.Errorf("%d of age %v, %v", v, age, err)
		}
	}
	wantStats(t, s, stale.Stats{Fresh: 1, Failed: 2, Refreshes: 3, Keys: 1})
}

// If, or the error's outcome, decides which errors a remembered value answers for.
func TestConfig_If(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		choose   func(error) bool
		answered bool
	}{
		"a failure":            {errBoom, nil, true},
		"a rejection":          {&resilience.Rejection{Policy: "test", Name: "inner", Reason: bulkhead.Full}, nil, true},
		"says it is a success": {opinion{resilience.Success}, nil, false},
		"another call's end":   {context.Canceled, nil, true},
		"If says no":           {errBoom, func(error) bool { return false }, false},
		"If says yes":          {opinion{resilience.Success}, func(err error) bool { return err == opinion{} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := must(t, stale.Config{If: test.choose})
			learn(t, s, "k", 1)
			v, age, err := s.Do(t.Context(), nil, "k", failed(test.err))
			if test.answered && (v != 1 || age <= 0 || err != nil) || !test.answered && (v != -1 || age != 0 || err != test.err) {
				t.Errorf("%d of age %v, %v", v, age, err)
			}
		})
	}
}

// A value as old as MaxAge answers, and an older value is removed.
func TestConfig_MaxAge(t *testing.T) {
	for name, test := range map[string]struct{ maxAge, age time.Duration }{
		"given":     {time.Minute, time.Minute},
		"default":   {0, time.Hour},
		"unbounded": {stale.Unbounded, 100 * 365 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			mock := clock.NewMock()
			s := must(t, stale.Config{MaxAge: test.maxAge, Clock: mock})
			learn(t, s, "k", 1)
			mock.Set(mock.Now().Add(test.age))
			if _, age, err := s.Do(t.Context(), nil, "k", failed(errBoom)); err != nil || age != test.age {
				t.Errorf("age %v, %v", age, err)
			}
			mock.Set(mock.Now().Add(1))
			if _, ok := knows(t, s, "k"); ok != (test.maxAge < 0) {
				t.Errorf("a nanosecond later it answers: %v", ok)
			}
			if n := s.Stats().Keys; n != 0 && test.maxAge >= 0 {
				t.Errorf("%d values are remembered", n)
			}
		})
	}
}

// The age counts from the end of the fetch.
func TestStale_age(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		_, _, err := s.Do(t.Context(), nil, "k", func(context.Context) (int, error) { time.Sleep(time.Minute); return 1, nil })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, age, err := s.Do(t.Context(), nil, "k", failed(errBoom)); age != time.Second || err != nil {
			t.Errorf("age %v, %v", age, err)
		}
	})
}

// The age of a remembered value is never 0.
func TestStale_ageNotZero(t *testing.T) {
	s := must(t, stale.Config{Clock: clock.NewMock()}) // stands still
	learn(t, s, "k", 1)
	if _, age, err := s.Do(t.Context(), nil, "k", failed(errBoom)); age <= 0 || err != nil {
		t.Errorf("age %v, %v", age, err)
	}
}

// If the policy answers nil instead of the fetch, there is no fresh value: the remembered
// value stays and answers. Without one, the zero value answers.
func TestStale_policyAnswersNil(t *testing.T) {
	s := must(t, stale.Config{Name: "rates"})
	learn(t, s, "eur", 7)
	answers := resilience.PolicyFunc(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return nil
	})
	if v, age, err := s.Do(t.Context(), answers, "eur", failed(errBoom)); v != 7 || age <= 0 || err != nil {
		t.Errorf("got %d of age %v, %v, want the remembered value", v, age, err)
	}
	if v, age, err := s.Do(t.Context(), answers, "usd", failed(errBoom)); v != 0 || age != 0 || err != nil {
		t.Errorf("got %d of age %v, %v, want the zero value", v, age, err)
	}
	if got := s.Stats(); got.Fresh != 2 || got.Stale != 1 {
		t.Errorf("counted %+v", got)
	}
	if v, ok := knows(t, s, "eur"); v != 7 || !ok {
		t.Errorf("remembered %d, %v, want 7", v, ok)
	}
}

// A nil fetch or context is an error, and counts nothing.
func TestStale_nilArguments(t *testing.T) {
	s := must(t, stale.Config{})
	var noContext context.Context
	if _, _, err := s.Do(t.Context(), nil, "k", nil); err == nil || !strings.Contains(err.Error(), "the operation is nil: pass") {
		t.Errorf("error %v", err)
	}
	if _, _, err := s.Do(noContext, nil, "k", value(1)); err == nil || !strings.Contains(err.Error(), "the context is nil: pass") {
		t.Errorf("error %v", err)
	}
	if got := s.Stats(); got != (stale.Stats{}) {
		t.Errorf("counted %+v", got)
	}
}

// A new value replaces the oldest.
func TestConfig_Max(t *testing.T) {
	for name, test := range map[string]struct{ max, fits int }{"given": {3, 3}, "default": {0, 1000}} {
		t.Run(name, func(t *testing.T) {
			s := must(t, stale.Config{Max: test.max})
			for i := range test.fits {
				learn(t, s, fmt.Sprint(i), i)
			}
			learn(t, s, "0", 0)   // is now the newest
			learn(t, s, "new", 7) // replaces "1"
			if n := s.Stats().Keys; n != test.fits {
				t.Errorf("%d values are remembered", n)
			}
			for key, want := range map[string]bool{"0": true, "1": false, "2": true, "new": true} {
				if _, ok := knows(t, s, key); ok != want {
					t.Errorf("%q is remembered: %v", key, ok)
				}
			}
		})
	}
}

// A new value removes the values that are too old.
func TestStale_removesTooOld(t *testing.T) {
	mock := clock.NewMock()
	s := must(t, stale.Config{Clock: mock})
	learn(t, s, "a", 1)
	learn(t, s, "b", 1)
	mock.Set(mock.Now().Add(time.Hour + 1))
	learn(t, s, "c", 1)
	if n := s.Stats().Keys; n != 1 {
		t.Errorf("%d values are remembered", n)
	}
}

// The age includes a suspend, and goes on if the wall time is set back.
func TestStale_ageAfterJump(t *testing.T) {
	for jump, want := range map[time.Duration]time.Duration{8 * time.Hour: 8*time.Hour + time.Minute, -8 * time.Hour: time.Minute} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hands := testkit.NewJumpClock()
				s := must(t, stale.Config{MaxAge: want, Clock: hands})
				learn(t, s, "k", 1)
				time.Sleep(time.Minute)
				hands.Jump(jump)
				if _, age, err := s.Do(t.Context(), nil, "k", failed(errBoom)); age != want || err != nil {
					t.Errorf("age %v, want %v, %v", age, want, err)
				}
				time.Sleep(time.Nanosecond)
				if _, ok := knows(t, s, "k"); ok {
					t.Errorf("remembered for more than %v", want)
				}
			})
		})
	}
}

// A value that was fetched while the wall time was ahead has its real age later.
func TestStale_fetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hands := testkit.NewJumpClock()
		s := must(t, stale.Config{MaxAge: time.Hour, Clock: hands})
		hands.Jump(8 * time.Hour)
		learn(t, s, "k", 1)
		hands.Jump(-8 * time.Hour)
		time.Sleep(time.Minute)
		if _, age, err := s.Do(t.Context(), nil, "k", failed(errBoom)); age != time.Minute || err != nil {
			t.Errorf("age %v, %v", age, err)
		}
		time.Sleep(time.Hour)
		if _, ok := knows(t, s, "k"); ok {
			t.Error("remembered for too long")
		}
	})
}

// A report has the time of the clock.
func TestStale_reportTime(t *testing.T) {
	mock := clock.NewMock()
	s := must(t, stale.Config{Clock: mock})
	if r := s.Policy().(resilience.Reporter).Report(true); !r.Time.Equal(mock.Now()) {
		t.Errorf("got %v, want %v", r.Time, mock.Now())
	}
}

// If a clock without a monotonic reading is set back, the age counts from then on.
func TestStale_clockSetBack(t *testing.T) {
	mock := clock.NewMock()
	mock.Add(1000 * time.Hour)
	s := must(t, stale.Config{MaxAge: time.Minute, Clock: mock})
	learn(t, s, "k", 1)
	mock.Set(mock.Now().Add(-500 * time.Hour))
	if _, ok := knows(t, s, "k"); !ok {
		t.Error("the value is lost")
	}
	mock.Set(mock.Now().Add(time.Minute))
	if _, ok := knows(t, s, "k"); !ok {
		t.Error("lost too soon")
	}
	mock.Set(mock.Now().Add(1))
	if _, ok := knows(t, s, "k"); ok {
		t.Error("still remembered")
	}
}

// Forget removes the value of its key only.
func TestStale_Forget(t *testing.T) {
	s := must(t, stale.Config{})
	learn(t, s, "a", 1)
	learn(t, s, "b", 2)
	s.Forget("a")
	s.Forget("unknown")
	if _, ok := knows(t, s, "a"); ok {
		t.Error("still remembered")
	}
	if v, ok := knows(t, s, "b"); v != 2 || !ok {
		t.Error("the value of another key is removed")
	}
}

// The observer is called with each call that a remembered value answered.
func TestStale_events(t *testing.T) {
	var got []resilience.Event
	s := must(t, stale.Config{Name: "rates", Observer: testkit.Observer(func(e resilience.Event) {
		got = append(got, e)
		panic("is dropped")
	})})
	knows(t, s, "eur")
	learn(t, s, "eur", 1)
	knows(t, s, "eur")
	_, _, _ = s.Do(t.Context(), nil, "eur", failed(opinion{resilience.Success}))
	if len(got) != 1 || got[0].Kind != stale.EventUsed || got[0].Policy != "stale" || got[0].Name != "rates" ||
		got[0].Key != "eur" || got[0].Err != errBoom || got[0].Time.IsZero() {
		t.Errorf("observed %+v", got)
	}
}

// The policy runs around the fetch, and a rejection is answered for.
func TestStale_policy(t *testing.T) {
	s := must(t, stale.Config{})
	learn(t, s, "k", 1)
	p := resilience.PolicyFunc(func(context.Context, resilience.Next) error {
		return &resilience.Rejection{Policy: "test", Name: "inner", Reason: bulkhead.Full}
	})
	v, age, err := s.Do(t.Context(), p, "k", func(context.Context) (int, error) { t.Error("ran"); return 2, nil })
	if v != 1 || age <= 0 || err != nil {
		t.Errorf("%d of age %v, %v", v, age, err)
	}
}

// If the context is already done, Do runs and counts nothing.
func TestStale_contextDone(t *testing.T) {
	s := must(t, stale.Config{})
	learn(t, s, "k", 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errOwn)
	v, age, err := s.Do(ctx, nil, "k", func(context.Context) (int, error) { t.Error("ran"); return 2, nil })
	if v != 0 || age != 0 || !errors.Is(err, context.Canceled) || !errors.Is(err, errOwn) {
		t.Errorf("%d of age %v, %v", v, age, err)
	}
	wantStats(t, s, stale.Stats{Fresh: 1, Refreshes: 1, Keys: 1})
}

// A config error names the field, its value and what to change.
func TestNew_invalidConfig(t *testing.T) {
	s, err := stale.New[int](stale.Config{Name: "rates", Max: -1})
	if s != nil || err == nil {
		t.Fatalf("New returned %v, %v", s, err)
	}
	for _, want := range []string{`"rates"`, "Config.Max is -1", "at least 1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
	}
}
