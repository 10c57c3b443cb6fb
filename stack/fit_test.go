package stack_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// misfit is a change of the default stack that New rejects, with parts of the error.
type misfit struct {
	change func(*stack.ClientConfig)
	want   []string
}

var wholeMisfits = map[string]misfit{
	"no name": {
		func(c *stack.ClientConfig) { c.Name = "" },
		[]string{`stack ""`, "Name is empty: set it", `as in "payments"`},
	},
	"nothing is left": {
		func(c *stack.ClientConfig) {
			c.Without = stack.Keyed | stack.Retry | stack.Breaker | stack.Bulkhead | stack.Attempt
		},
		[]string{"Without is stack.Keyed|stack.Retry|stack.Breaker|stack.Bulkhead|stack.Attempt", "nothing is guarded: keep a layer, or use resilience.Compose()"},
	},
	"keys of nothing": {
		func(c *stack.ClientConfig) { c.Without = stack.Retry | stack.Breaker | stack.Bulkhead | stack.Attempt },
		[]string{"nothing is guarded"},
	},
	"an attempt without a timeout, alone": {
		func(c *stack.ClientConfig) {
			c.Attempt.Timeout, c.Without = timeout.Unbounded, stack.Keyed|stack.Retry|stack.Breaker|stack.Bulkhead
		},
		[]string{"Bulkhead, Attempt.Timeout is timeout.Unbounded, and Total.Timeout is not set, so nothing is guarded"},
	},
	"a retry of one attempt, alone": {
		func(c *stack.ClientConfig) {
			c.Retry.MaxAttempts, c.Without = 1, stack.Keyed|stack.Breaker|stack.Bulkhead|stack.Attempt
		},
		[]string{"Retry.MaxAttempts is 1", "nothing is guarded"},
	},
	"keys that are unguarded, alone": {
		func(c *stack.ClientConfig) {
			c.Keyed.Keys = map[string]resilience.Policy{"a": resilience.Compose(), "b": resilience.Compose()}
			c.Without = stack.Retry | stack.Breaker | stack.Bulkhead | stack.Attempt
		},
		[]string{"the policies in Keyed.Keys guard nothing", "nothing is guarded"},
	},
	"a server's layer": {
		func(c *stack.ClientConfig) { c.Without = stack.Retry | stack.Limit },
		[]string{"Without has stack.Limit, which a client does not have"},
	},
	"an unknown layer": {
		func(c *stack.ClientConfig) { c.Without = 1 << 7 },
		[]string{"Without has stack.Layer(128)"},
	},
	"a total without a timeout": {
		func(c *stack.ClientConfig) { c.Total.Name = "total" },
		[]string{"Total has other settings but no Timeout, and so is off: set Total.Timeout"},
	},
	"a breaker without a timeout": {
		func(c *stack.ClientConfig) { c.Attempt.Timeout = timeout.Unbounded },
		[]string{"Attempt.Timeout is timeout.Unbounded and Total.Timeout is not set", "set one of them, or confirm with Without: stack.Attempt"},
	},
	"a breaker with two timeouts that are off": {
		func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Total.Timeout = timeout.Unbounded, timeout.Unbounded },
		[]string{"Attempt.Timeout is timeout.Unbounded"},
	},
	"a gRPC method without its target": {
		func(c *stack.ClientConfig) {
			c.Keyed.Keys = map[string]resilience.Policy{"/payments.v1.Payments/Charge": resilience.Compose()}
		},
		[]string{`Keyed.Keys["/payments.v1.Payments/Charge"]`, "without its target", `"dns:///payments:443/payments.v1.Payments/Charge"`, `return "payments.v1.Payments/Charge"`},
	},
	"keys that are ignored": {
		func(c *stack.ClientConfig) {
			c.Keyed.Keys, c.Without = map[string]resilience.Policy{"a": resilience.Compose()}, stack.Keyed
		},
		[]string{"Keyed.Keys has 1 key, but Without has stack.Keyed", "remove one of the two"},
	},
	"a total with an observer alone": {
		func(c *stack.ClientConfig) { c.Total.Observer = resilience.LogObserver(nil) },
		[]string{"Total has other settings but no Timeout, and so is off"},
	},
	"a nil function for a key": {
		func(c *stack.ClientConfig) {
			c.Keyed.Keys = map[string]resilience.Policy{"a": resilience.PolicyFunc(nil)}
		},
		[]string{`Config.Keys["a"] is nil`},
	},
	"two spellings of an origin": {
		func(c *stack.ClientConfig) {
			c.Keyed.Keys = map[string]resilience.Policy{"http://a": resilience.Compose(), "http://a:80": resilience.Compose()}
		},
		[]string{`"http://a" and "http://a:80"`, "leave one of them out"},
	},
	"several layers at once": {
		func(c *stack.ClientConfig) {
			c.Keyed.Max, c.Retry.Budget, c.Breaker.OpenFor, c.Bulkhead.Slots, c.Attempt.Until = -1, 1, -1, -1, 9
			c.Total = timeout.Config{Timeout: time.Minute, Until: 9}
		},
		[]string{"keyed", "Config.Max", "retry", "Config.Budget", "breaker", "Config.OpenFor", "bulkhead", "Config.Slots", `timeout "users"`, `timeout "users total"`, "Config.Until"},
	},
}

var timeMisfits = map[string]misfit{
	"attempt longer than the total": {
		func(c *stack.ClientConfig) { c.Total.Timeout, c.Attempt.Timeout = 2*time.Second, 3*time.Second },
		[]string{"Attempt.Timeout is 3s", "Total.Timeout, which is 2s", "shorten it or lengthen"},
	},
	"default attempt longer than the total": {
		func(c *stack.ClientConfig) { c.Total.Timeout = 2 * time.Second },
		[]string{"Attempt.Timeout is 10s, the default, longer than Total.Timeout, which is 2s"},
	},
	"waits as long as the total": {
		func(c *stack.ClientConfig) {
			c.Total.Timeout, c.Attempt.Timeout, c.Retry.BaseDelay = time.Second, 100*time.Millisecond, time.Second
		},
		[]string{"Retry.BaseDelay is 1s", "Total.Timeout is 1s", "shorten BaseDelay or lengthen the total"},
	},
	"probe timeout not longer than wait and attempt": {
		func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Attempt.Timeout, c.Bulkhead.MaxWait = 3*time.Second, 2*time.Second, time.Second
		},
		[]string{"Breaker.ProbeTimeout is 3s", "may take 3s", "lengthen ProbeTimeout or set it to 0", "shorten Bulkhead.MaxWait or Attempt.Timeout"},
	},
	"probe timeout of an attempt, no queue": {
		func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout, c.Bulkhead.MaxQueue = 10*time.Second, -1 },
		[]string{"may take 10s", "shorten Attempt.Timeout"},
	},
	"an unbounded wait": {
		func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Bulkhead.MaxWait = 15*time.Second, bulkhead.Unbounded
		},
		[]string{"Breaker.ProbeTimeout is 15s", "forever", "set Bulkhead.MaxWait", "or set a Total"},
	},
	"an unbounded wait, a long total": {
		func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Bulkhead.MaxWait, c.Total.Timeout = 15*time.Second, -1, 15*time.Second
		},
		[]string{"may take 15s", "set Bulkhead.MaxWait", "lengthen ProbeTimeout"},
	},
	"judged at the end, bounded to the answer": {
		func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Breaker.Until = 15*time.Second, resilience.Ended
			c.Total = timeout.Config{Timeout: 14 * time.Second, Until: resilience.Answered}
		},
		[]string{"forever", "change Breaker.Until to resilience.Answered or Attempt.Until to resilience.Ended"},
	},
	"judged at the end, a probe timeout of 0": {
		func(c *stack.ClientConfig) { c.Breaker.Until = resilience.Ended },
		[]string{"Breaker.ProbeTimeout is 0", "forever", "change Breaker.Until to resilience.Answered or Attempt.Until to resilience.Ended, or set a Total"},
	},
	"an unbounded wait, a probe timeout of 0": {
		func(c *stack.ClientConfig) { c.Bulkhead.MaxWait = bulkhead.Unbounded },
		[]string{"Breaker.ProbeTimeout is 0", "forever", "set Bulkhead.MaxWait, or set a Total"},
	},
	"judged at the end, a total to the answer": {
		func(c *stack.ClientConfig) {
			c.Breaker.Until, c.Attempt.Timeout = resilience.Ended, timeout.Unbounded
			c.Total = timeout.Config{Timeout: time.Second, Until: resilience.Answered}
		},
		[]string{"Attempt.Timeout is timeout.Unbounded", "Breaker.Until is resilience.Ended", "a response that hangs", "confirm with Without: stack.Attempt"},
	},
	"no attempt, a long total": {
		func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Without, c.Total.Timeout = 15*time.Second, stack.Attempt, time.Minute
		},
		[]string{"may take 1m0s", "set Attempt.Timeout"},
	},
	"the longest attempt": {
		func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout, c.Attempt.Timeout = 15*time.Second, math.MaxInt64 },
		[]string{"Breaker.ProbeTimeout is 15s"},
	},
}

// wantRejected checks that New returned only an error, whose text has every want.
func wantRejected(t *testing.T, p resilience.Policy, err error, wants []string) {
	t.Helper()
	if p != nil || err == nil {
		t.Fatalf("New returned %v, %v", p, err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// New rejects layers that do not fit together, and says what to change.
func TestClient_misfits(t *testing.T) {
	for _, misfits := range []map[string]misfit{wholeMisfits, timeMisfits} {
		for name, test := range misfits {
			t.Run(name, func(t *testing.T) {
				c := stack.DefaultClient("users")
				test.change(&c)
				p, err := c.New()
				wantRejected(t, p, err, test.want)
			})
		}
	}
}

// New accepts layers that fit together.
func TestClient_fits(t *testing.T) {
	for name, change := range map[string]func(*stack.ClientConfig){
		"attempt as long as the total":     func(c *stack.ClientConfig) { c.Total.Timeout = 10 * time.Second },
		"no timeout, confirmed":            func(c *stack.ClientConfig) { c.Without = stack.Attempt },
		"no timeout, no breaker":           func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Without = timeout.Unbounded, stack.Breaker },
		"no timeout but a total":           func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Total.Timeout = timeout.Unbounded, time.Minute },
		"a total that is off":              func(c *stack.ClientConfig) { c.Total.Timeout = timeout.Unbounded },
		"a total alone":                    func(c *stack.ClientConfig) { c.Total.Timeout, c.Without = time.Minute, 31 },
		"a long attempt":                   func(c *stack.ClientConfig) { c.Attempt.Timeout = time.Hour },
		"a long total":                     func(c *stack.ClientConfig) { c.Total.Timeout = time.Hour },
		"judged at the end":                func(c *stack.ClientConfig) { c.Breaker.Until, c.Attempt.Until = resilience.Ended, resilience.Ended },
		"judged at the end, a total":       func(c *stack.ClientConfig) { c.Breaker.Until, c.Total.Timeout = resilience.Ended, time.Minute },
		"judged at the end, no lease":      func(c *stack.ClientConfig) { c.Breaker.Until, c.Breaker.ProbeTimeout = resilience.Ended, -1 },
		"judged at the end, no timeout":    func(c *stack.ClientConfig) { c.Breaker.Until, c.Without = resilience.Ended, stack.Attempt },
		"an unbounded wait, a total":       func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Total.Timeout = bulkhead.Unbounded, time.Minute },
		"an unbounded wait, no breaker":    func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Without = bulkhead.Unbounded, stack.Breaker },
		"a probe timeout of one more":      func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout = 10*time.Second + 100*time.Millisecond + 1 },
		"an unbounded probe timeout":       func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Breaker.ProbeTimeout = time.Hour, -1 },
		"a probe timeout that is left out": func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout, c.Without = 1, stack.Breaker },
		"a probe timeout, no attempt":      func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout, c.Without = time.Second, stack.Attempt },
		"a probe timeout above a total": func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Bulkhead.MaxWait, c.Total.Timeout = 15*time.Second, -1, 14*time.Second
		},
		"a long wait before a short total": func(c *stack.ClientConfig) { c.Total.Timeout, c.Retry.MaxDelay = 10*time.Second, time.Minute },
		"long waits without a total":       func(c *stack.ClientConfig) { c.Retry.BaseDelay = time.Hour },
		"long waits, one attempt": func(c *stack.ClientConfig) {
			c.Total.Timeout, c.Retry.BaseDelay, c.Retry.MaxAttempts = 10*time.Second, time.Minute, 1
		},
		"long waits, no retry": func(c *stack.ClientConfig) {
			c.Total.Timeout, c.Retry.BaseDelay, c.Without = 10*time.Second, time.Minute, stack.Retry
		},
		"a Backoff of its own": func(c *stack.ClientConfig) {
			c.Total.Timeout, c.Retry.BaseDelay, c.Retry.Backoff = 10*time.Second, time.Minute, func(int) time.Duration { return 0 }
		},
		"a path that is no gRPC method": func(c *stack.ClientConfig) {
			c.Keyed.Keys = map[string]resilience.Policy{"/v1.2/users": resilience.Compose(), "/users/7": resilience.Compose(), "": resilience.Compose(), "/a.b": resilience.Compose(), "a.B/C": resilience.Compose()}
		},
		"keys of any kind": func(c *stack.ClientConfig) {
			c.Keyed.Keys = map[string]resilience.Policy{}
			for _, key := range []string{
				"https://api.example.com", "http://[::1]:8080/", "acme", "tenant:7", "payments:443", "httpd", "http", "https:acme", "a.example.com", "a.example.com/v1:2",
				"dns:///payments:443/payments.v1.Payments/Charge", "127.0.0.1:50051/payments.v1.Payments/Charge", "unix:///run/pay.sock/a.B/C", "tcp://127.0.0.1:6379",
			} {
				c.Keyed.Keys[key] = resilience.Compose()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := stack.DefaultClient("users")
			change(&c)
			if _, err := c.New(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A key that looks like the key of an HTTP request, and can never be one, is an error that
// says what to write. It does not repeat a password.
func TestClient_keysThatNeverMatch(t *testing.T) {
	for key, want := range map[string]string{
		"https://api.example.com/v1":          `write scheme, host and port, as in "https://api.example.com:443"`,
		"http://127.0.0.1:37393/reports":      `as in "http://127.0.0.1:37393"`,
		"http://api.example.com?q=1":          `as in "http://api.example.com:80"`,
		"http://api.example.com//":            `as in "http://api.example.com:80"`,
		" HTTPS://api.example.com":            `as in "https://api.example.com:443"`,
		"https://api.example.com:https":       "is not the origin of a URL",
		"https://api.example.com:99999":       "is not the origin of a URL",
		"https//api.example.com":              "is not the origin of a URL",
		"http:/api.example.com":               "is not the origin of a URL",
		"http://":                             "is not the origin of a URL",
		"127.0.0.1:37393":                     `an address without a scheme, and the key of an HTTP request has one: write "http://127.0.0.1:37393" or`,
		"api.example.com:443":                 `or "https://api.example.com:443"; if a function Key`,
		"localhost:8080":                      `let it return "tcp://localhost:8080"`,
		"[::1]:8080":                          `write "http://[::1]:8080"`,
		"https://ada:secret@api.example.com/": "a user name or a password",
		"https://ada:secret/@api.example.com": "a user name or a password",
	} {
		c := stack.DefaultClient("users")
		c.Keyed.Keys = map[string]resilience.Policy{key: resilience.Compose()}
		p, err := c.New()
		wantRejected(t, p, err, []string{`"users"`, want})
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

// The zero Layer and unknown layers have a text too.
func TestLayer_string(t *testing.T) {
	for l, want := range map[stack.Layer]string{
		0: "0", stack.Keyed: "stack.Keyed", stack.Limit | stack.Retry: "stack.Retry|stack.Limit", stack.Attempt | 64: "stack.Attempt|stack.Layer(64)",
	} {
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
