package stack_test

import (
	"iter"
	"slices"
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

// insideItself is a policy that is inside itself, as an inner policy and by keys.
type insideItself struct {
	*retry.Retry
	breaker *breaker.Breaker
}

func (i *insideItself) Unwrap() []resilience.Policy { return []resilience.Policy{i.breaker, i} }

type groupInsideItself struct{ *breaker.Breaker }

func (g *groupInsideItself) Nodes() iter.Seq[resilience.Node] {
	return slices.Values([]resilience.Node{{Policy: g, Key: "a"}, {Policy: g, Key: "b"}})
}

// Check and Describe end for a policy that is inside itself, and for a group without nodes.
func TestCheck_insideItself(t *testing.T) {
	r, b := resilience.Must(retry.New(retry.Config{Name: "r"})), resilience.Must(breaker.New(breaker.Config{Name: "b"}))
	for name, p := range map[string]resilience.Policy{"a policy": &insideItself{r, b}, "a group": &groupInsideItself{b}} {
		err, text := stack.Check(p), stack.Describe(p)
		if !strings.Contains(text, "and more\n") && !strings.HasSuffix(text, "and more") || (err != nil) != (name == "a policy") {
			t.Errorf("%s: error %v, %d bytes of text", name, err, len(text))
		}
	}
	if text := stack.Describe(&nowhere{b}); !strings.HasPrefix(text, `breaker "b"`) {
		t.Errorf("got %s", text)
	}
}

type nowhere struct{ *breaker.Breaker }

func (*nowhere) Nodes() iter.Seq[resilience.Node] { return nil }
