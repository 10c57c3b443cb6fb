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

// here is the default stack after the changes.
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

// hashicorp is a client of go-retryablehttp after the changes.
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

// byHand is the "before" transport of the page.
func byHand(base http.RoundTripper) http.RoundTripper {
	return &guarded{base: base, breaker: gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{})}
}

// logged counts the log lines of a successful call. own is the default logger of the
// client, or nil. Package slog writes to the logger of package log.
func logged(own *log.Logger) func(*world) string {
	return func(w *world) string {
		var buf bytes.Buffer
		where := "the default logger"
		for _, l := range []*log.Logger{log.Default(), own} {
			if l == nil {
				continue
			}
			old := l.Writer()
			// go test -json replaces os.Stderr, but the logger still has the old one.
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

// againPeer counts the retries at an open breaker with a listener, againHere with Stats.
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

// returns runs ask in a goroutine and reports whether it returns soon. A goroutine that
// waits for a mutex that its caller holds would block the test.
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

// listenPeer and listenHere use a listener that reads the state of the breaker that
// calls it.
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
