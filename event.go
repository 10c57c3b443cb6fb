package resilience

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// Observer is called with the events of policies: a breaker opens, a call is retried,
// an attempt times out. No event is made on the success path.
//
// Observe runs on the goroutine of a call, so it should return quickly. It may use the
// policy that it observes. A panic in it is recovered and dropped, so that an observer
// cannot break a call. Observe must be safe for concurrent use. The changes of state of
// one breaker or limit arrive one at a time, in order, each exactly once.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// ObserverFunc is a function that is an Observer.
type ObserverFunc func(ctx context.Context, e Event)

// Observe calls f.
func (f ObserverFunc) Observe(ctx context.Context, e Event) { f(ctx, e) }

// Event describes one thing that a policy did. Fields that do not apply are zero. An
// event with From and To is a change of state; no other event has them.
type Event struct {
	// Kind says what happened, in words that LogObserver uses as the message, such as
	// "breaker opened" or "retrying". Its values are the constants Event... of the
	// policy's package.
	Kind   string
	Level  slog.Level // how urgent the event is; the zero value is slog.LevelInfo
	Time   time.Time  // the wall time of the event, by the clock of the policy
	Policy string     // kind of the policy: "breaker", "retry"
	Name   string     // name of the policy, as configured
	// Key is the key of the policy in a keyed.Group, such as a host or a method. A
	// timeout and a fallback, which have no state, report the key of the operation.
	Key string
	// Endpoint is the address of the replica that an event is about.
	Endpoint string

	// From and To are states: of a breaker "CLOSED", "OPEN" and "HALF_OPEN", of a
	// limit "NORMAL" and "OVERLOAD", of an endpoint "IN", "EJECTED" and "RETURNING".
	From, To string
	// Mode is the mode of a breaker, "" for Auto.
	Mode string
	// Reason is the cause of a change of state, or why a retry gave up or a bulkhead
	// rejected.
	Reason string
	// Failures and Calls are the counts of the rule that changed the state: Failures of
	// Calls failed, or were slow. Calls is 0 if the rule counts failures in a row.
	Failures, Calls int

	Attempt int           // number of an attempt, the first being 1
	Delay   time.Duration // how long a breaker stays open, a retry waits, or an operation had
	Err     error         // the last error that took part, nil if there is none
}

// LogObserver returns an Observer that writes events to l, slog.Default() if l is nil.
// The message is Event.Kind and the level is Event.Level: a warning for a breaker that
// opens and an overload that begins, debug for a retry, information for the rest. A call
// that an open breaker or a limit rejects is not an event; their counters have it.
//
// The message and each attribute are one line of at most 200 bytes, made of the first 1024
// bytes, without the user, password, query and fragment of URLs. The attribute of the error
// is its text.
func LogObserver(l *slog.Logger) Observer {
	return ObserverFunc(func(ctx context.Context, e Event) {
		log := l
		if log == nil {
			log = slog.Default()
		}
		if log.Enabled(ctx, e.Level) {
			logEvent(ctx, log, e)
		}
	})
}

func logEvent(ctx context.Context, l *slog.Logger, e Event) {
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("name", redact(e.Name)))
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, redact(value)))
		}
	}
	number := func(key string, value int) {
		if value > 0 {
			attrs = append(attrs, slog.Int(key, value))
		}
	}
	text("key", e.Key)
	text("endpoint", e.Endpoint)
	text("from", e.From)
	text("to", e.To)
	text("mode", e.Mode)
	text("reason", e.Reason)
	number("failures", e.Failures)
	number("calls", e.Calls)
	number("attempt", e.Attempt)
	if e.Delay > 0 {
		attrs = append(attrs, slog.Duration("delay", round(e.Delay)))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", redact(errorText(e.Err))))
	}
	l.LogAttrs(ctx, e.Level, redact(cmp.Or(e.Kind, e.Policy)), attrs...)
}
