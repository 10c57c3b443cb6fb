package httpmw

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
)

// StatusOutcome is what a status code says about the health of a server by
// default: 5xx is a Failure, but for 501 Not Implemented and 505 HTTP Version Not
// Supported, which a healthy server says to a request it does not know. All
// others, 4xx among them, are a Success: the server works (RFC 9110, section 15).
func StatusOutcome(code int) resilience.Outcome {
	if code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported {
		return resilience.Failure
	}
	return resilience.Success
}

// StatusError is what policies see of a response, of a client or of a handler,
// that is not a plain success: one that is a failure, or that may be tried again.
// It is a small value that holds neither the response nor the request.
//
// A client of Transport meets it only inside the error of a policy, if the
// response itself is gone.
type StatusError struct {
	StatusCode int

	outcome    resilience.Outcome
	retryable  bool
	retryAfter time.Duration
}

func newStatusError(code int, h http.Header, o resilience.Outcome, retryable bool) *StatusError {
	return &StatusError{code, o, retryable, retryAfter(h, time.Now())}
}

// Error returns the status code and what it stands for.
func (e *StatusError) Error() string {
	return strings.TrimSpace("http: status " + strconv.Itoa(e.StatusCode) + " " + http.StatusText(e.StatusCode))
}

// Outcome is what Transport.Status or Server.Status made of the response.
func (e *StatusError) Outcome() resilience.Outcome { return e.outcome }

// Retryable is what Transport.Retryable made of the response, and false for that
// of a handler, which cannot run twice.
func (e *StatusError) Retryable() bool { return e.retryable }

// RetryAfter is how long the response asks to wait in its Retry-After header,
// never more than a year, 0 if it does not ask (RFC 9110, section 10.2.3).
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

// maxRetryAfter keeps sums of times and durations far from overflow.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter returns the delay in the Retry-After header of a response that
// arrived at now, 0 if it has none that is valid. A date is taken as seen from
// the clock of the server, if it sent a Date: the clocks may differ.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.Trim(h.Get("Retry-After"), " \t")
	if v == "" {
		return 0
	}
	if isDigits(v) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			n = math.MaxInt64 // digits only, so too many of them
		}
		return time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
	}
	at, ok := parseDate(v, now)
	if !ok {
		return 0
	}
	if sent, ok := parseDate(h.Get("Date"), now); ok {
		now = sent
	}
	return max(0, min(at.Sub(now), maxRetryAfter))
}

// parseDate parses the three forms of a date (RFC 9110, section 5.6.7).
func parseDate(v string, now time.Time) (time.Time, bool) {
	for _, layout := range [...]string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		t, err := time.Parse(layout, v)
		if err != nil {
			continue
		}
		if strings.Contains(layout, "-06 ") {
			// Two digits stand for the latest year that is not more than 50
			// years ahead; package time has a fixed line.
			century := now.Year() + 50 - t.Year()
			t = t.AddDate(century-((century%100)+100)%100, 0, 0)
		}
		return t, true
	}
	return time.Time{}, false
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
