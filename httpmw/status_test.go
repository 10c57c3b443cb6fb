package httpmw_test

import (
	"context"
	"errors"
	"math/big"
	"net/http"
	"regexp"
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

// RetryAfter parses seconds, also with a fraction, and dates as servers send them. It
// ignores any other text.
func TestStatusError_retryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the time stands still
		now := time.Now().UTC()
		soon := now.Add(90 * time.Second)
		west := time.FixedZone("PST", -8*60*60)
		for value, want := range map[string]time.Duration{
			"":                              0,
			"0":                             0,
			"1":                             time.Second,
			"120":                           2 * time.Minute,
			" 120\t":                        2 * time.Minute,
			"99999999":                      year,
			"99999999999999":                year, // nanoseconds would overflow
			"99999999999999999999":          year,
			"0.5":                           500 * time.Millisecond,
			"1.5":                           1500 * time.Millisecond,
			"2.0":                           2 * time.Second,
			"299.997":                       299997 * time.Millisecond,
			"0.0000000001":                  1, // rounded up: no retry comes too early
			"1.0000000000":                  time.Second,
			"1.9999999999":                  2 * time.Second,
			"99999999999999999999.9":        year,
			"31536000.1":                    year,
			"0.0":                           0,
			"1, 2":                          2 * time.Second, // two lines that a proxy has joined
			"3,0.5":                         3 * time.Second,
			"soon, 2":                       2 * time.Second,
			"-1":                            0,
			"+1":                            0,
			"1.":                            0,
			".5":                            0,
			"1.5.2":                         0,
			"1e3":                           0,
			"0x10":                          0,
			"5 seconds":                     0,
			",":                             0,
			"soon":                          0,
			"١":                             0,
			longAgo:                         0,
			"Sun Nov  6 08:49:37 1994":      0,
			soon.Format(http.TimeFormat):    90 * time.Second,
			soon.Format(rfc850):             90 * time.Second,
			soon.Format(time.ANSIC):         90 * time.Second,
			"Mon, 01 Jan 2200 00:00:00 GMT": year,
			soon.Format(time.RFC3339):       90 * time.Second,
			soon.Format(time.RFC3339Nano):   90 * time.Second,
			soon.Add(time.Millisecond).Format(time.RFC3339Nano):      90*time.Second + time.Millisecond,
			soon.In(west).Format(time.RFC3339):                       90 * time.Second,
			soon.Format(time.RFC1123):                                90 * time.Second, // Go's form of UTC
			soon.Format("Mon, 2 Jan 2006 15:04:05 UT"):               90 * time.Second,
			soon.Format("Mon, 2 Jan 2006 15:04:05 Z"):                90 * time.Second,
			soon.Format(time.RFC1123Z):                               90 * time.Second,
			soon.In(west).Format(time.RFC1123Z):                      90 * time.Second,
			soon.In(west).Format("Mon, 02 Jan 2006 15:04:05 -07:00"): 90 * time.Second,
			soon.In(west).Format("Monday, 02-Jan-06 15:04:05 -0700"): 90 * time.Second,
			soon.Format("Mon, 02-Jan-2006 15:04:05 GMT"):             90 * time.Second,
			soon.In(west).Format("Mon, 02 Jan 2006 15:04:05 PST"):    0, // says too little
			soon.Format("2006-01-02T15:04:05"):                       0,
			soon.Format("2006-01-02"):                                0,
			soon.Format("Mon, 02 Jan 2006 15:04:05"):                 0,
			"Friday, 31-Dec-49 23:59:59 GMT":                         year,             // 2049
			"Friday, 31-Dec-69 23:59:59 GMT":                         0,                // 1969
			"1, " + soon.Format(http.TimeFormat):                     90 * time.Second, // joined by a proxy
			soon.Format(http.TimeFormat) + ", 100":                   100 * time.Second,
			longAgo + ", 7, " + soon.Format(http.TimeFormat):         90 * time.Second,
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

// Of several lines of Retry-After, the longest wait counts.
func TestStatusError_retryAfterLines(t *testing.T) {
	if got := asked(t, 503, http.Header{"Retry-After": {"2", "0.5", "soon", "3", longAgo}}); got != 3*time.Second {
		t.Errorf("%v", got)
	}
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

var decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{
		"0", "120", "18446744073709551616", "-1", "0.5", "299.997", "1.0000000001", "1, 2", longAgo, "Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 6 Nov 1994 08:49:37 -0800", "1994-11-06T08:49:37.5Z", "soon",
	} {
		f.Add(s, int64(1e9))
	}
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		got := asked(t, 503, http.Header{"Retry-After": {value}})
		if got < 0 || got > year {
			t.Fatalf("%q: %v", value, got)
		}
		// A decimal number is exactly that many seconds, rounded up.
		if trimmed := strings.Trim(value, " \t"); decimal.MatchString(trimmed) {
			n, _ := new(big.Rat).SetString(trimmed)
			n.Mul(n, big.NewRat(int64(time.Second), 1))
			want := year
			if n.Cmp(big.NewRat(int64(year), 1)) < 0 {
				up := new(big.Int).Add(n.Num(), new(big.Int).Sub(n.Denom(), big.NewInt(1)))
				want = time.Duration(up.Div(up, n.Denom()).Int64())
			}
			if got != want {
				t.Fatalf("%q: %v, want %v", value, got, want)
			}
		}
		// Another line does not shorten the wait.
		if both := asked(t, 503, http.Header{"Retry-After": {value, "1.5"}}); both != max(got, 1500*time.Millisecond) {
			t.Fatalf("%q and 1.5: %v, want the longer of %v", value, both, got)
		}
		// A date in any form and zone is as far away as it is, here from the time that
		// the server gives. Two digits do for the years around this one.
		now := time.Now().Year()
		at := time.Unix(abs(unix)%4e9, 0).UTC()
		zone := time.FixedZone("", int(unix%(14*60))*60)
		for _, form := range []string{http.TimeFormat, rfc850, time.ANSIC, time.RFC1123, time.RFC1123Z, time.RFC3339} {
			if form == rfc850 && (at.Year() < now-49 || at.Year() > now+49) {
				continue
			}
			end := at.Add(7 * time.Second)
			if form == time.RFC1123Z || form == time.RFC3339 {
				end = end.In(zone)
			}
			h := http.Header{"Retry-After": {end.Format(form)}, "Date": {at.Format(http.TimeFormat)}}
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
