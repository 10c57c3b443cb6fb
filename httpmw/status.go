package httpmw

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/adapter"
)

// StatusOutcome returns the default outcome of a status code: whether the server works. A
// code of 5xx is a Failure, except 501 Not Implemented and 505 HTTP Version Not Supported:
// a healthy server answers so to a request that it does not support. All other codes,
// including 4xx, are a Success (RFC 9110, section 15).
func StatusOutcome(code int) resilience.Outcome {
	if code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported {
		return resilience.Failure
	}
	return resilience.Success
}

// StatusError is the error for the policies of a response that is a failure or that may be
// retried. It is small and keeps neither response nor request.
//
// A caller of Transport gets it only inside a policy's error, if there is no response to
// return.
type StatusError struct {
	StatusCode int

	outcome    resilience.Outcome
	retryable  bool
	retryAfter time.Duration
}

func newStatusError(code int, h http.Header, o resilience.Outcome, retryable bool) *StatusError {
	return &StatusError{code, o, retryable, retryAfter(h, time.Now())}
}

// Error returns the status code and its text.
func (e *StatusError) Error() string {
	return strings.TrimSpace("http: status " + strconv.Itoa(e.StatusCode) + " " + http.StatusText(e.StatusCode))
}

// Outcome returns what Transport.Classify or Server.Classify returned for the response.
func (e *StatusError) Outcome() resilience.Outcome { return e.outcome }

// Retryable returns what Transport.Retryable returned for the response. It is false for a
// handler's response: a handler cannot run twice.
func (e *StatusError) Retryable() bool { return e.retryable }

// RetryAfter returns the delay in the response's Retry-After header, at most a year, 0
// without such a header (RFC 9110, section 10.2.3).
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

// retryAfter returns the delay in the Retry-After header of a response that arrived at now,
// 0 without a valid one. A date is compared with the response's Date header, if there is
// one: the server's clock may differ from ours.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.Trim(h.Get("Retry-After"), " \t")
	if v == "" {
		return 0
	}
	if isDigits(v) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			n = math.MaxInt64 // v has digits only, so the error is an overflow
		}
		return time.Duration(min(n, int64(adapter.MaxRetryAfter/time.Second))) * time.Second
	}
	at, ok := parseDate(v, now)
	if !ok {
		return 0
	}
	if sent, ok := parseDate(h.Get("Date"), now); ok {
		now = sent
	}
	return max(0, min(at.Sub(now), adapter.MaxRetryAfter))
}

// parseDate parses the three forms of a date (RFC 9110, section 5.6.7).
func parseDate(v string, now time.Time) (time.Time, bool) {
	for _, layout := range [...]string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		t, err := time.Parse(layout, v)
		if err != nil {
			continue
		}
		if strings.Contains(layout, "-06 ") {
			// Two digits mean the latest year that is at most 50 years ahead. Package
			// time uses a fixed boundary.
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
