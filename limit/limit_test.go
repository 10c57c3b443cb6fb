package limit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// New returns an error that names the field, its value and the bound.
func TestNew_badConfig(t *testing.T) {
	for name, c := range map[string]struct {
		config limit.Config
		want   []string
	}{
		"a negative Max":      {limit.Config{Name: "orders", Max: -1}, []string{`limit "orders"`, "Config.Max is -1", "leave the limit out"}},
		"a Max without end":   {limit.Config{Name: "orders", Max: 1<<20 + 1}, []string{"Config.Max is 1048577", "1 to 1048576"}},
		"a queue without end": {limit.Config{Name: "orders", MaxQueue: 1<<30 + 1}, []string{"Config.MaxQueue is 1073741825", "at most 1073741824"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := limit.New(c.config)
			if err == nil || l != nil {
				t.Fatalf("%v, %v", l, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	for _, c := range []limit.Config{{}, {Max: 1}, {Max: 1 << 20}, {MaxQueue: 1 << 30}, {MaxQueue: limit.NoQueue}, {Shadow: true}} {
		if _, err := limit.New(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// String describes the settings that differ from the defaults.
func TestLimitString(t *testing.T) {
	for want, c := range map[string]limit.Config{
		"limit: set by trials in an overload":                                   {},
		`limit "orders": set by trials in an overload, 500 in flight at most`:   {Name: "orders", Max: 500},
		"limit: 2 in flight, no queue":                                          {Max: 2, MaxQueue: -1},
		"limit: set by trials in an overload, queue of 9":                       {MaxQueue: 9},
		"limit: set by trials in an overload, only counts what it would reject": {Shadow: true},
	} {
		l := newLimit(t, c)
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if l.Name() != c.Name {
			t.Errorf("named %q, want %q", l.Name(), c.Name)
		}
	}
	if s := fmt.Sprint(newLimit(t, limit.Config{Name: "orders"}).Fork("a")); !strings.Contains(s, `"a"`) {
		t.Errorf("a fork is %q", s)
	}
}

// A new Limit has no limit in force but Max.
func TestNew_initialLimit(t *testing.T) {
	for most, want := range map[int]int{0: 0, 1: 1, 3: 3, 64: 64, 1000: 1000} {
		if s := newLimit(t, limit.Config{Max: most}).Stats(); s != (limit.Stats{Gauges: limit.Gauges{Limit: want}}) {
			t.Errorf("Max %d: %+v", most, s)
		}
	}
}

// A rejection names the limit and the reason. All rejections for one reason are one
// error.
func TestLimit_rejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{Name: "orders", Max: 1, MaxQueue: -1})
		leave := make(chan struct{})
		fill(t, l, 1, leave)
		err := resilience.Run(t.Context(), l, succeed)
		if !errors.Is(err, limit.ErrLimited) || !errors.Is(err, resilience.ErrRejected) {
			t.Errorf("%v is no refusal of a limit", err)
		}
		want := `limit "orders": rejected: limited: queue is full`
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if again := resilience.Run(t.Context(), l, succeed); again != err {
			t.Error("a refusal makes an error of its own")
		}
		close(leave)
		synctest.Wait()
		atRest(t, l, 3)
	})
}

// Update changes the bounds of a limit and of its forks while requests are in flight, or
// nothing if the configuration is not valid.
func TestLimit_Update(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{Name: "orders", Max: 2, MaxQueue: 3})
		fork := l.Fork("a").(*limit.Limit)
		leave := make(chan struct{})
		for _, one := range []*limit.Limit{l, fork} {
			fill(t, one, 2, leave)
			for range 3 {
				go func() { _ = resilience.Run(context.Background(), one, succeed) }()
			}
			synctest.Wait()
		}
		for _, bad := range []limit.Config{{Name: "orders", Max: -1}, {Name: "others", Max: 9}, {Name: "orders", MaxQueue: -2}} {
			if err := l.Update(bad); err == nil {
				t.Errorf("%+v is no error", bad)
			}
		}
		if s := l.Stats(); s.InFlight != 2 || s.Queued != 3 {
			t.Errorf("after errors: %+v", s)
		}
		if err := fork.Update(limit.Config{Name: "orders", Max: 4}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for name, one := range map[string]*limit.Limit{"origin": l, "fork": fork} {
			fill(t, one, 1, leave) // its next request
			if s := one.Stats(); s.Limit != 4 || s.InFlight+s.Queued < 3 || s.InFlight > 4 {
				t.Errorf("%s, Max 4: %+v", name, s)
			}
		}
		if err := l.Update(limit.Config{Name: "orders", Shadow: true, Max: 1}); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 3, leave)
		if s := l.Stats(); s.Queued != 0 || s.InFlight < 4 {
			t.Errorf("in shadow mode: %+v", s)
		}
		close(leave)
		synctest.Wait()
	})
}
