package resilience

import (
	"context"
	"log/slog"
	"time"
)

// Observer hears what policies do that is worth telling: that a breaker changed
// its state, that a limit found its service overloaded, that an operation is tried
// again, refused, cut off or replaced.
// Nothing is observed on the success path.
//
// Observe runs on the goroutine of a call, so it should be quick. It may use the
// policy that it observes. A panic in it is recovered and dropped: watching a
// call must not break it. It must be safe for concurrent use; the transitions of
// one breaker or limit come one at a time, in order, each exactly once.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// Kind is what an Event tells.
type Kind uint8

const (
	// Transition: a breaker or a limit went From one state To another.
	Transition Kind = iota + 1
	// Retried: attempt number Attempt starts after Delay, because the one before
	// it ended with Err.
	Retried
	// Stopped: a retry gave up after Attempt attempts, for Reason.
	Stopped
	// Rejected: a bulkhead refused an operation, for Reason.
	Rejected
	// TimedOut: an operation was cut off after Delay.
	TimedOut
	// FellBack: a fallback answered in place of an operation that ended with
	// Err.
	FellBack
)

var kinds = [...]string{"unknown", "transition", "retried", "stopped", "rejected", "timed out", "fell back"}

// String returns the kind in lower case, as LogObserver prints it.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return kinds[0]
}

// Event is something that a policy did. Fields that a Kind does not mention are
// zero.
type Event struct {
	Kind   Kind
	Time   time.Time // by the clock of the policy
	Policy string    // kind of the policy: "breaker", "retry"
	Name   string    // name of the policy, as configured
	// Key is what the policy is for in a keyed.Group, such as a host or a method;
	// of a timeout and a fallback, which have no state, that of the operation.
	Key string

	// From and To are states, in a Transition: of a breaker "CLOSED", "OPEN" and
	// "HALF_OPEN", of a limit "NORMAL" and "OVERLOAD".
	From, To string
	Mode     string // of a breaker that is not in Auto: with "MetricsOnly" it rejects nothing
	// Reason is the rule that caused a Transition, or why a retry Stopped or a
	// bulkhead Rejected.
	Reason string
	// Failures and Calls are what the rule of a Transition counted: so many of so
	// many calls failed, or were slow. Calls is 0 if it counts failures in a row.
	Failures, Calls int

	Attempt int           // number of an attempt, the first being 1
	Delay   time.Duration // how long a breaker stays open, a retry waits, a limit lasted
	Err     error         // the last error that had a part in it, nil if none had
}

// LogObserver returns an Observer that writes events to l, slog.Default if l is
// nil. A breaker that opens is a warning, unless it only counts, and so is an
// overload that begins; other transitions, and calls that a bulkhead refused, that
// were cut off, given up or replaced are information; retries are debug output. What
// an open breaker or a limit refuses is no event: their Stats count that.
func LogObserver(l *slog.Logger) Observer { return &logObserver{l} }

type logObserver struct{ l *slog.Logger }

func (o *logObserver) Observe(ctx context.Context, e Event) {
	l := o.l
	if l == nil {
		l = slog.Default()
	}
	level := slog.LevelInfo
	switch {
	case e.Kind == Transition && (e.To == "OPEN" && e.Mode != "MetricsOnly" || e.To == "OVERLOAD"):
		level = slog.LevelWarn
	case e.Kind == Retried:
		level = slog.LevelDebug
	}
	if !l.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("name", e.Name))
	if e.Key != "" {
		attrs = append(attrs, slog.String("key", e.Key))
	}
	if e.From != "" {
		attrs = append(attrs, slog.String("from", e.From), slog.String("to", e.To))
	}
	if e.Mode != "" {
		attrs = append(attrs, slog.String("mode", e.Mode))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	if e.Failures > 0 {
		attrs = append(attrs, slog.Int("failures", e.Failures))
	}
	if e.Calls > 0 {
		attrs = append(attrs, slog.Int("calls", e.Calls))
	}
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Delay > 0 {
		attrs = append(attrs, slog.Duration("delay", e.Delay))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	l.LogAttrs(ctx, level, e.Policy+" "+e.Kind.String(), attrs...)
}
