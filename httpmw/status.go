package httpmw

import (
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

// Busy reports whether the server works, but not for this request: it sheds load, as with
// 429, or asks for another try. Such an answer earns no retry budget.
func (e *StatusError) Busy() bool {
	return e.outcome == resilience.Success && retriedStatus(e.StatusCode)
}

// RetryAfter returns the delay in the response's Retry-After header, at most a year, 0
// without such a header (RFC 9110, section 10.2.3). Fractions of a second, numeric time
// zones and dates of RFC 3339 are accepted too.
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

// retryAfterLines is how many lines of Retry-After are read. A server sends one, and a
// proxy may add another.
const retryAfterLines = 8

// maxRetryAfterParts is how many parts of a line are read, separated by commas. A date has
// at most two.
const maxRetryAfterParts = 8

// retryAfter returns the delay in the Retry-After header of a response that arrived at now,
// 0 without a valid one. Of several lines, the longest delay counts.
func retryAfter(h http.Header, now time.Time) (longest time.Duration) {
	lines := h["Retry-After"]
	for _, line := range lines[:min(len(lines), retryAfterLines)] {
		before := ""
		for _, part := range strings.SplitN(line, ",", maxRetryAfterParts) { // a proxy may have joined lines
			longest = max(longest, parseSeconds(strings.Trim(part, " \t")))
			for _, text := range []string{part, before + "," + part} { // a date may have a comma
				if at, ok := parseDate(strings.Trim(text, " \t"), now); ok {
					longest = max(longest, at.Sub(serverTime(h, now)))
				}
			}
			before = part
		}
	}
	return min(longest, adapter.MaxRetryAfter)
}

// serverTime returns the time by the server's clock, which may differ from ours: the Date
// of the response if it has one, and otherwise now.
func serverTime(h http.Header, now time.Time) time.Time {
	if sent, ok := parseDate(h.Get("Date"), now); ok {
		return sent
	}
	return now
}

// parseSeconds parses a decimal number of seconds and returns it rounded up, at most
// adapter.MaxRetryAfter. It returns 0 for anything else. RFC 9110 allows whole seconds only,
// but servers send fractions.
func parseSeconds(v string) time.Duration {
	whole, fraction, found := strings.Cut(v, ".")
	if !isDigits(whole) || found && !isDigits(fraction) {
		return 0
	}
	n, _ := strconv.ParseInt(whole, 10, 64) // the largest number after an overflow
	if n >= int64(adapter.MaxRetryAfter/time.Second) {
		return adapter.MaxRetryAfter
	}
	d := time.Duration(n) * time.Second
	for i, unit := 0, 100*time.Millisecond; i < len(fraction); i, unit = i+1, unit/10 {
		if unit == 0 {
			if strings.Trim(fraction[i:], "0") != "" {
				d++
			}
			break
		}
		d += time.Duration(fraction[i]-'0') * unit
	}
	return d
}

// dateLayouts are the three forms of a date in HTTP (RFC 9110, section 5.6.7), the same with
// a numeric zone, and other forms that servers send. Days may have one digit.
var dateLayouts = [...]string{
	"Mon, 2 Jan 2006 15:04:05 GMT",
	"Mon, 2 Jan 2006 15:04:05 -0700",
	"Mon, 2 Jan 2006 15:04:05 -07:00",
	"Monday, 2-Jan-06 15:04:05 GMT",
	"Monday, 2-Jan-06 15:04:05 -0700",
	"Mon, 2-Jan-2006 15:04:05 GMT",
	time.ANSIC,
	time.RFC3339,
}

// maxDate is the length of the longest text that is parsed as a date. A date of RFC 3339
// with nanoseconds has 35 bytes.
const maxDate = 64

// parseDate parses a date of an HTTP header. A date without a zone is invalid, except in the
// one form of HTTP that has none. A zone whose name has several meanings is invalid too.
func parseDate(v string, now time.Time) (time.Time, bool) {
	if len(v) > maxDate {
		return time.Time{}, false
	}
	for _, zone := range [...]string{" UTC", " UT", " Z"} {
		if rest, ok := strings.CutSuffix(v, zone); ok {
			v = rest + " GMT"
		}
	}
	for _, layout := range dateLayouts {
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
