package resilience_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
)

// LogObserver writes the kind as the message, at the level of the event, with the
// fields that are set.
func TestLogObserver_writesFields(t *testing.T) {
	tests := []struct {
		name  string
		event resilience.Event
		want  string
	}{
		{"a change of state",
			resilience.Event{Kind: "breaker opened", Level: slog.LevelWarn, Policy: "breaker", Name: "users", Key: "host:1", From: "CLOSED", To: "OPEN", Mode: "MetricsOnly", Reason: "silence", Failures: 7, Calls: 9, Delay: 45_678_901, Err: errDown},
			`level=WARN msg="breaker opened" name=users key=host:1 from=CLOSED to=OPEN mode=MetricsOnly reason=silence failures=7 calls=9 delay=46ms error=down`},
		{"an attempt",
			resilience.Event{Kind: "retrying", Level: slog.LevelDebug, Policy: "retry", Name: "users", Attempt: 2, Delay: time.Millisecond, Err: errDown},
			`level=DEBUG msg=retrying name=users attempt=2 delay=1ms error=down`},
		{"no kind and no name",
			resilience.Event{Policy: "bulkhead", Reason: "full"},
			`level=INFO msg=bulkhead name="" reason=full`},
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

// LogObserver writes one bounded line for an event, whatever its texts are. URLs in it have
// no secrets.
func TestLogObserver_hostileTexts(t *testing.T) {
	texts := map[string]string{
		"long":    strings.Repeat("x", 1<<20),
		"secrets": "https://ann:hunter2@a.example/?token=hunter2 ",
		"lines":   "a\nb\u2028c\x1b[31m\u202e",
	}
	for name, s := range hostile {
		texts[name] = s
	}
	for name, s := range texts {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			resilience.LogObserver(slog.New(slog.NewJSONHandler(&b, nil))).Observe(t.Context(), resilience.Event{
				Kind: s, Policy: s, Name: s, Key: s, From: s, To: s, Mode: s, Reason: s, Err: errors.New(s),
			})
			var line map[string]any
			if err := json.Unmarshal(b.Bytes(), &line); err != nil || len(line) != 10 {
				t.Fatalf("%v: %s", err, b.String())
			}
			for key, value := range line {
				if text := value.(string); len(text) > 200 || strings.Contains(text, "hunter2") || strings.ContainsAny(text, "\n\u2028\x1b\u202e") {
					t.Errorf("%s has %d bytes: %.300q", key, len(text), text)
				}
			}
		})
	}
}

// An event is written even if the Error method panics, also for a nil pointer.
func TestLogObserver_errorPanics(t *testing.T) {
	for name, err := range map[string]error{"panic": &panicking{}, "nil pointer": (*counted)(nil)} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			resilience.LogObserver(slog.New(timeless(&b, slog.LevelInfo))).Observe(t.Context(), resilience.Event{Kind: "breaker opened", Err: err})
			if got := b.String(); !strings.Contains(got, `msg="breaker opened"`) || !strings.Contains(got, "whose Error method panics") {
				t.Errorf("wrote %q", got)
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

// An event below the level of the logger writes and allocates nothing.
func TestLogObserver_checksLevelFirst(t *testing.T) {
	var b bytes.Buffer
	o := resilience.LogObserver(slog.New(timeless(&b, slog.LevelInfo)))
	o.Observe(t.Context(), resilience.Event{Kind: "retrying", Level: slog.LevelDebug, Policy: "retry"})
	if b.Len() > 0 {
		t.Errorf("wrote %s", b.String())
	}
	if n := testing.AllocsPerRun(100, func() {
		o.Observe(context.Background(), resilience.Event{Kind: "retrying", Level: slog.LevelDebug, Policy: "retry"})
	}); n > 0 {
		t.Errorf("%v allocations for nothing", n)
	}
}

// The handler gets the context of the call.
func TestLogObserver_passesContext(t *testing.T) {
	type key struct{}
	h := &contextual{Handler: slog.DiscardHandler, key: key{}}
	resilience.LogObserver(slog.New(h)).Observe(context.WithValue(t.Context(), key{}, "trace"), resilience.Event{Kind: "gave up retrying"})
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

// slog.Default is looked up at each event, because main may set it later.
func TestLogObserver_nilLoggerIsDefault(t *testing.T) {
	o := resilience.LogObserver(nil)
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(timeless(&b, slog.LevelInfo)))
	defer slog.SetDefault(old)
	o.Observe(t.Context(), resilience.Event{Kind: "gave up retrying", Policy: "retry"})
	if !strings.Contains(b.String(), "gave up retrying") {
		t.Errorf("wrote %q", b.String())
	}
}
