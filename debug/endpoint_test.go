package debug_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

// A Set is a group whose keys are addresses. An ejected endpoint comes first and says since
// when, why and what is next.
func TestHandler_endpoints(t *testing.T) {
	mock := clock.NewMock()
	s := resilience.Must(endpoint.New(endpoint.Config{Name: "payments", Clock: mock, Rand: func() uint64 { return 0 }}))
	s.Update([]string{"10.0.0.1:443", "10.0.0.2:443", "10.0.0.3:443"}, nil)
	attempt := func(r endpoint.Result, took time.Duration) {
		p, _ := s.Pick(nil)
		mock.Add(took)
		p.Answered(r, errDown)
		p.End()
	}
	attempt(endpoint.Success, 20*time.Millisecond)
	attempt(endpoint.Unreachable, 0)
	mock.Add(3 * time.Second)
	for range 3 {
		attempt(endpoint.Success, 20*time.Millisecond)
	}
	r := asJSON(t, s)
	if len(r.Groups) != 1 || len(r.Groups[0].Keys) != 3 {
		t.Fatalf("groups %+v", r.Groups)
	}
	g := r.Groups[0]
	if g.Kind != "endpoint" || g.Name != "payments" || g.States["EJECTED"] != 1 || g.States["IN"] != 2 || g.value(t, "ejections_total", "unreachable") != 1 {
		t.Errorf("group %+v", g)
	}
	first := g.Keys[0]
	out := first.Policies[0]
	if !out.Attention || out.Why != "could not be connected: connection refused" || !strings.Contains(out.Next, "probe") || out.SinceSeconds < 3 || out.RetryAt == "" {
		t.Errorf("ejected endpoint %+v", out)
	}
	in := g.Keys[1].Policies[0]
	if g.Keys[2].Policies[0].value(t, "attempts_total", "") > in.value(t, "attempts_total", "") {
		in = g.Keys[2].Policies[0]
	}
	if in.Next != "gets attempts; it answers in 20ms, and 0 % fail" || in.value(t, "latency_ms", "") != 20 || in.value(t, "attempts_percent", "") == 0 {
		t.Errorf("endpoint %+v", in)
	}
	page := text(asHTML(t, s))
	for _, want := range []string{"1 needs attention", "10.0.0", out.Why, out.Next, in.Next, fmt.Sprintf("%s EJECTED for 3", first.Key)} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}
