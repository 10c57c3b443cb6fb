package migrating_test

import (
	"bytes"
	"context"
	"log"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	failsafebulkhead "github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	failsafetimeout "github.com/failsafe-go/failsafe-go/timeout"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/sony/gobreaker/v2"
)

// here is the default stack with changes.
func here(changes ...func(*stack.ClientConfig)) maker {
	return func(base http.RoundTripper) http.RoundTripper {
		c := stack.DefaultClient("test")
		for _, change := range changes {
			change(&c)
		}
		return &httpmw.Transport{Base: base, Policy: resilience.Must(c.New())}
	}
}

func noRetry(c *stack.ClientConfig)     { c.Without |= stack.Retry }
func noAttempt(c *stack.ClientConfig)   { c.Without |= stack.Attempt }
func longerWaits(c *stack.ClientConfig) { c.Retry.MaxDelay = 10 * time.Second }

func oneAtATime(c *stack.ClientConfig) { c.Bulkhead.Slots, c.Bulkhead.MaxQueue = 1, -1 }

// find returns the policy of type P of a client.
func find[P resilience.Policy](rt http.RoundTripper) (found P) {
	for n := range resilience.Walk(rt.(*httpmw.Transport).Policy) {
		p := n.Policy
		if p, ok := p.(P); ok {
			found = p
		}
	}
	return found
}

// hashicorp is a client of go-retryablehttp with changes.
func hashicorp(changes ...func(*retryablehttp.Client)) maker {
	return func(base http.RoundTripper) http.RoundTripper {
		c := retryablehttp.NewClient()
		c.HTTPClient.Transport = base
		c.Logger = nil
		for _, change := range changes {
			change(c)
		}
		return c.StandardClient().Transport
	}
}

func clientTimeout(c *retryablehttp.Client) { c.HTTPClient.Timeout = 10 * time.Second }

func passThrough(c *retryablehttp.Client) { c.ErrorHandler = retryablehttp.PassthroughErrorHandler }

// failsafes is a client of failsafehttp with new policies.
func failsafes(policies ...func() failsafe.Policy[*http.Response]) maker {
	return func(base http.RoundTripper) http.RoundTripper {
		var all []failsafe.Policy[*http.Response]
		for _, policy := range policies {
			all = append(all, policy())
		}
		return failsafehttp.NewRoundTripper(base, all...)
	}
}

func failsafeRetry() failsafe.Policy[*http.Response] {
	return failsafehttp.NewRetryPolicyBuilder().Build()
}

func failsafeLast() failsafe.Policy[*http.Response] {
	return failsafehttp.NewRetryPolicyBuilder().ReturnLastFailure().Build()
}

func failsafeBudget() failsafe.Policy[*http.Response] {
	return failsafehttp.NewRetryPolicyBuilder().WithBudget(budget.New()).Build()
}

func failsafeTimeout() failsafe.Policy[*http.Response] {
	return failsafetimeout.New[*http.Response](10 * time.Second)
}

func failsafeBulkhead() failsafe.Policy[*http.Response] {
	return failsafebulkhead.New[*http.Response](1)
}

func failsafeBreaker() failsafe.Policy[*http.Response] {
	return circuitbreaker.NewWithDefaults[*http.Response]()
}

// byHand is the transport that the page shows as before.
func byHand(base http.RoundTripper) http.RoundTripper {
	return &guarded{base: base, breaker: gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{})}
}

// logged says what a successful call logs. own is the logger that a client has
// unless told otherwise, nil if it has none. Package slog writes to that of package log.
func logged(own *log.Logger) func(*world) string {
	return func(w *world) string {
		var buf bytes.Buffer
		where := "the default logger"
		for _, l := range []*log.Logger{log.Default(), own} {
			if l == nil {
				continue
			}
			old := l.Writer()
			// go test -json replaces os.Stderr, which the logger has kept.
			if f, ok := old.(*os.File); ok && l == own && f.Name() == "/dev/stderr" {
				where = "stderr"
			}
			l.SetOutput(&buf)
			w.t.Cleanup(func() { l.SetOutput(old) })
		}
		w.handle(succeed)
		w.get(w.client(), hostA)
		if n := strings.Count(buf.String(), "\n"); n > 0 {
			return count(int32(n), "line") + " on " + where
		}
		return "nothing"
	}
}

// againPeer counts the retries at an open breaker by a listener, againHere by Stats.
func againPeer(w *world) string {
	var n atomic.Int32
	r := failsafehttp.NewRetryPolicyBuilder().
		OnRetry(func(failsafe.ExecutionEvent[*http.Response]) { n.Add(1) }).Build()
	w.make = func(base http.RoundTripper) http.RoundTripper {
		return failsafehttp.NewRoundTripper(base, r, failsafeBreaker())
	}
	return again(func() int { return int(n.Load()) })(w)
}

func againHere(w *world) string {
	rt := here()(w.base)
	w.make = func(http.RoundTripper) http.RoundTripper { return rt }
	return again(func() int { return int(find[*retry.Retry](rt).Stats().Retries) })(w)
}

// returns runs ask on a goroutine of its own, and says whether it comes back soon. One
// that waits for a mutex cannot be waited for: the mutex is that of the caller.
func returns(ask func()) string {
	var done atomic.Bool
	go func() {
		ask()
		done.Store(true)
	}()
	for range 100_000 {
		if done.Load() {
			return "returns the state"
		}
		runtime.Gosched()
	}
	return "deadlocks"
}

// The listeners of both ask the breaker that tells them for its state.
func listenPeer(w *world) (said string) {
	var cb *gobreaker.CircuitBreaker[*http.Response]
	cb = gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{
		OnStateChange: func(string, gobreaker.State, gobreaker.State) { said = returns(func() { cb.State() }) },
	})
	w.open(&http.Client{Transport: &guarded{base: w.base, breaker: cb}}, unreachable)
	return said
}

type listenerFunc func()

func (f listenerFunc) Observe(context.Context, resilience.Event) { f() }

func listenHere(w *world) (said string) {
	var b *breaker.Breaker
	rt := here(noRetry, func(c *stack.ClientConfig) {
		c.Without |= stack.Keyed
		c.Breaker.Observer = listenerFunc(func() { said = returns(func() { b.State() }) })
	})(w.base)
	b = find[*breaker.Breaker](rt)
	w.open(&http.Client{Transport: rt}, unreachable)
	return said
}
