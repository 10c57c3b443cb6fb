package keyed_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
)

// The default of Max is 1000 keys.
func TestConfig_defaultMax(t *testing.T) {
	g := must(t, resilience.Must(breaker.New(breaker.Config{})), keyed.Config{})
	flood(t, g, 1000)
	if n := g.Stats().Keys; n != 1000 {
		t.Errorf("%d keys of 1000", n)
	}
	flood(t, g, 5000)
	if n := g.Stats().Keys; n > 1000 {
		t.Errorf("%d keys of 5000", n)
	}
}

// Every spelling of an origin in Config.Keys stands for the key of a request, and for
// itself, since a function Key of the user may return it.
func TestConfigKeys_spellings(t *testing.T) {
	for written, keys := range map[string][]string{
		"https://api.example.com":           {"https://api.example.com:443", "https://api.example.com"},
		"https://API.example.com/":          {"https://api.example.com:443", "https://API.example.com/"},
		"http://api.example.com:080":        {"http://api.example.com:80"},
		"http://[0:0::1]":                   {"http://[::1]:80"},
		"http://[fe80::1%25eth0]":           {"http://[fe80::1%eth0]:80"},
		"http://api.example.com?":           {"http://api.example.com:80"},
		"https://api.example.com:443":       {"https://api.example.com:443"},
		"api.example.com":                   {"api.example.com"},
		"dns:///payments:443/a.Payments/Do": {"dns:///payments:443/a.Payments/Do"},
	} {
		g := must(t, resilience.Compose(), keyed.Config{Keys: map[string]resilience.Policy{written: opensAtOnce(clock.NewMock())}})
		_ = run(t, g.For(keys[0]), fail)
		for _, key := range keys {
			if err := run(t, g.For(key), succeed); !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("Keys has %q: %q has another policy: %v", written, key, err)
			}
		}
		if n := g.Stats().Keys; n != 0 {
			t.Errorf("Keys has %q: the group has made %d keys", written, n)
		}
	}
}

// All keys share a template that is no Forker.
func TestNew_templateWithoutFork(t *testing.T) {
	var applied []string
	template := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		applied = append(applied, next.Key())
		return next.Run(ctx)
	})
	g := must(t, template, keyed.Config{})
	for _, key := range []string{"a", "b"} {
		if err := resilience.RunOperation(t.Context(), g, &call{key: key, fn: succeed}); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(applied, []string{"a", "b"}) || g.Stats().Keys != 2 {
		t.Errorf("applied for %q, %+v", applied, g.Stats())
	}
}

// An error of New has the name of the Group and says what to change.
func TestNew_invalid(t *testing.T) {
	var gone *breaker.Breaker
	ok := resilience.Compose()
	for name, test := range map[string]struct {
		template resilience.Policy
		config   keyed.Config
		says     string
	}{
		"two spellings":            {ok, keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"http://A": ok, "http://a:080": ok}}, `"http://A" and "http://a:080", which are both "http://a:80": leave`},
		"a password":               {ok, keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"http://ada:secret@a": ok}}, `a user name or a password, which the key of a request does not have: write scheme, host and port`},
		"no template":              {nil, keyed.Config{Name: "hosts"}, "the template is nil: give it"},
		"a template that is nil":   {gone, keyed.Config{Name: "hosts"}, "the template is nil: give it"},
		"negative Max":             {ok, keyed.Config{Name: "hosts", Max: -1}, "Config.Max is -1: must be at least 1"},
		"a nil function for a key": {ok, keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"x": resilience.PolicyFunc(nil)}}, `Config.Keys["x"] is nil: leave`},
		"nil for a key":            {ok, keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"x": nil}}, `Config.Keys["x"] is nil: leave`},
		"a nil pointer for a key":  {ok, keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"x": gone}}, `Config.Keys["x"] is nil: leave`},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := keyed.New(test.template, test.config)
			if g != nil || err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), `"hosts"`) || strings.Contains(err.Error(), "secret") {
				t.Errorf("New returned %v, %v", g, err)
			}
		})
	}
}
