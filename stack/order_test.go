package stack_test

import (
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
)

// Check finds a retry inside a breaker or a bulkhead, and Describe shows what Check finds.
func TestCheck_order(t *testing.T) {
	r := resilience.Must(retry.New(retry.Config{Name: "r"}))
	b := resilience.Must(breaker.New(breaker.Config{Name: "b"}))
	h := resilience.Must(bulkhead.New(bulkhead.Config{Name: "h"}))
	group := func(template, own resilience.Policy) resilience.Policy {
		return resilience.Must(keyed.New(template, keyed.Config{Keys: map[string]resilience.Policy{"own": own}}))
	}
	const inBreaker, inBulkhead = `retry "r" is inside breaker "b": the breaker judges all attempts`, `retry "r" is inside bulkhead "h": a call holds its slot`
	for name, test := range map[string]struct {
		policy resilience.Policy
		want   []string
	}{
		"nil":                   {nil, nil},
		"the default":           {stack.Client("users"), nil},
		"right":                 {resilience.Compose(r, b, h), nil},
		"inside a breaker":      {resilience.Compose(b, r), []string{inBreaker}},
		"inside both":           {resilience.Compose(b, h, r), []string{inBreaker, inBulkhead}},
		"in a user's policy":    {resilience.Compose(h, &foreign{r}), []string{inBulkhead}},
		"in a group":            {resilience.Compose(b, group(r, r)), []string{inBreaker}},
		"in a group, own":       {group(b, resilience.Compose(h, r)), []string{inBulkhead}},
		"other keys of a group": {group(r, b), nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := stack.Check(test.policy)
			if (err != nil) != (test.want != nil) {
				t.Fatalf("error %v", err)
			}
			text := stack.Describe(test.policy)
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) || strings.Count(text, "wrong order: "+want) != 1 {
					t.Errorf("no %q in %v and in\n%s", want, err, text)
				}
			}
			if test.want == nil && strings.Contains(text, "wrong order") {
				t.Errorf("described as\n%s", text)
			}
		})
	}
}
