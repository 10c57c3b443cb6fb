package migrating_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/sony/gobreaker/v2"
)

var errDown = errors.New("down")

func outcome(failed bool) resilience.Func {
	return func(context.Context) error {
		if failed {
			return errDown
		}
		return nil
	}
}

// theirs records the result of a call in a breaker and reports whether the breaker is
// open.
type theirs func(failed bool) (open bool)

func fromGobreaker(s gobreaker.Settings) theirs {
	cb := gobreaker.NewCircuitBreaker[int](s)
	return func(failed bool) bool {
		_, _ = cb.Execute(func() (int, error) {
			if failed {
				return 0, errDown
			}
			return 0, nil
		})
		return cb.State() == gobreaker.StateOpen
	}
}

func fromFailsafe(b circuitbreaker.Builder[any]) theirs {
	cb := b.Build()
	return func(failed bool) bool {
		cb.TryAcquirePermit()
		if failed {
			cb.RecordFailure()
		} else {
			cb.RecordSuccess()
		}
		return cb.IsOpen()
	}
}

// A rule that the page maps to one of ours opens at the same call as ours.
func TestPage_rulesOpenAtSameCall(t *testing.T) {
	for name, test := range map[string]struct {
		peer      func() theirs
		rule      breaker.Rule
		atFailure bool // theirs evaluates the rule only after a failure
	}{
		"gobreaker by default": {func() theirs { return fromGobreaker(gobreaker.Settings{}) }, breaker.Consecutive{Failures: 6}, false},
		"gobreaker's failures in a row": {func() theirs {
			return fromGobreaker(gobreaker.Settings{ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 4 }})
		}, breaker.Consecutive{Failures: 4}, false},
		"gobreaker's share of the interval": {func() theirs {
			return fromGobreaker(gobreaker.Settings{Interval: time.Minute, ReadyToTrip: func(c gobreaker.Counts) bool {
				return c.Requests >= 20 && 100*c.TotalFailures >= 60*c.Requests
			}})
		}, breaker.Rate{Failures: 12, Of: 20, Over: time.Minute}, true},
		"failsafe's threshold": {func() theirs {
			return fromFailsafe(circuitbreaker.NewBuilder[any]().WithFailureThreshold(4))
		}, breaker.Consecutive{Failures: 4}, false},
		"failsafe's ratio": {func() theirs {
			return fromFailsafe(circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(6, 10))
		}, breaker.Rate{Failures: 6, Of: 10}, false},
		"failsafe's rate": {func() theirs {
			return fromFailsafe(circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.6, 20, time.Minute))
		}, breaker.Rate{Failures: 12, Of: 20, Over: time.Minute}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 2))
				for range 500 {
					peer := test.peer()
					b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{test.rule}, OpenFor: time.Minute}))
					for n := range 40 { // for more calls, failsafe-go rounds the rate
						failed := rng.IntN(100) < 55
						open := peer(failed)
						_ = resilience.Run(t.Context(), b, outcome(failed))
						ours := b.State() == breaker.Open
						if ours && !open && test.atFailure && !failed {
							break
						}
						if ours != open {
							t.Fatalf("after call %d: open %v there and %v here", n+1, open, ours)
						}
						if open {
							break
						}
					}
				}
			})
		})
	}
}

// failsafe-go rounds a rate to whole percent.
func TestFailsafe_roundsRate(t *testing.T) {
	peer := fromFailsafe(circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.6, 42, time.Minute))
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Rate{Failures: 60, Of: 100, Over: time.Minute, AtLeast: 42}}, OpenFor: time.Minute}))
	open := false
	for n := range 42 {
		failed := n < 25 // 59.5 %
		open = peer(failed)
		_ = resilience.Run(t.Context(), b, outcome(failed))
	}
	if !open || b.State() != breaker.Closed {
		t.Errorf("open %v there, %v here", open, b.State())
	}
}

// A response handler of go-retryablehttp turns a broken body into a failed attempt. Here
// there is no retry after the caller has the headers.
func TestRetryablehttp_responseHandler(t *testing.T) {
	attempts := 0
	inWorld(t, hashicorp(), func(w *world) string {
		w.handle(then(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "10")
			io.WriteString(rw, "half")
		}, succeed))
		c := retryablehttp.NewClient()
		c.HTTPClient.Transport, c.Logger = w.base, nil
		req, err := retryablehttp.FromRequest(w.request(w.ctx, "GET", hostA, nil))
		if err != nil {
			t.Fatal(err)
		}
		req.SetResponseHandler(func(resp *http.Response) error {
			attempts++
			defer resp.Body.Close()
			_, err := io.ReadAll(resp.Body)
			return err
		})
		if _, err := c.Do(req); err != nil {
			t.Error(err)
		}
		return ""
	})
	if attempts != 2 {
		t.Errorf("%d attempts, want 2", attempts)
	}
	inWorld(t, here(), func(w *world) string {
		w.handle(then(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "10")
			io.WriteString(rw, "half")
		}, succeed))
		if got := w.get(w.client(), hostA); !errors.Is(got.err, io.ErrUnexpectedEOF) || w.requests.Load() != 1 {
			t.Errorf("%v after %d requests", got, w.requests.Load())
		}
		return ""
	})
}

// go-retryablehttp keeps more idle connections per host than http.DefaultTransport.
func TestRetryablehttp_idleConnections(t *testing.T) {
	theirs := retryablehttp.NewClient().HTTPClient.Transport.(*http.Transport)
	if n := theirs.MaxIdleConnsPerHost; n != runtime.GOMAXPROCS(0)+1 {
		t.Errorf("%d", n)
	}
	if n := http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost; n != 0 || http.DefaultMaxIdleConnsPerHost != 2 {
		t.Errorf("%d, which is %d", n, http.DefaultMaxIdleConnsPerHost)
	}
}

// The page names the versions that were run.
func TestPage_namesVersions(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text := page(t)
	for _, path := range []string{"github.com/hashicorp/go-retryablehttp", "github.com/failsafe-go/failsafe-go", "github.com/sony/gobreaker/v2"} {
		_, version, _ := strings.Cut(string(mod), path+" ")
		version, _, _ = strings.Cut(version, "\n")
		if version == "" || !strings.Contains(text, version) {
			t.Errorf("the page does not say %s %s", path, version)
		}
	}
}
