package bulkhead_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// MaxWait bounds the time in the queue and not the operation.
func TestConfig_MaxWait(t *testing.T) {
	for name, c := range map[string]bulkhead.Config{
		"default": {Slots: 1},
		"clock":   {Slots: 1, Clock: clock.New()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, c)
				free := occupy(b, 1)
				start := time.Now()
				err := resilience.Run(context.Background(), b, nothing)
				if !errors.Is(err, bulkhead.ErrFull) || time.Since(start) != 100*time.Millisecond {
					t.Errorf("got %v after %v, want a rejection after 100 ms", err, time.Since(start))
				}
				go func() {
					time.Sleep(50 * time.Millisecond)
					free()
				}()
				err = resilience.Run(context.Background(), b, func(ctx context.Context) error {
					if _, ok := ctx.Deadline(); ok {
						t.Error("the operation has the deadline of the wait")
					}
					time.Sleep(time.Hour)
					return ctx.Err()
				})
				if err != nil {
					t.Error(err)
				}
				if s := b.Stats(); s != (bulkhead.Stats{Counters: bulkhead.Counters{Completed: 2, WaitExpired: 1}, Gauges: bulkhead.Gauges{Slots: 1}}) {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// With Unbounded, a call is queued until its context ends.
func TestConfig_MaxWait_unbounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxWait: bulkhead.Unbounded})
		free := occupy(b, 1)
		ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
		defer cancel()
		start := time.Now()
		err := resilience.Run(ctx, b, nothing)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 24*time.Hour {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		free()
	})
}

// A config error names the field, its value and what to change.
func TestNew_invalidConfig(t *testing.T) {
	for _, tt := range []struct {
		c    bulkhead.Config
		want string
	}{
		{bulkhead.Config{Slots: -1}, "Config.Slots is -1: must be 1 to 1073741824, or 0 to size itself; leave the bulkhead out"},
		{bulkhead.Config{Slots: math.MaxInt32}, "Config.Slots is 2147483647: must be 1 to"},
		{bulkhead.Config{MaxQueue: math.MaxInt32}, "Config.MaxQueue is 2147483647: must be at most 1073741824"},
	} {
		tt.c.Name = "users"
		b, err := bulkhead.New(tt.c)
		if err == nil || b != nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), `bulkhead "users": `) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
