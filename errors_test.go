package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// judged is an error with an Outcome method.
type judged resilience.Outcome

func (j judged) Error() string               { return "judged" }
func (j judged) Outcome() resilience.Outcome { return resilience.Outcome(j) }

// OutcomeOf applies its rules in order: each rule wins over the rules after it
// (behaviours 6, 13 and 14).
func TestOutcomeOf(t *testing.T) {
	const (
		success = resilience.Success
		failure = resilience.Failure
		ignored = resilience.Ignored
	)
	background := context.Background()
	canceled, cancel := context.WithCancel(background)
	cancel()
	canceledWith, cancelCause := context.WithCancelCause(background)
	cancelCause(errDown)
	canceledFor, cancelCause := context.WithCancelCause(background)
	cancelCause(fmt.Errorf("another call: %w", context.DeadlineExceeded))
	ours, cancelCause := context.WithCancelCause(context.WithValue(background, endingKey{}, 1))
	cancelCause(ending{1})
	anothers, cancelCause := context.WithCancelCause(context.WithValue(background, endingKey{}, 1))
	cancelCause(ending{2})
	expired, free := context.WithTimeout(background, -1)
	defer free()
	expiredWith, free := context.WithTimeoutCause(background, -1, errDown)
	defer free()
	always := func(o resilience.Outcome) func(error) resilience.Outcome {
		return func(error) resilience.Outcome { return o }
	}
	rejection := &resilience.Rejection{Policy: "bulkhead", Reason: bulkhead.Full}

	tests := []struct {
		name     string
		ctx      context.Context
		err      error
		classify func(error) resilience.Outcome
		want     resilience.Outcome
	}{
		{"1 nil", background, nil, always(failure), success},
		{"1 nil under an expired context", expired, nil, nil, success},
		{"1 aborted", background, resilience.ErrAborted, always(success), failure},
		{"1 aborted under a canceled context", canceled, resilience.ErrAborted, nil, failure},
		{"2 a success", background, judged(success), always(failure), success},
		{"2 ignored", background, judged(ignored), nil, ignored},
		{"2 an unknown outcome", background, judged(99), nil, ignored},
		{"2 wrapped", background, fmt.Errorf("outer: %w", judged(success)), nil, success},
		{"2 expired, an answer", expired, judged(success), always(failure), success},
		{"2 canceled, an answer", canceled, judged(success), nil, success},
		{"2 expired, ignored", expired, judged(ignored), nil, ignored},
		{"2 Answer", background, resilience.Answer(errDown), nil, success},
		{"2 Answer around a failure", background, resilience.Answer(judged(failure)), nil, success},
		{"2 Ignore", background, resilience.Ignore(errDown), nil, ignored},
		{"2 rejected", background, rejection, always(failure), ignored},
		{"2 rejected, wrapped", background, fmt.Errorf("inner: %w", rejection), nil, ignored},
		{"2 rejected, in the queue until the deadline", expired, rejection, nil, ignored},
		{"2 rejections, joined", background, errors.Join(rejection, resilience.ErrRejected), nil, ignored},
		{"2 joined with a failure of no opinion", background, errors.Join(errDown, judged(success)), nil, success},
		{"2 joined, a success and ignored", background, errors.Join(judged(ignored), judged(success)), nil, success},
		{"3 expired", expired, errDown, always(success), failure},
		{"3 expired, whatever the cause", expiredWith, errDown, always(success), failure},
		{"3 canceled by a timeout of this call", ours, errDown, always(success), failure},
		{"4 canceled", canceled, errDown, always(failure), ignored},
		{"4 canceled with a cause", canceledWith, judged(failure), nil, ignored},
		{"4 canceled for another call's deadline", canceledFor, errDown, nil, ignored},
		{"4 canceled for another call's timeout", anothers, errDown, nil, ignored},
		{"5 a failure", background, judged(failure), always(success), failure},
		{"5 joined with a rejection", background, errors.Join(judged(failure), rejection), nil, failure},
		{"5 joined with a success", background, errors.Join(judged(success), judged(failure)), nil, failure},
		{"6 classified", background, errDown, always(success), success},
		{"6 classified as unknown", background, errDown, always(99), ignored},
		{"6 classified by what it wraps", background, fmt.Errorf("outer: %w", io.EOF), eofIsFine, success},
		{"6 classified by what it joins", background, errors.Join(errDown, io.EOF), eofIsFine, success},
		{"7 any other", background, errDown, nil, failure},
		{"7 joined with a rejection", background, errors.Join(errDown, rejection), nil, failure},
		{"7 a list with a rejection", background, errorList{rejection, errDown}, nil, failure},
		{"7 a rejection inside a joined error", background, fmt.Errorf("%w, then %w", errDown, fmt.Errorf("b: %w", rejection)), nil, failure},
		{"7 a foreign cancellation", background, context.Canceled, nil, failure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := resilience.OutcomeOf(tt.ctx, tt.err, tt.classify); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

type endingKey struct{}

// ending is the cause of a context that ended by a timeout: of the context with that value.
type ending struct{ id int }

func (ending) Error() string                    { return "timeout" }
func (e ending) Ended(ctx context.Context) bool { return ctx.Value(endingKey{}) == e.id }

// Rejected is true only for an error that is nothing but a rejection, unlike errors.Is.
func TestRejected_wrappedOrJoined(t *testing.T) {
	rejection := &resilience.Rejection{Policy: "breaker", Reason: resilience.Open}
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"another error", errDown, false},
		{"a Rejection", rejection, true},
		{"wrapped", fmt.Errorf("call: %w", rejection), true},
		{"ErrRejected", fmt.Errorf("quota: %w", resilience.ErrRejected), true},
		{"rejections", errors.Join(rejection, fmt.Errorf("b: %w", rejection)), true},
		{"joined with a failure", errors.Join(errDown, rejection), false},
		{"wrapped and joined", fmt.Errorf("a: %w", fmt.Errorf("%w: %w", rejection, errDown)), false},
		{"nothing joined", joinedNothing{}, false},
		{"a list with a failure", errorList{rejection, errDown}, false},
		{"a list with a failure before it", errorList{errDown, rejection}, false},
		{"a list of rejections", fmt.Errorf("a: %w", errorList{rejection, rejection}), true},
		{"of Ignore", resilience.Ignore(rejection), true},
	} {
		if got := resilience.Rejected(tt.err); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// errorList is an error as go-multierror makes it: Is looks at the first one, Unwrap returns the
// others.
type errorList []error

func (l errorList) Error() string        { return l[0].Error() }
func (l errorList) Is(target error) bool { return errors.Is(l[0], target) }
func (l errorList) Unwrap() error {
	if len(l) == 1 {
		return nil
	}
	return l[1:]
}

type joinedNothing struct{}

func (joinedNothing) Error() string   { return "nothing" }
func (joinedNothing) Unwrap() []error { return nil }

// Answer and Ignore keep what errors.Is, errors.As and net.Error's Timeout find, are not
// retried, and leave nil alone.
func TestAnswer_keepsError(t *testing.T) {
	for name, wrap := range map[string]func(error) error{"Answer": resilience.Answer, "Ignore": resilience.Ignore} {
		if err := wrap(nil); err != nil {
			t.Errorf("%s of nil: %v", name, err)
		}
		err := wrap(fmt.Errorf("call: %w", os.ErrDeadlineExceeded))
		if !errors.Is(err, os.ErrDeadlineExceeded) || err.Error() != "call: i/o timeout" {
			t.Errorf("%s: %v", name, err)
		}
		var e interface{ Timeout() bool }
		if !errors.As(err, &e) || !e.Timeout() {
			t.Errorf("%s hides a timeout", name)
		}
		if e, ok := wrap(errDown).(interface {
			Timeout() bool
			Retryable() bool
		}); !ok || e.Timeout() || e.Retryable() {
			t.Errorf("%s: a timeout or retryable", name)
		}
	}
}

func eofIsFine(err error) resilience.Outcome {
	if errors.Is(err, io.EOF) {
		return resilience.Success
	}
	return resilience.Failure
}

// String returns the name of the outcome.
func TestOutcomeString(t *testing.T) {
	for o, want := range map[resilience.Outcome]string{
		resilience.Success: "success", resilience.Failure: "failure", resilience.Ignored: "ignored",
	} {
		if got := o.String(); got != want {
			t.Errorf("%d: %q, want %q", o, got, want)
		}
	}
}

// ContextError matches both the end of the context and its cause, and is nil before the
// end.
func TestContextError(t *testing.T) {
	background := context.Background()
	canceled, cancel := context.WithCancel(background)
	cancel()
	canceledWith, cancelCause := context.WithCancelCause(background)
	cancelCause(errDown)
	expired, free := context.WithTimeout(background, -1)
	defer free()
	expiredWith, free := context.WithTimeoutCause(background, -1, errDown)
	defer free()
	wrapping, free := context.WithTimeoutCause(background, -1, fmt.Errorf("total: %w", context.DeadlineExceeded))
	defer free()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		text string
	}{
		{"canceled", canceled, "context canceled"},
		{"canceled with a cause", canceledWith, "context canceled: down"},
		{"expired", expired, "context deadline exceeded"},
		{"expired with a cause", expiredWith, "context deadline exceeded: down"},
		{"a cause that says it all", wrapping, "total: context deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := resilience.ContextError(tt.ctx)
			if !errors.Is(err, tt.ctx.Err()) || !errors.Is(err, context.Cause(tt.ctx)) {
				t.Errorf("%v matches not both the end and its cause", err)
			}
			if err.Error() != tt.text {
				t.Errorf("got %q, want %q", err, tt.text)
			}
		})
	}
	if err := resilience.ContextError(background); err != nil {
		t.Errorf("not done: %v", err)
	}
}

// The error itself has a Timeout method, because url.Error does not look at the chain.
func TestContextError_timeout(t *testing.T) {
	ctx, free := context.WithTimeoutCause(t.Context(), -1, errDown)
	defer free()
	if e, ok := resilience.ContextError(ctx).(interface{ Timeout() bool }); !ok || !e.Timeout() {
		t.Error("an expired context is no timeout")
	}
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(errDown)
	if e, ok := resilience.ContextError(canceled).(interface{ Timeout() bool }); ok && e.Timeout() {
		t.Error("a canceled context is a timeout")
	}
	limited, cancelLimited := context.WithCancelCause(context.WithValue(t.Context(), endingKey{}, 1))
	cancelLimited(ending{1})
	if e, ok := resilience.ContextError(limited).(interface{ Timeout() bool }); !ok || !e.Timeout() {
		t.Error("a context that a timeout of the call canceled is no timeout")
	}
	grouped, cancelGrouped := context.WithCancelCause(t.Context())
	cancelGrouped(fmt.Errorf("another call: %w", context.DeadlineExceeded))
	if e, ok := resilience.ContextError(grouped).(interface{ Timeout() bool }); ok && e.Timeout() {
		t.Error("a context canceled for another call's deadline is a timeout")
	}
}

// A rejection matches ErrRejected and its policy's error, but neither its cause nor
// another reason.
func TestRejection_is(t *testing.T) {
	open := &resilience.Rejection{Policy: "breaker", Name: "users", Reason: resilience.Open, Cause: errDown}
	for _, tt := range []struct {
		name   string
		target error
		want   bool
	}{
		{"ErrRejected", resilience.ErrRejected, true},
		{"itself", open, true},
		{"the kind", &resilience.Rejection{Policy: "breaker", Reason: resilience.Open}, true},
		{"another policy", &resilience.Rejection{Policy: "bulkhead", Reason: resilience.Open}, false},
		{"another reason", &resilience.Rejection{Policy: "breaker", Reason: bulkhead.Full}, false},
		{"another with its name", &resilience.Rejection{Policy: "breaker", Name: "users", Reason: resilience.Open}, false},
		{"the cause, which is of another call", errDown, false},
		{"an error that cannot be compared", uncomparable{{}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errors.Is(fmt.Errorf("call: %w", open), tt.target); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

type uncomparable []struct{}

func (uncomparable) Error() string { return "uncomparable" }

// The text of a Rejection has the policy, the reason, the wait and the last error.
func TestRejection_error(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that no time passes
		for want, r := range map[string]*resilience.Rejection{
			"bulkhead: rejected: full":                      {Policy: "bulkhead", Reason: bulkhead.Full},
			`limit "a\"b": rejected: limited`:               {Policy: "limit", Name: `a"b`, Reason: resilience.Limited},
			`breaker "x": rejected: open: last error: down`: {Policy: "breaker", Name: "x", Reason: resilience.Open, Cause: errDown},
			`breaker: rejected: open, retry in 46ms`:        {Policy: "breaker", Reason: resilience.Open, RetryAt: time.Now().Add(45_678_901)},
			`breaker: rejected: open, retry in 1m16s`:       {Policy: "breaker", Reason: resilience.Open, RetryAt: time.Now().Add(75_678 * time.Millisecond)},
			`breaker: rejected: open, retry now`:            {Policy: "breaker", Reason: resilience.Open, RetryAt: time.Now()},
			`breaker "x" for "host:1": rejected: open, retry in 4.5s: 7 failures in a row, last error: down`: {
				Policy: "breaker", Name: "x", Key: "host:1", Reason: resilience.Open, Detail: "7 failures in a row", Cause: errDown,
				RetryAt: time.Now().Add(4_512_345_678)},
		} {
			if got := r.Error(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// The text of a cause is valid UTF-8 and at most 200 bytes long.
func TestRejection_errorBoundsCause(t *testing.T) {
	for name, cause := range map[string]string{
		"long":               strings.Repeat("x", 10_000),
		"cut inside a rune":  strings.Repeat("€", 1000), // 3 bytes each, 200 is no multiple
		"invalid and long":   strings.Repeat("\xff", 10_000),
		"longer than read":   strings.Repeat("\x00", 10_000),
		"invalid and short":  "a\xffb",
		"as long as allowed": strings.Repeat("x", 200),
	} {
		t.Run(name, func(t *testing.T) {
			r := &resilience.Rejection{Policy: "breaker", Reason: resilience.Open, Cause: errors.New(cause)}
			got := r.Error()
			if len(got) > 300 {
				t.Errorf("%d bytes", len(got))
			}
			if !utf8.ValidString(got) {
				t.Errorf("not UTF-8: %q", got)
			}
			if cut := strings.HasSuffix(got, "…"); cut != (len(cause) > 200) {
				t.Errorf("says that it was cut: %v", cut)
			}
		})
	}
}

// The text of a cause contains no password and no query of a URL.
func TestRejection_causeWithoutSecrets(t *testing.T) {
	for cause, want := range map[string]string{
		`Get "https://ann:hunter2@a.example/b?token=abc#d": EOF`:    `Get "https://a.example/b?…": EOF`,
		"dial redis://:hunter2@10.0.0.1:6379/0: refused":            "dial redis://10.0.0.1:6379/0: refused",
		"postgres://u:p@ss@db/x?sslmode=off and https://b.example/": "postgres://db/x?… and https://b.example/",
		// Passwords that should have been escaped, as in some configurations.
		"dial postgres://u:hun/ter2@db/x: refused":                                 "dial postgres://db/x: refused",
		"dial postgres://u:hun?ter2@db/x: refused":                                 "dial postgres://db/x: refused",
		"dial postgres://u:7#ter2@db/x: refused":                                   "dial postgres://u:7?… refused", // could be a port
		"dial postgres://u:7x#ter2@db/x: refused":                                  "dial postgres://db/x: refused",
		`parse "http://u:hun/ter2@a.example/": invalid port ":hun" after host`:     `parse "http://a.example/": invalid port "…" after host`,
		`parse "http://u:hun ter2@a.example/": net/url: invalid userinfo`:          `parse "http://a.example/": net/url: invalid userinfo`,
		`parse "http://u:h\"u@a.example/\x7f": net/url: invalid control character`: `parse "http://a.example/\x7f": net/url: invalid control character`,
		// A quoted text of Go may have spaces and quotes in a query.
		`Get "https://a.example/?q=a b": EOF, and "c d"`: `Get "https://a.example/?…": EOF, and "c d"`,
		`Get "https://a.example/?q=\"hunter2\"<x>": EOF`: `Get "https://a.example/?…": EOF`,
		// URLs without a scheme, and in JSON.
		"dial //ann:hunter2@a.example/b?c: refused":       "dial //a.example/b?… refused",
		`{"url":"http:\/\/ann:hunter2@a.example\/b?c=d"}`: `{"url":"http:\/\/a.example\/b?…"}`,
		// Text that is not a password stays.
		"https://a.example:8080/@ann":                       "https://a.example:8080/@ann",
		"https://[::1]:8080/@ann: refused":                  "https://[::1]:8080/@ann: refused",
		"https://a.example/x:y@z":                           "https://a.example/x:y@z",
		"https://a.example: mail ann@a.example":             "https://a.example: mail ann@a.example",
		`{"at":"http://a.example:80","by":"ann@a.example"}`: `{"at":"http://a.example:80","by":"ann@a.example"}`,
		"a//b, c: d@e":                                      "a//b, c: d@e",
		"https://medium.example/@ann":                       "https://medium.example/@ann",
		"mail ann@a.example, why?":                          "mail ann@a.example, why?",
		"two\nlines\x1b[31m red":                            "two lines [31m red",
		"\u202eright to left\u2028and\u2029below":           " right to left and below",
	} {
		r := &resilience.Rejection{Cause: errors.New(cause)}
		if got := r.CauseText(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if !strings.HasSuffix(r.Error(), want) {
			t.Errorf("Error says %q", r.Error())
		}
	}
	// The password ends after the part that is shown.
	r := &resilience.Rejection{Cause: errors.New("https://ann:" + strings.Repeat("s", 300) + "@a.example/")}
	if got := r.CauseText(); got != "https://a.example/" {
		t.Errorf("got %q", got)
	}
	// The part that is read ends inside the password, so the text leaves out the URL before it.
	long := "https://b.example/?" + strings.Repeat("q", 1<<10-60)
	for range 60 {
		long += "q"
		r = &resilience.Rejection{Cause: errors.New(long + " https://ann:hunter2@a.example/")}
		if got := r.CauseText(); strings.Contains(got, "ann") {
			t.Errorf("got %q", got)
		}
		r = &resilience.Rejection{Cause: errors.New(long + " https://ann:hun/ter2@a.example/")}
		if got := r.CauseText(); strings.Contains(got, "hun") {
			t.Errorf("got %q", got)
		}
	}
	if got := (&resilience.Rejection{}).CauseText(); got != "" {
		t.Errorf("without a cause: %q", got)
	}
}

type panicking struct{}

func (*panicking) Error() string { panic("no text") }

// counted is an error that counts the calls of its Error method.
type counted struct {
	text  string
	calls int
}

func (c *counted) Error() string { c.calls++; return c.text }

// After KeepCauseText, a rejection and its copies do not call Cause.Error again.
func TestRejection_KeepCauseText(t *testing.T) {
	cause := &counted{text: "Get https://ann@a.example/?q: down"}
	r := &resilience.Rejection{Policy: "breaker", Cause: cause}
	want := r.Error()
	r.KeepCauseText()
	before, again := cause.calls, *r
	if got := r.Error(); got != want || !strings.HasSuffix(want, "https://a.example/?… down") {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := again.CauseText(); got != r.CauseText() || again.Error() != want {
		t.Errorf("a copy has %q", got)
	}
	if cause.calls != before {
		t.Errorf("Error was called %d times more", cause.calls-before)
	}
	r.Cause = nil
	if got := r.CauseText(); got != "" {
		t.Errorf("without a cause: %q", got)
	}
	r.Cause = errDown
	if r.KeepCauseText(); r.CauseText() != "down" {
		t.Errorf("with another cause: %q", r.CauseText())
	}
}

// After KeepCauseText, the text of a rejection costs no more if the cause is hostile.
func TestRejection_hostileCauseAllocs(t *testing.T) {
	allocs := func(text string) float64 {
		r := &resilience.Rejection{Policy: "breaker", Cause: errors.New(text)}
		r.KeepCauseText()
		return testing.AllocsPerRun(100, func() { _ = r.Error() })
	}
	short := allocs(strings.Repeat("x", 200))
	for name, text := range hostile {
		if got := allocs(text); got > short {
			t.Errorf("%s: %v allocations, for a short text %v", name, got, short)
		}
	}
}

// The text of a cause whose Error method panics is its type.
func TestRejection_causePanics(t *testing.T) {
	r := &resilience.Rejection{Policy: "breaker", Cause: &panicking{}}
	if got := r.Error(); !strings.Contains(got, "*resilience_test.panicking, whose Error method panics") {
		t.Errorf("got %q", got)
	}
}
