package debug_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// says is a policy with a String.
type says struct{ text func() string }

func (*says) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (s *says) String() string                                      { return s.text() }

// Names, keys and error texts of any kind are escaped and bounded.
func TestHandler_hostileTexts(t *testing.T) {
	for name, hostile := range map[string]string{
		"an element":         `"><script>alert(1)</script>`,
		"an end":             `</title></svg></main></script><img src=x onerror=alert(1)>`,
		"a template":         `{{.}} ${1} ' onmouseover='alert(1)`,
		"control characters": "a\x00\x1b[31m\r\n\u202ereversed\u2066",
		"no UTF-8":           "a\xff\xfe\xc3(",
		"a megabyte":         strings.Repeat("é<", 1<<19),
		"a megabyte of ctl":  strings.Repeat("\x01", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			name := hostile[:min(len(hostile), 1<<15)] // by the program, and quoted by String
			b := newBreaker(clock.NewMock(), name)
			g := newGroup(t, resilience.Compose(
				b,
				resilience.Must(retry.New(retry.Config{Name: name})),
				resilience.Must(bulkhead.New(bulkhead.Config{Name: name})),
				resilience.Must(timeout.New(timeout.Config{Name: name})),
				resilience.Must(fallback.New(fallback.Config{Name: name, Handle: func(_ context.Context, err error) error { return err }})),
			), keyed.Config{Name: name, Keys: map[string]resilience.Policy{name + "!": newBreaker(nil, "own")}})
			plain := newBreaker(clock.NewMock(), name)
			for _, p := range []resilience.Policy{g.For(hostile), plain} {
				run(t, p, func(context.Context) error { return errors.New(hostile) })
			}
			policies := []resilience.Policy{g, plain, &says{func() string { return hostile }}, &says{func() string { panic(hostile) }}}
			page := asHTML(t, policies...)
			found := elements(t, page)
			if found["main"] != 1 || found["title"] != 1+found["rect"] || found["img"] != 0 || found["script"] != 0 {
				t.Errorf("elements %v", found)
			}
			for of, s := range map[string]string{
				"HTML": page,
				"JSON": answer(t, debug.Handler(policies...), http.MethodGet, url+"?format=json").Body.String(),
			} {
				if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\x01\r\u202e\u2066") {
					t.Errorf("the %s has characters that it should not", of)
				}
				if len(s) > 60_000 {
					t.Errorf("the %s has %d bytes", of, len(s))
				}
			}
			r := asJSON(t, policies...)
			if len(r.Faults) != 1 || len(r.Others) != 1 || r.Summary.Attention != 2 {
				t.Errorf("got %+v", r)
			}
			for _, name := range []string{r.Policies[0].Name, r.Groups[0].Keys[0].Key, r.Others[0].Text, r.Faults[0]} {
				if len(name) > 200 || name == "" {
					t.Errorf("a name of %d bytes", len(name))
				}
			}
		})
	}
}

// broken is a clock that panics from some time on.
type broken struct {
	clock.Clock
	now bool
}

func (b *broken) Now() time.Time {
	if b.now {
		panic("no time")
	}
	return b.Clock.Now()
}

func (b *broken) Since(at time.Time) time.Duration { return b.Now().Sub(at) }

// endless is a policy with two new ones inside at each call.
type endless struct{ inside }

func (*endless) Unwrap() []resilience.Policy {
	return []resilience.Policy{&endless{}, &endless{}}
}

// inside is a policy with others inside.
type inside struct{ policies []resilience.Policy }

func (*inside) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (i *inside) Unwrap() []resilience.Policy                         { return i.policies }

// A policy inside itself is shown once, and is no fault.
func TestHandler_policyInsideItself(t *testing.T) {
	i := &inside{}
	i.policies = []resilience.Policy{i, newBreaker(nil, "b"), resilience.Compose(i)}
	if r := asJSON(t, i); len(r.Policies) != 1 || len(r.Faults) != 0 {
		t.Errorf("got %+v", r)
	}
}

// refuses is a policy whose Unwrap panics.
type refuses struct{ policy }

func (*refuses) Unwrap() []resilience.Policy { panic("none of your business") }

// functional is a policy that cannot be compared with another.
type functional func()

func (functional) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// A policy whose methods panic is named, and all others are shown.
func TestHandler_panickingPolicy(t *testing.T) {
	stopped := &broken{Clock: clock.NewMock()}
	places := resilience.Must(bulkhead.New(bulkhead.Config{Name: "hosts"}))
	g := newGroup(t, resilience.Compose(newBreaker(stopped, "hosts"), places), keyed.Config{Name: "hosts"})
	run(t, g.For("a"), succeed)
	tries := resilience.Must(retry.New(retry.Config{Name: "tries", Clock: stopped}))
	stopped.now = true
	policies := []resilience.Policy{
		&says{func() string { panic("speechless") }}, newBreaker(clock.NewMock(), "first"), g, tries,
		&refuses{}, &endless{}, functional(nil), newBreaker(clock.NewMock(), "last"),
	}
	r, page := asJSON(t, policies...), text(asHTML(t, policies...))
	for _, want := range []string{
		"*debug_test.says panics: speechless",
		"*breaker.Breaker panics: no time",
		"*retry.Retry panics: no time",
		"*debug_test.refuses panics: none of your business",
		"*debug_test.endless has more than 100000 policies inside it: the rest is not shown",
	} {
		if !strings.Contains(fmt.Sprint(r.Faults), want) || !strings.Contains(page, want) {
			t.Errorf("the faults %q do not say %q, or the page", r.Faults, want)
		}
	}
	if r.Summary.States["breaker"]["CLOSED"] != 2 || !strings.HasSuffix(r.Summary.Text, "not all policies could be read") {
		t.Errorf("got %+v", r.Summary)
	}
	if len(r.Groups) != 1 || len(r.Groups[0].Keys) != 1 || r.Groups[0].Keys[0].Key != "a" || r.Groups[0].Keys[0].Policies[0].Kind != "bulkhead" {
		t.Errorf("groups %+v", r.Groups)
	}
	if n := len(r.Policies); n != 3 || r.Policies[2].Name != "last" { // the bulkhead's template is the other
		t.Errorf("policies %+v", r.Policies)
	}
}

// At most 100 faults are shown.
func TestHandler_manyFaults(t *testing.T) {
	var policies []resilience.Policy
	for range 5000 {
		policies = append(policies, &says{func() string { panic("speechless") }})
	}
	if r := asJSON(t, policies...); len(r.Faults) != 101 || r.Faults[100] != "and more" {
		t.Errorf("%d faults", len(r.Faults))
	}
}

// A clock may have a time that RFC 3339 cannot express, or be set back.
func TestHandler_unwritableTime(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC))
	b := newBreaker(mock, "late")
	run(t, b, fail)
	if r := asJSON(t, b); r.Policies[0].State != "OPEN" || r.Policies[0].Since != "" || r.Summary.Attention != 1 {
		t.Errorf("got %+v", r.Policies[0])
	}
	mock.Set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if r := asJSON(t, b); r.Policies[0].SinceSeconds != 0 {
		t.Errorf("%v seconds since a time to come", r.Policies[0].SinceSeconds)
	}
	elements(t, asHTML(t, b))
}

// A policy's String may request the page: no lock is held while user code runs.
func TestHandler_calledByPolicy(t *testing.T) {
	var b *breaker.Breaker
	var inner document
	p := &says{func() string {
		if inner.Policies == nil {
			inner = asJSON(t, b)
		}
		return "asked"
	}}
	b = newBreaker(nil, "b")
	if r := asJSON(t, p, b); len(r.Policies) != 1 || len(inner.Policies) != 1 {
		t.Errorf("got %+v and inside %+v", r, inner)
	}
}
