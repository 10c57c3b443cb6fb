package httpmw_test

import (
	"context"
	"errors"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

const (
	rfc850  = "Monday, 02-Jan-06 15:04:05 GMT"
	year    = 365 * 24 * time.Hour
	longAgo = "Sun, 06 Nov 1994 08:49:37 GMT"
)

// asked returns how long a response with these headers asks to wait.
func asked(t testing.TB, code int, h http.Header) time.Duration {
	t.Helper()
	d := time.Duration(-1)
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		if e, ok := errors.AsType[interface {
			error
			RetryAfter() time.Duration
		}](err); ok {
			d = e.RetryAfter()
		}
		return err
	})
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: code, Header: h, Body: http.NoBody}, nil
	})
	if _, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(&http.Request{URL: nil, Header: http.Header{}}); err != nil {
		t.Fatal(err)
	}
	return d
}

// RetryAfter parses seconds and the three forms of a date.
func TestStatusError_retryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the time stands still
		now := time.Now().UTC()
		soon := now.Add(90 * time.Second)
		for value, want := range map[string]time.Duration{
			"":                               0,
			"0":                              0,
			"1":                              time.Second,
			"120":                            2 * time.Minute,
			" 120\t":                         2 * time.Minute,
			"99999999":                       year,
			"99999999999999999999":           year,
			"-1":                             0,
			"+1":                             0,
			"1.5":                            0,
			"1, 2":                           0,
			"soon":                           0,
			"١":                              0,
			longAgo:                          0,
			"Sun Nov  6 08:49:37 1994":       0,
			soon.Format(http.TimeFormat):     90 * time.Second,
			soon.Format(rfc850):              90 * time.Second,
			soon.Format(time.ANSIC):          90 * time.Second,
			"Mon, 01 Jan 2200 00:00:00 GMT":  year,
			soon.Format(time.RFC3339):        0,
			"Friday, 31-Dec-49 23:59:59 GMT": year, // 2049
			"Friday, 31-Dec-69 23:59:59 GMT": 0,    // 1969
		} {
			for _, code := range []int{429, 503} {
				if got := asked(t, code, http.Header{"Retry-After": {value}}); got != want {
					t.Errorf("%d, %q: %v, want %v", code, value, got, want)
				}
			}
		}
		if got := asked(t, 503, http.Header{}); got != 0 {
			t.Errorf("no header: %v", got)
		}
	})
}

// A Retry-After date is compared with the response's Date.
func TestStatusError_retryAfterServerClock(t *testing.T) {
	sent := time.Now().Add(-time.Hour)
	h := http.Header{"Date": {sent.UTC().Format(http.TimeFormat)}, "Retry-After": {sent.Add(10 * time.Second).UTC().Format(http.TimeFormat)}}
	if got := asked(t, 503, h); got != 10*time.Second {
		t.Errorf("%v", got)
	}
}

// 429 is a success that is retried.
func TestTransport_429IsRetriedSuccess(t *testing.T) {
	for _, code := range []int{408, 425, 429} {
		policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if o := resilience.OutcomeOf(ctx, err, nil); err == nil || o != resilience.Success || !retryable(err) {
				t.Errorf("%d: outcome %v, error %v", code, o, err)
			}
			return err
		})
		resp, err := (&httpmw.Transport{Base: answer(code), Policy: policy}).RoundTrip(newRequest(t, "GET", "http://x", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// The text of a StatusError has code and text of the status.
func TestStatusError_text(t *testing.T) {
	for code, want := range map[int]string{503: "http: status 503 Service Unavailable", 599: "http: status 599"} {
		if got := (&httpmw.StatusError{StatusCode: code}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"0", "120", "18446744073709551616", "-1", longAgo, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "soon"} {
		f.Add(s, int64(1e9))
	}
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		got := asked(t, 503, http.Header{"Retry-After": {value}})
		if got < 0 || got > year {
			t.Fatalf("%q: %v", value, got)
		}
		// Only digits are seconds, and so many as they say.
		trimmed := strings.Trim(value, " \t")
		if n, ok := new(big.Int).SetString(trimmed, 10); ok && strings.Trim(trimmed, "0123456789") == "" {
			want := year
			if n.IsInt64() && n.Int64() < int64(year/time.Second) {
				want = time.Duration(n.Int64()) * time.Second
			}
			if got != want {
				t.Fatalf("%q: %v, want %v", value, got, want)
			}
		}
		// A date in any of the three forms is as far away as it is, here from the
		// time that the server gives. Two digits do for the years around this one.
		now := time.Now().Year()
		at := time.Unix(abs(unix)%4e9, 0).UTC()
		for _, form := range []string{http.TimeFormat, rfc850, time.ANSIC} {
			if form == rfc850 && (at.Year() < now-49 || at.Year() > now+49) {
				continue
			}
			h := http.Header{"Retry-After": {at.Add(7 * time.Second).Format(form)}, "Date": {at.Format(http.TimeFormat)}}
			if got := asked(t, 503, h); got != 7*time.Second {
				t.Fatalf("%v: %v", h, got)
			}
		}
	})
}

func abs(n int64) int64 { return max(n, -max(n, -1<<62)) }

func FuzzRetryAttempt(f *testing.F) {
	for _, s := range []string{"", "1", "2", "02", "999", "1000", "-1", "+2", " 2", "2.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := 0
		h := httpmw.Server{Policy: resilience.Compose()}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = resilience.Attempt(r.Context()) }))
		h.ServeHTTP(nil, &http.Request{Header: http.Header{"Retry-Attempt": {value}}})
		// Only what Transport would send is read.
		want := 1
		for n := 2; n <= 999; n++ {
			if strconv.Itoa(n) == value {
				want = n
			}
		}
		if got != want {
			t.Fatalf("%q: attempt %d, want %d", value, got, want)
		}
	})
}
