package debug_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
)

// hosts is a group of n keys, of which each third is OPEN.
func hosts(t testing.TB, mock clock.Clock, n int) *keyed.Group {
	g := newGroup(t, resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "hosts", MaxAttempts: 1})),
		newBreaker(mock, "hosts"),
		resilience.Must(bulkhead.New(bulkhead.Config{Name: "hosts", Slots: 7})),
	), keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"batch": newBreaker(mock, "batch")}})
	for i := range n {
		key := fmt.Sprintf("host-%03d", i)
		run(t, g.For(key), succeed)
		if i%3 == 0 {
			run(t, g.For(key), fail)
		}
	}
	return g
}

func TestTheKeysOfAGroup(t *testing.T) {
	mock := clock.NewMock()
	g := hosts(t, mock, 300)
	mock.Add(time.Minute)
	r := asJSON(t, g)
	if want := "100 of 301 breakers are not CLOSED"; r.Summary.Text != want {
		t.Errorf("got %q, want %q", r.Summary.Text, want)
	}
	if len(r.Groups) != 1 || len(r.Groups[0].Keys) != 300 {
		t.Fatalf("%d groups", len(r.Groups))
	}
	got := r.Groups[0]
	if got.Name != "hosts" || got.States["open"] != 100 || got.States["closed"] != 200 || got.States["half_open"] != 0 {
		t.Errorf("got %s with %v", got.Name, got.States)
	}
	var names []string
	for i, k := range got.Keys {
		state := "CLOSED"
		if i < 100 {
			state = "OPEN"
		}
		if len(k.Breakers) != 1 || k.Breakers[0].State != state || k.Breakers[0].Key != k.Key || k.Breakers[0].Calls != nil {
			t.Fatalf("key %d, %s, has %+v, want %s and no counters", i, k.Key, k.Breakers, state)
		}
		if len(k.Retries) != 1 || k.Retries[0].Calls != nil || k.Retries[0].Budget == nil {
			t.Fatalf("key %s has retries %+v", k.Key, k.Retries)
		}
		if len(k.Bulkheads) != 1 || k.Bulkheads[0].Calls != nil || *k.Bulkheads[0].Limit != 7 {
			t.Fatalf("key %s has bulkheads %+v", k.Key, k.Bulkheads)
		}
		names = append(names, k.Key)
	}
	if !slices.IsSorted(names[:100]) || !slices.IsSorted(names[100:]) {
		t.Errorf("not by name: %q", names)
	}
	// What they are forked from has the counters of all, and nothing else.
	if b := r.Breakers[0]; len(r.Breakers) != 2 || b.Name != "hosts" || b.Group == nil || *b.Group != "hosts" || b.State != "" ||
		b.Calls["successes"] != 300 || b.Calls["failures"] != 100 || r.Breakers[1].State != "CLOSED" {
		t.Errorf("breakers %+v", r.Breakers)
	}
	if one := r.Retries[0]; len(r.Retries) != 1 || one.Budget != nil || one.Calls.FirstTry != 300 || one.Group != "hosts" {
		t.Errorf("retries %+v", one)
	}
	if one := r.Bulkheads[0]; len(r.Bulkheads) != 1 || one.Limit != nil || one.Calls.Completed != 400 || one.Group != "hosts" {
		t.Errorf("bulkheads %+v", one)
	}
}

var rows = regexp.MustCompile(`<details class="row" data-key="keyed/hosts//host-`)

func TestThePageHasAHundredKeysOfAGroupAndSaysHowManyMoreThereAre(t *testing.T) {
	for _, test := range []struct {
		keys, rows, cards int
		more              []string
	}{
		{99, 99, 33, nil},
		{100, 100, 34, nil},
		{101, 100, 34, []string{"and 1 more key: 1 CLOSED."}},
		{306, 100, 100, []string{"and 206 more keys: 2 OPEN, 204 CLOSED.", "and 2 more breakers: 2 OPEN."}},
	} {
		t.Run(fmt.Sprint(test.keys), func(t *testing.T) {
			g := hosts(t, clock.NewMock(), test.keys)
			page := asHTML(t, g)
			if n := len(rows.FindAllString(page, -1)); n != test.rows {
				t.Errorf("%d rows, want %d", n, test.rows)
			}
			if n := elements(t, page)["article"]; n != test.cards {
				t.Errorf("%d cards, want %d", n, test.cards)
			}
			for _, more := range test.more {
				if !strings.Contains(text(page), more) {
					t.Errorf("the page does not say %q", more)
				}
			}
			if n := strings.Count(page, "The JSON has all"); n != len(test.more) {
				t.Errorf("says %d times that there are more", n)
			}
			if n := len(asJSON(t, g).Groups[0].Keys); n != test.keys {
				t.Errorf("the JSON has %d keys", n)
			}
		})
	}
}

// New keys take the mode of what they are forked from, so that is to be seen.
func TestAModeOfAllKeysToComeIsShown(t *testing.T) {
	b := newBreaker(nil, "hosts")
	g := newGroup(t, b, keyed.Config{Name: "hosts"})
	b.SetMode(breaker.ForcedOpen)
	r := asJSON(t, g)
	if r.Summary.Text != "1 of 1 breaker is not CLOSED; 1 in a mode other than Auto" || r.Breakers[0].Mode != "ForcedOpen" {
		t.Errorf("got %+v", r)
	}
	if page := text(asHTML(t, g)); !strings.Contains(page, "hosts, all keys of hosts OPEN ForcedOpen") {
		t.Errorf("got %s", page)
	}
}

func TestTheDefaultStacksAreShown(t *testing.T) {
	p := stack.Client("payments")
	run(t, p, succeed)
	r := asJSON(t, p, stack.Server("front"))
	if r.Summary.Text != "The breaker is CLOSED" || len(r.Groups) != 1 || len(r.Groups[0].Keys) != 1 || len(r.Timeouts) != 1 ||
		r.Timeouts[0].Group != "payments" || len(r.Bulkheads) != 1 || len(r.Limits) != 1 || r.Limits[0].Name != "front" || *r.Limits[0].Limit != 64 {
		t.Errorf("got %+v", r)
	}
	elements(t, asHTML(t, p, stack.Server("front")))
}

// A template may serve calls of its own, or be the exception of its own group.
func TestATemplateThatServesCallsItselfIsShownAsItStands(t *testing.T) {
	for _, test := range []string{"before the group", "after it", "as an exception"} {
		t.Run(test, func(t *testing.T) {
			template := resilience.Compose(
				resilience.Must(retry.New(retry.Config{Name: "r"})),
				newBreaker(clock.NewMock(), "b"),
				resilience.Must(bulkhead.New(bulkhead.Config{Name: "h", Slots: 7})),
			)
			c := keyed.Config{Name: "g"}
			if test == "as an exception" {
				c.Keys = map[string]resilience.Policy{"k": template}
			}
			g := newGroup(t, template, c)
			run(t, g.For("another"), succeed)
			var r report
			switch test {
			case "before the group":
				r = asJSON(t, template, g)
			case "after it":
				r = asJSON(t, resilience.Compose(g, template))
			default:
				r = asJSON(t, g)
			}
			if want := "All 2 breakers are CLOSED"; r.Summary.Text != want {
				t.Errorf("got %q, want %q", r.Summary.Text, want)
			}
			if len(r.Breakers) != 1 || r.Breakers[0].State != "CLOSED" || r.Breakers[0].Group == nil || *r.Breakers[0].Group != "g" {
				t.Errorf("breakers %+v", r.Breakers)
			}
			if len(r.Bulkheads) != 1 || r.Bulkheads[0].Limit == nil {
				t.Errorf("bulkheads %+v", r.Bulkheads)
			}
			if len(r.Retries) != 1 || r.Retries[0].Budget == nil {
				t.Errorf("retries %+v", r.Retries)
			}
		})
	}
}
