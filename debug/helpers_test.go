package debug_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/keyed"
)

var errDown = errors.New("connection refused")

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return errDown }

func run(t testing.TB, p resilience.Policy, fn resilience.Func) {
	t.Helper()
	_ = resilience.Run(t.Context(), p, fn)
}

// newBreaker returns one that opens at the first failure, by default for an hour.
func newBreaker(mock clock.Clock, name string) *breaker.Breaker {
	return resilience.Must(breaker.New(breaker.Config{
		Name: name, Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: 3600e9, Clock: mock,
	}))
}

func newGroup(t testing.TB, template resilience.Policy, c keyed.Config) *keyed.Group {
	t.Helper()
	g, err := keyed.New(template, c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// policy is one of a user, without a name.
type policy struct{}

func (*policy) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// answer is what the handler answers to a request with those headers.
func answer(t testing.TB, h http.Handler, method, url string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, url, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const url = "/debug/resilience"

// document is the JSON as a reader of it sees it.
type document struct {
	Time    string
	Summary struct {
		Text             string
		Attention, Modes int
		States           map[string]map[string]int
	}
	Faults   []string
	Policies []policyJSON
	Groups   []groupJSON
	Others   []struct{ Type, Text string }
}

type policyJSON struct {
	Kind, Name, Key, State, Mode, Since, Why, Next, Settings string

	Group               *string
	Template, Attention bool
	SinceSeconds        float64 `json:"since_seconds"`
	RetryAt             string  `json:"retry_at"`
	RetryInSeconds      float64 `json:"retry_in_seconds"`
	Values              []valueJSON
	History             []stepJSON
}

type valueJSON struct {
	Name       string
	Labels     map[string]string
	Value, Max float64
}

type stepJSON struct {
	Time, From, To, Mode, Reason, Error string

	Failures, Calls int
	DelaySeconds    float64 `json:"delay_seconds"`
}

type groupJSON struct {
	policyJSON

	States map[string]int
	Keys   []struct {
		Key      string
		Policies []policyJSON
	}
}

// value returns the value of a name and, if given, the value of its one label.
func (p policyJSON) value(t testing.TB, name, label string) float64 {
	t.Helper()
	for _, v := range p.Values {
		matches := label == ""
		for _, l := range v.Labels {
			matches = matches || l == label
		}
		if v.Name == name && matches {
			return v.Value
		}
	}
	t.Errorf("%s has no %s %s", p.Name, name, label)
	return 0
}

func asJSON(t testing.TB, policies ...resilience.Policy) (r document) {
	t.Helper()
	w := answer(t, debug.Handler(policies...), http.MethodGet, url, "Accept", "application/json")
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK {
		t.Fatalf("status %d, %v:\n%s", w.Code, err, w.Body)
	}
	return r
}

func asHTML(t testing.TB, policies ...resilience.Policy) string {
	t.Helper()
	w := answer(t, debug.Handler(policies...), http.MethodGet, url)
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Fatalf("status %d, %s:\n%s", w.Code, got, w.Body)
	}
	return w.Body.String()
}

var (
	ours   = regexp.MustCompile(`(?s)<(style|script)>(.*?)</(?:style|script)>`)
	tags   = regexp.MustCompile(`<[^>]*>`)
	spaces = regexp.MustCompile(`\s+`)
)

// text is what a person reads on the page.
func text(page string) string {
	page = tags.ReplaceAllString(ours.ReplaceAllString(page, ""), "")
	return spaces.ReplaceAllString(html.UnescapeString(page), " ")
}

// elements counts the elements of the page by name, and fails if they are not nested
// as they should be.
func elements(t testing.TB, page string) map[string]int {
	t.Helper()
	if n := len(ours.FindAllString(page, -1)); n != 2 {
		t.Errorf("%d styles and scripts", n)
	}
	d := xml.NewDecoder(strings.NewReader(ours.ReplaceAllString(page, "")))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	all, depth := map[string]int{}, 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("line %d: %v", strings.Count(page[:min(len(page), int(d.InputOffset()))], "\n"), err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			all[token.Name.Local]++
			depth++
			for _, a := range token.Attr {
				if name := strings.ToLower(a.Name.Local); name == "style" || name == "src" || strings.HasPrefix(name, "on") {
					t.Errorf("<%s> has the attribute %s", token.Name.Local, name)
				}
			}
		case xml.EndElement:
			depth--
		}
	}
	if depth != 0 {
		t.Errorf("%d elements are not closed", depth)
	}
	return all
}

// fields adds the paths of all fields of a JSON value. Lists and the maps of states and
// labels have none of their own.
func fields(t testing.TB, prefix string, raw json.RawMessage, all map[string]bool) {
	t.Helper()
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for _, v := range list {
			fields(t, prefix, v, all)
		}
		return
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return
	}
	for name, v := range object {
		all[prefix+name] = true
		if name != "states" && name != "labels" {
			fields(t, prefix+name+".", v, all)
		}
	}
}
