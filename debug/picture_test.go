package debug_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/stack"
)

// docs/debug.png is the top of the page that TestPage_picture makes:
//
//	go test ./debug -run TestPage_picture -picture /tmp/page.html
//	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1180,560 \
//		--screenshot=docs/debug.png file:///tmp/page.html
var picture = flag.String("picture", "", "write the page of TestPage_picture to this `file`")

// The page of a client with the default stack, of which one host of three is down.
func TestPage_picture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)))
		p := stack.Client("payments")
		outage(t, p)
		page := asHTML(t, p)
		for _, want := range []string{"1 policy needs attention", "eu.example.com of payments", "connection refused", "Retry at", "3 keys now"} {
			if !strings.Contains(text(page), want) {
				t.Errorf("the page does not say %q:\n%s", want, text(page))
			}
		}
		if *picture != "" {
			if err := os.WriteFile(*picture, []byte(page), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// to is an operation with a key.
type to struct {
	host string
	err  error
}

func (o *to) Run(context.Context) error { time.Sleep(20 * time.Millisecond); return o.err }
func (o *to) Key() string               { return o.host }

// outage makes calls to three hosts for two minutes. One host refuses connections in the
// last twenty seconds, and its breaker is OPEN at the end.
func outage(t *testing.T, p resilience.Policy) {
	refused := fmt.Errorf("dial tcp 192.0.2.7:443: %w", syscall.ECONNREFUSED)
	start := time.Now()
	var hosts sync.WaitGroup
	for i, host := range []string{"https://api.example.com", "https://eu.example.com", "https://us.example.com"} {
		hosts.Go(func() {
			for time.Since(start) < 2*time.Minute || i == 1 && !staysOpen(p) {
				o := &to{host: host}
				if i == 1 && time.Since(start) > 100*time.Second {
					o.err = refused
				}
				_ = resilience.RunOperation(t.Context(), p, o)
				time.Sleep(time.Duration(i+2) * 10 * time.Millisecond)
			}
		})
	}
	hosts.Wait()
}

// staysOpen reports whether a policy inside p is OPEN for at least another 300 ms.
func staysOpen(p resilience.Policy) bool {
	for n := range resilience.Walk(p) {
		if r, ok := n.Policy.(resilience.Reporter); ok {
			if s := r.Report(true); s.State == "OPEN" && s.RetryAt.Sub(s.Time) > 300*time.Millisecond {
				return true
			}
		}
	}
	return false
}
