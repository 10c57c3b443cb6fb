// Package guard puts httpmw around the clients and the servers of a program. It uses the
// hooks that the test adds to a copy of net/http.
package guard

import (
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

func init() {
	sides := os.Getenv("HTTPMW_GUARD")
	if strings.Contains(sides, "client") {
		http.GuardTransport = transport
	}
	if strings.Contains(sides, "server") {
		http.GuardHandler = handler
	}
	if strings.Contains(sides, "retry") {
		retries = nil
	}
}

// retries is the configuration of retries: none, unless the test sets it.
var retries = func(error) bool { return false }

// Each transport and each server has its own policies, because the policies of one test
// must not see the time in the synctest bubble of another.
var transports, servers sync.Map

func transport(base http.RoundTripper) http.RoundTripper {
	if !reflect.TypeOf(base).Comparable() {
		return &httpmw.Transport{Base: base, Policy: client()}
	}
	if t, ok := transports.Load(base); ok {
		return t.(http.RoundTripper)
	}
	t, _ := transports.LoadOrStore(base, &httpmw.Transport{Base: base, Policy: client()})
	return t.(http.RoundTripper)
}

func handler(server *http.Server, next http.Handler) http.Handler {
	p, ok := servers.Load(server)
	if !ok {
		p, _ = servers.LoadOrStore(server, attempt())
	}
	return httpmw.Server{Policy: p.(resilience.Policy)}.Wrap(next)
}

func client() resilience.Policy {
	return resilience.Compose(must(retry.New(retry.Config{Retryable: retries})), attempt())
}

func attempt() resilience.Policy {
	return resilience.Compose(
		must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1<<16 - 1}}})),
		must(bulkhead.New(bulkhead.Config{Slots: 1000})),
		must(timeout.New(timeout.Config{Timeout: time.Minute, Until: resilience.Answered})),
	)
}

func must[P any](p P, err error) P {
	if err != nil {
		panic(err)
	}
	return p
}
