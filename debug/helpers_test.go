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

// report is what the JSON has, as a reader of it sees it.
type report struct {
	Summary struct {
		Text      string
		Breakers  int
		NotClosed int `json:"not_closed"`
		NotAuto   int `json:"not_auto"`

		Limits, Overloaded int
	}
	Faults    []string
	Breakers  []breakerReport
	Groups    []groupReport
	Retries   []retryReport
	Bulkheads []bulkheadReport
	Limits    []limitReport
	Timeouts  []struct {
		Name, Group           string
		Calls, Exceeded, Late uint64
	}
	Fallbacks []struct {
		Name                         string
		Unused, Passed, Used, Failed uint64
	}
	Others []struct{ Type, Text string }
}

type breakerReport struct {
	Name, Key, State, Mode, Why, Next, Since string

	Group          *string
	SinceSeconds   float64 `json:"since_seconds"`
	RetryAt        string  `json:"retry_at"`
	RetryInSeconds float64 `json:"retry_in_seconds"`
	OpenNow        float64 `json:"open_now_seconds"`
	Rules          []struct {
		Rule        string
		Hits, Calls int
	}
	Probing *struct {
		Credit   int
		InFlight int `json:"in_flight"`
	}
	History []stepReport
	Began   *stepReport
	Calls   map[string]float64
}

type stepReport struct {
	From, To, Reason, Error, Time string

	OpenFor float64 `json:"open_for_seconds"`
}

type groupReport struct {
	Name    string
	States  map[string]int
	Evicted int

	Overloaded int

	Keys []struct {
		Key       string
		Breakers  []breakerReport
		Retries   []retryReport
		Bulkheads []bulkheadReport
		Limits    []limitReport
	}
}

type retryReport struct {
	Name, Group string
	Budget      *struct{ Level, Capacity int }
	Calls       *struct {
		Attempts, Retries uint64
		FirstTry          uint64 `json:"first_try"`
		Suppressed        map[string]uint64
	}
}

type bulkheadReport struct {
	Name, Group string
	Limit       *int
	Waiting     int
	InFlight    int `json:"in_flight"`
	Calls       *struct {
		Completed, Canceled uint64
		Rejected            map[string]uint64
	}
}

type limitReport struct {
	Name, Key, State, Settings string

	Group    *string
	Limit    *int
	Knee     *float64
	Waiting  int
	InFlight int `json:"in_flight"`
	Calls    *struct {
		Useful, Gone, Canceled, Overloads uint64
		Rejected, Tests                   map[string]uint64
	}
}

func asJSON(t testing.TB, policies ...resilience.Policy) (r report) {
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
