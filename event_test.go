package resilience_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
)

func TestKindString(t *testing.T) {
	for k, want := range map[resilience.Kind]string{
		0:                       "unknown",
		resilience.Transition:   "transition",
		resilience.Retried:      "retried",
		resilience.Stopped:      "stopped",
		resilience.Rejected:     "rejected",
		resilience.TimedOut:     "timed out",
		resilience.FellBack:     "fell back",
		resilience.FellBack + 1: "unknown",
	} {
		if got := k.String(); got != want {
			t.Errorf("%d: %q, want %q", k, got, want)
		}
	}
}

func TestLogObserver(t *testing.T) {
	tests := []struct {
		name  string
		event resilience.Event
		want  string
	}{
		{"a breaker opens",
			resilience.Event{Kind: resilience.Transition, Policy: "breaker", Name: "users", From: "CLOSED", To: "OPEN", Reason: "silence", Failures: 7, Delay: time.Second, Err: errDown},
			`level=WARN msg="breaker transition" name=users from=CLOSED to=OPEN reason=silence failures=7 delay=1s error=down`},
		{"the breaker of a key opens by a rate",
			resilience.Event{Kind: resilience.Transition, Policy: "breaker", Name: "users", Key: "host:1", From: "CLOSED", To: "OPEN", Failures: 50, Calls: 90},
			`level=WARN msg="breaker transition" name=users key=host:1 from=CLOSED to=OPEN failures=50 calls=90`},
		{"a breaker that rejects nothing opens",
			resilience.Event{Kind: resilience.Transition, Policy: "breaker", Name: "users", From: "CLOSED", To: "OPEN", Mode: "MetricsOnly"},
			`level=INFO msg="breaker transition" name=users from=CLOSED to=OPEN mode=MetricsOnly`},
		{"a breaker closes",
			resilience.Event{Kind: resilience.Transition, Policy: "breaker", Name: "users", From: "HALF_OPEN", To: "CLOSED"},
			`level=INFO msg="breaker transition" name=users from=HALF_OPEN to=CLOSED`},
		{"an overload begins",
			resilience.Event{Kind: resilience.Transition, Policy: "limit", Name: "orders", From: "NORMAL", To: "OVERLOAD"},
			`level=WARN msg="limit transition" name=orders from=NORMAL to=OVERLOAD`},
		{"an overload ends",
			resilience.Event{Kind: resilience.Transition, Policy: "limit", Name: "orders", From: "OVERLOAD", To: "NORMAL"},
			`level=INFO msg="limit transition" name=orders from=OVERLOAD to=NORMAL`},
		{"retried",
			resilience.Event{Kind: resilience.Retried, Policy: "retry", Name: "users", Attempt: 2, Delay: time.Millisecond, Err: errDown},
			`level=DEBUG msg="retry retried" name=users attempt=2 delay=1ms error=down`},
		{"stopped",
			resilience.Event{Kind: resilience.Stopped, Policy: "retry", Name: "users", Attempt: 3, Reason: "attempts", Err: errDown},
			`level=INFO msg="retry stopped" name=users reason=attempts attempt=3 error=down`},
		{"rejected",
			resilience.Event{Kind: resilience.Rejected, Policy: "bulkhead", Reason: "full"},
			`level=INFO msg="bulkhead rejected" name="" reason=full`},
		{"timed out",
			resilience.Event{Kind: resilience.TimedOut, Policy: "timeout", Name: "users", Delay: time.Second},
			`level=INFO msg="timeout timed out" name=users delay=1s`},
		{"fell back",
			resilience.Event{Kind: resilience.FellBack, Policy: "fallback", Name: "users", Err: errDown},
			`level=INFO msg="fallback fell back" name=users error=down`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			resilience.LogObserver(slog.New(timeless(&b, slog.LevelDebug))).Observe(t.Context(), tt.event)
			if got := strings.TrimSpace(b.String()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func timeless(b *bytes.Buffer, level slog.Level) slog.Handler {
	return slog.NewTextHandler(b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestLogObserverAsksForTheLevel(t *testing.T) {
	var b bytes.Buffer
	o := resilience.LogObserver(slog.New(timeless(&b, slog.LevelInfo)))
	o.Observe(t.Context(), resilience.Event{Kind: resilience.Retried, Policy: "retry"})
	if b.Len() > 0 {
		t.Errorf("wrote %s", b.String())
	}
	if n := testing.AllocsPerRun(100, func() { o.Observe(context.Background(), resilience.Event{Kind: resilience.Retried, Policy: "retry"}) }); n > 0 {
		t.Errorf("%v allocations for nothing", n)
	}
}

func TestLogObserverHandsOnTheContext(t *testing.T) {
	type key struct{}
	h := &contextual{Handler: slog.DiscardHandler, key: key{}}
	resilience.LogObserver(slog.New(h)).Observe(context.WithValue(t.Context(), key{}, "trace"), resilience.Event{Kind: resilience.Stopped})
	if h.value != "trace" {
		t.Errorf("the handler sees %v", h.value)
	}
}

type contextual struct {
	slog.Handler
	key, value any
}

func (c *contextual) Enabled(context.Context, slog.Level) bool { return true }

func (c *contextual) Handle(ctx context.Context, _ slog.Record) error {
	c.value = ctx.Value(c.key)
	return nil
}

// The default is looked up at each event: main sets it after packages made theirs.
func TestLogObserverDefault(t *testing.T) {
	o := resilience.LogObserver(nil)
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(timeless(&b, slog.LevelInfo)))
	defer slog.SetDefault(old)
	o.Observe(t.Context(), resilience.Event{Kind: resilience.Stopped, Policy: "retry"})
	if !strings.Contains(b.String(), "retry stopped") {
		t.Errorf("wrote %q", b.String())
	}
}
