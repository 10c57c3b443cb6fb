package stack_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

func ExampleClientConfig_String() {
	fmt.Println(stack.DefaultClient("payments"))
	// Output:
	// keyed "payments": up to 1000 keys, each with a state of its own
	//   retry "payments": 3 attempts, waits of up to 1s, budget of 20 at 5 a retry, 20 after a timeout
	//     breaker "payments": opens on Silence{Failures: 7, Span: time.Second}, for about 1/32 of the silence, 50ms to 5s, or for the RetryAfter of a failure up to 1m0s; closes after 64 successes; probes have 15s; a success counts when answered
	//       bulkhead "payments": 24 slots or more, sizes itself, queue of half as many, waits of up to 100ms
	//         timeout "payments": 10s until answered
	//           operation
}

func ExampleServerConfig_String() {
	c := stack.DefaultServer("orders")
	c.Bulkhead = bulkhead.Config{Slots: 5000, MaxQueue: -1} // streams included, until they end
	fmt.Println(c)
	// Output:
	// limit "orders": set by trials in an overload
	//   bulkhead "orders": 5000 slots, no queue
	//     operation
}

func ExampleDescribe() {
	fmt.Println(stack.Describe(resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "users", MaxAttempts: 2})),
		resilience.Must(timeout.New(timeout.Config{Timeout: time.Second})),
	)))
	// Output:
	// retry "users": 2 attempts, waits of up to 1s, budget of 20 at 5 a retry, 20 after a timeout
	//   timeout: 1s until ended
	//     operation
}

// Each policy describes itself with the numbers that it works with.
func TestDescribe_numbers(t *testing.T) {
	must := func(p resilience.Policy, err error) resilience.Policy {
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	newBreaker := func(c breaker.Config) resilience.Policy { return resilience.Must(breaker.New(c)) }
	newRetry := func(c retry.Config) resilience.Policy { return resilience.Must(retry.New(c)) }
	newBulkhead := func(c bulkhead.Config) resilience.Policy { return resilience.Must(bulkhead.New(c)) }
	newLimit := func(c limit.Config) resilience.Policy { return resilience.Must(limit.New(c)) }
	answer := func(context.Context, error) error { return nil }
	const open, rest = "opens on Consecutive{Failures: 2}, ", ", or for the RetryAfter of a failure up to 1m0s; closes after 64 successes; probes have 15s; a success counts when answered"
	trip := []breaker.Rule{breaker.Consecutive{Failures: 2}}
	for _, test := range []struct {
		policy resilience.Policy
		want   string
	}{
		{newBreaker(breaker.Config{Name: "b", Trip: trip, MaxOpenFor: time.Second}), `breaker "b": ` + open + "for about 1/32 of the silence, 50ms to 1s" + rest},
		{newBreaker(breaker.Config{Trip: trip, OpenFor: time.Second}), "breaker: " + open + "for 1s" + rest},
		{newBreaker(breaker.Config{Trip: trip, OpenFor: time.Second, MaxOpenFor: 8 * time.Second}), "breaker: " + open + "for 1s doubling up to 8s" + rest},
		{newBreaker(breaker.Config{
			Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}, breaker.Silence{Failures: 3, Span: time.Minute}}, OpenFor: time.Second,
			CloseAfter: 1, ProbeTimeout: breaker.Unbounded, Until: resilience.Ended,
		}), "breaker: opens on Consecutive{Failures: 2} or Silence{Failures: 3, Span: time.Minute}, for 1s, or for the RetryAfter of a failure up to 1m0s; closes at the first success; probes have no timeout; a success counts when ended"},
		{newBreaker(breaker.Config{Trip: trip, OpenFor: time.Second}).(*breaker.Breaker).Fork("a.example"), `breaker for "a.example": ` + open + "for 1s" + rest},

		{newRetry(retry.Config{MaxAttempts: 20, MaxDelay: time.Minute}), "retry: 20 attempts, waits of up to 1m0s, budget of 95 at 5 a retry, 20 after a timeout"},
		{newRetry(retry.Config{BaseDelay: 2 * time.Second, Budget: -1}), "retry: 3 attempts, waits of up to 2s, no budget"},
		{newRetry(retry.Config{MaxDelay: -1, Budget: 7}), "retry: 3 attempts, unbounded waits, budget of 7 at 5 a retry, 20 after a timeout"},
		{newRetry(retry.Config{Name: "r", MaxAttempts: 1}), `retry "r": 1 attempt`},

		{newBulkhead(bulkhead.Config{MaxQueue: 5, MaxWait: time.Second}), "bulkhead: 24 slots or more, sizes itself, queue of 5, waits of up to 1s"},
		{newBulkhead(bulkhead.Config{Slots: 9}), "bulkhead: 9 slots, queue of 5, waits of up to 100ms"},
		{newBulkhead(bulkhead.Config{Slots: 9, MaxQueue: 1, MaxWait: -1}), "bulkhead: 9 slots, queue of 1, unbounded waits"},

		{newLimit(limit.Config{Name: "l"}), `limit "l": set by trials in an overload`},
		{newLimit(limit.Config{Max: 20, MaxQueue: -1}), "limit: set by trials in an overload, 20 in flight at most, no queue"},
		{newLimit(limit.Config{Max: 200, MaxQueue: 9, Shadow: true}).(*limit.Limit).Fork("a"), `limit for "a": set by trials in an overload, 200 in flight at most, queue of 9, only counts what it would reject`},

		{must(timeout.New(timeout.Config{Timeout: -1})), "timeout: no timeout"},
		{must(keyed.New(resilience.Compose(), keyed.Config{Max: 1})), "keyed: up to 1 key, each with a state of its own"},
		{must(keyed.New(resilience.Compose(), keyed.Config{Keys: map[string]resilience.Policy{"b": resilience.Compose(), "a": resilience.Compose()}})),
			`keyed: up to 1000 keys, each with a state of its own; a policy of its own for ["a" "b"]`},
		{must(fallback.New(fallback.Config{Name: "f", Handle: answer})), `fallback "f": answers for failures and rejections`},
		{must(fallback.New(fallback.Config{Handle: answer, If: func(error) bool { return true }})), "fallback: answers for errors that If chooses"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if got := fmt.Sprint(test.policy); got != test.want {
				t.Errorf("got %q", got)
			}
			if got, _, _ := strings.Cut(stack.Describe(test.policy), "\n"); got != test.want {
				t.Errorf("described as %q", got)
			}
		})
	}
}

// foreign is a user's policy around another policy.
type foreign struct{ inner resilience.Policy }

func (f *foreign) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (f *foreign) Unwrap() []resilience.Policy                           { return []resilience.Policy{f.inner} }

// entitled has a name.
type entitled struct{ foreign }

func (entitled) Name() string { return "mine" }

// Describe shows every policy inside another.
func TestDescribe_insides(t *testing.T) {
	limit := resilience.Must(timeout.New(timeout.Config{Timeout: time.Second}))
	other := resilience.Must(timeout.New(timeout.Config{Name: "slow", Timeout: time.Minute}))
	group := resilience.Must(keyed.New(resilience.Compose(&entitled{}, limit), keyed.Config{
		Keys: map[string]resilience.Policy{"a": resilience.Compose(other, other), "b": resilience.Compose()},
	}))
	for name, test := range map[string]struct {
		policy resilience.Policy
		want   []string
	}{
		"nil":               {nil, []string{"operation"}},
		"a nil pointer":     {(*breaker.Breaker)(nil), []string{"operation"}},
		"an empty pipeline": {resilience.Compose(), []string{"operation"}},
		"one of a user": {resilience.Compose(&foreign{limit}, other), []string{
			"*stack_test.foreign", "  timeout: 1s until ended", `    timeout "slow": 1m0s until ended`, "      operation",
		}},
		"a group, and inside it": {resilience.Compose(group, limit), []string{
			`keyed: up to 1000 keys, each with a state of its own; a policy of its own for ["a" "b"]`,
			`  *stack_test.entitled "mine"`, "    timeout: 1s until ended", "      timeout: 1s until ended", "        operation",
			`  timeout "slow": 1m0s until ended`, `    timeout "slow": 1m0s until ended`, "      timeout: 1s until ended", "        operation",
			"  timeout: 1s until ended", "    operation",
		}},
		"a key of a group": {resilience.Must(keyed.New(limit, keyed.Config{})).For("a"), []string{
			`key "a"`, "  keyed: up to 1000 keys, each with a state of its own", "    timeout: 1s until ended", "      operation",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stack.Describe(test.policy); got != strings.Join(test.want, "\n") {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

// The String of an invalid configuration is the error of New.
func TestConfigString_invalid(t *testing.T) {
	client := stack.DefaultClient("users")
	client.Keyed.Max = -1
	server := stack.DefaultServer("orders")
	server.Limit.Max = -1
	for got, make := range map[string]func() (resilience.Policy, error){client.String(): client.New, server.String(): server.New} {
		if _, err := make(); err == nil || got != err.Error() {
			t.Errorf("%q, but New says %v", got, err)
		}
	}
}
