package resiliencetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
)

// rates is the user code of these tests.
type rates struct{ client *http.Client }

func (r rates) get(ctx context.Context, currency string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://rates.test/"+currency, nil)
	if err != nil {
		return "", err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// server is a Base: it answers as the script says.
type server struct{ script *resiliencetest.Scripted }

func (s server) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := s.script.Run(req.Context()); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("1.25"))}, nil
}

// A rate is returned even if a connection breaks.
func TestRates_connectionBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events resiliencetest.Recorder
		c := stack.DefaultClient("rates")
		c.Observer = &events
		bank := server{resiliencetest.Script(errors.New("connection reset"), nil)}
		r := rates{&http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New()), Base: bank}}}

		rate, err := r.get(t.Context(), "EUR")
		if rate != "1.25" || err != nil {
			t.Errorf("%q, %v", rate, err)
		}
		if n := len(events.Events(retry.EventRetrying)); n != 1 || bank.script.Runs() != 2 {
			t.Errorf("%d retries, %d requests", n, bank.script.Runs())
		}
	})
}

// A rate is returned even if the server hangs once.
func TestRates_serverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("rates")
		c.Attempt.Timeout = 300 * time.Millisecond
		bank := server{resiliencetest.Script(resiliencetest.ErrHang, nil)}
		r := rates{&http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New()), Base: bank}}}

		start := time.Now()
		rate, err := r.get(t.Context(), "EUR")
		if took := time.Since(start); rate != "1.25" || err != nil || took > 350*time.Millisecond {
			t.Errorf("%q, %v after %v", rate, err, took) // the timeout, and a wait of up to 50 ms
		}
	})
}

// No request is sent while the breaker is open.
func TestRates_breakerOpen(t *testing.T) {
	policy := stack.Client("rates")
	for n := range resilience.Walk(policy) {
		if b, ok := n.Policy.(*breaker.Breaker); ok {
			b.SetMode(breaker.ForcedOpen) // before the first call
		}
	}
	bank := server{resiliencetest.Script()}
	r := rates{&http.Client{Transport: &httpmw.Transport{Policy: policy, Base: bank}}}

	_, err := r.get(t.Context(), "EUR")
	if !errors.Is(err, breaker.ErrOpen) || bank.script.Runs() != 0 {
		t.Errorf("%v after %d requests", err, bank.script.Runs())
	}
}

func ExampleScript() {
	op := resiliencetest.Script(errors.New("down"), nil)
	for range 3 {
		fmt.Println(resilience.Run(context.Background(), resilience.Compose(), op.Run))
	}
	fmt.Println(op.Runs(), "runs")
	// Output:
	// down
	// <nil>
	// <nil>
	// 3 runs
}

func ExampleRecorder() {
	var rec resiliencetest.Recorder
	// With &rec as the Observer of its Config, a policy calls:
	rec.Observe(context.Background(), resilience.Event{From: "CLOSED", To: "OPEN"})
	rec.Observe(context.Background(), resilience.Event{Kind: retry.EventRetrying, Attempt: 2})
	fmt.Println(rec.Transitions())
	fmt.Println(len(rec.Events()), len(rec.Events(retry.EventRetrying)))
	// Output:
	// [CLOSED->OPEN]
	// 2 1
}

func ExampleTestPolicy() {
	// In a test function with the parameter t *testing.T:
	check := func(t *testing.T) {
		resiliencetest.TestPolicy(t, func() resilience.Policy { return resilience.Compose() })
	}
	_ = check
	// Output:
}
