package endpoint_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

// Stats has the counters and what each endpoint has done.
func TestSet_Stats(t *testing.T) {
	r := newRig(t, 2)
	made := r.clock.Now()
	r.clock.Move(time.Second)
	r.attempt(0, endpoint.Success, 20*ms)
	open := r.at(0)
	r.attempt(1, endpoint.Failure, ms)
	want := endpoint.Stats{
		Counters: endpoint.Counters{Picks: 3},
		Endpoints: []endpoint.EndpointStats{
			{Address: "e00", State: endpoint.In, Since: made, Attempts: 2, InFlight: 1, Latency: 20 * ms},
			{Address: "e01", State: endpoint.In, Since: made, Attempts: 1, Failures: 1},
		},
	}
	got := r.Stats()
	got.Endpoints[0].Latency = got.Endpoints[0].Latency.Round(ms)
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	open.End()
	r.clock.Move(time.Minute)
	ejected := r.clock.Now().Add(ms)
	r.eject(0)
	s := r.Stats().Endpoints[0]
	if s.State != endpoint.Ejected || s.Since != ejected || s.Why != "could not be connected: work failed" || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	if d := s.ProbeAt.Sub(ejected); d < 24*time.Second || d > 36*time.Second {
		t.Errorf("the next probe is due in %v", d)
	}
	r.attempt(0, endpoint.Success, ms)
	s = r.Stats().Endpoints[0]
	if s.State != endpoint.Returning || s.Since != r.clock.Now() || !strings.HasPrefix(s.Why, "was ejected for 1ms: it could not") || !s.ProbeAt.IsZero() {
		t.Errorf("%+v", s)
	}
	if c := r.Stats().Counters; c != (endpoint.Counters{Picks: 4, Probes: 1, Unreachable: 1}) {
		t.Errorf("%+v", c)
	}
}

// The only endpoint of a set is not measured.
func TestSet_Stats_onlyOne(t *testing.T) {
	r := newRig(t, 1)
	r.attempt(0, endpoint.Success, time.Second)
	r.attempt(0, endpoint.Unreachable, time.Second)
	if s := r.Stats(); s.Endpoints[0].Latency != 0 || s.Endpoints[0].Failures != 0 || s.Endpoints[0].Attempts != 2 || s.Picks != 2 {
		t.Errorf("%+v", s)
	}
}

func value(r resilience.Report, name string, labels ...string) float64 {
	for _, v := range r.Values {
		if v.Name == name && fmt.Sprint(v.Labels) == fmt.Sprint(labels) {
			return v.Value
		}
	}
	return -1
}

// Report has the counters, which forks leave out, and the endpoints by state.
func TestSet_Report(t *testing.T) {
	r := newRig(t, 4)
	if got := r.Report(false); got.State != "" || got.Kind != "endpoint" || got.Name != "orders" {
		t.Errorf("%+v", got)
	}
	r.eject(0)
	r.eject(1)
	r.attempt(1, endpoint.Success, ms)
	got := r.Report(true)
	if got.Time != r.clock.Now() || got.Settings == "" {
		t.Errorf("%+v", got)
	}
	for label, want := range map[string]float64{"in": 2, "ejected": 1, "returning": 1} {
		if n := value(got, "replicas", "state", label); n != want {
			t.Errorf("%v endpoints are %s: %+v", n, label, got.Values)
		}
	}
	if value(got, "picks_total", "kind", "in") != 2 || value(got, "picks_total", "kind", "probe") != 1 ||
		value(got, "picks_total", "kind", "all_failing") != 0 || value(got, "ejections_total", "reason", "unreachable") != 2 ||
		value(got, "ejections_total", "reason", "timeout") != 0 || value(got, "ejections_total", "reason", "failures") != 0 {
		t.Errorf("%+v", got.Values)
	}
	fork := r.Fork("eu").(*endpoint.Set).Report(true)
	if value(fork, "picks_total", "kind", "in") != -1 || value(fork, "replicas", "state", "in") != 0 {
		t.Errorf("%+v", fork.Values)
	}
}

// The report of an endpoint has its state and, with details, its numbers.
func TestEndpoint_Report(t *testing.T) {
	r := newRig(t, 2)
	r.attempt(0, endpoint.Success, 20*ms)
	open := r.at(0)
	got := r.Endpoints()[0].Report(true)
	if got.State != endpoint.In || got.Attention || got.Recovering || got.Next != "gets attempts; it answers in 20ms, and 0 % fail" ||
		value(got, "attempts_total") != 2 || value(got, "attempts_percent") != 100 || value(got, "in_flight") != 1 || value(got, "latency_ms") != 20 {
		t.Errorf("%+v", got)
	}
	open.End()
	r.eject(0)
	if got := r.Endpoints()[0].Report(true); got.State != endpoint.Ejected || !got.Attention || got.Why == "" || got.RetryAt.IsZero() || !strings.HasPrefix(got.Next, "is due for a probe in ") {
		t.Errorf("%+v", got)
	}
	if got := r.Endpoints()[0].Report(false); !got.Attention || got.Values != nil || got.Why != "" {
		t.Errorf("%+v", got)
	}
	r.attempt(0, endpoint.Success, ms)
	if got := r.Endpoints()[0].Report(true); got.State != endpoint.Returning || got.Attention || !got.Recovering || got.Next != "starts slowly, with 2 in flight at most" {
		t.Errorf("%+v", got)
	}
}

// resilience.Walk finds the endpoints by their addresses.
func TestSet_Nodes(t *testing.T) {
	r := newRig(t, 3)
	var keys []string
	for n := range r.Nodes() {
		keys = append(keys, n.Key)
		if n.Policy.(*endpoint.Endpoint).Address() != n.Key || !n.Fork {
			t.Errorf("%+v", n)
		}
	}
	for range r.Nodes() {
		break
	}
	if fmt.Sprint(keys) != "[e00 e01 e02]" {
		t.Error(keys)
	}
}

// Explain has one line for each endpoint: its state, since when and why, and what comes next.
func TestSet_Explain(t *testing.T) {
	r := newRig(t, 2)
	r.clock.Move(ms)
	p := r.at(1)
	r.next = []uint64{1 << 63}
	p.Answered(endpoint.Unreachable, errWork)
	p.End()
	if got := r.Explain(); got != "e00 is IN since 2001-09-09 01:46:40.000 UTC: gets attempts\n"+
		"e01 is EJECTED since 2001-09-09 01:46:40.001 UTC: could not be connected: work failed: is due for a probe in 30s at the latest, if there are calls\n" &&
		!strings.Contains(got, "CE") {
		t.Error(got)
	}
}

// String has the name and the number of endpoints.
func TestSet_String(t *testing.T) {
	r := newRig(t, 2)
	all := newSet(t, endpoint.Config{Subset: endpoint.All})
	if got := r.String() + "; " + all.String(); got != `endpoint "orders": 2 endpoints of at most 100; endpoint: 0 endpoints` {
		t.Error(got)
	}
}
