// Package series is the table of all metrics: the collector, the dashboard, the
// alerts and the operator's page are made of it.
package series

// A Type is what a metric is to Prometheus.
type Type string

// The types in use.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// A Label tells the series of a metric apart. Values is all that it can be; it is
// nil where that depends on the configuration of a policy.
type Label struct {
	Name   string
	Values []string
}

// A Metric is one row of the table.
type Metric struct {
	Name   string
	Type   Type
	Labels []Label // after NameLabel, which all metrics have first
	Help   string
}

// Prefix is what the names of all metrics begin with.
const Prefix = "resilience_"

// NameLabel is the label with the name of the policy.
const NameLabel = "name"

// LabelNames returns the names of all labels of m, NameLabel being the first.
func (m *Metric) LabelNames() []string {
	names := []string{NameLabel}
	for _, l := range m.Labels {
		names = append(names, l.Name)
	}
	return names
}

var states = []string{"closed", "open", "half_open"}

// The metrics of breakers.
var (
	BreakerCalls = &Metric{
		Name: "resilience_breaker_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"success", "failure", "ignored", "rejected"}}},
		Help:   "Calls by outcome. Those rejected did not run; of those ignored the caller gave up, or a policy further in refused them.",
	}
	BreakerWouldReject = &Metric{
		Name: "resilience_breaker_would_reject_total", Type: Counter,
		Help: "Calls that ran, and are among those by outcome, only because the breaker is in MetricsOnly.",
	}
	BreakerState = &Metric{
		Name: "resilience_breaker_state", Type: Gauge,
		Labels: []Label{{"state", states}},
		Help:   "How many breakers are in the state: 0 or 1 for a breaker, and of a group how many keys.",
	}
	BreakerMode = &Metric{
		Name: "resilience_breaker_mode", Type: Gauge,
		Labels: []Label{{"mode", []string{"auto", "forced_open", "disabled", "metrics_only"}}},
		Help:   "How many breakers are in the mode, counted as for their state.",
	}
	BreakerTransitions = &Metric{
		Name: "resilience_breaker_transitions_total", Type: Counter,
		Labels: []Label{{"from", states}, {"to", states}, {"rule", nil}},
		Help:   "Transitions by the states that they led from and to, and by what caused them.",
	}
	BreakerOpenSeconds = &Metric{
		Name: "resilience_breaker_open_seconds_total", Type: Counter,
		Help: "Time spent in OPEN, of a group added up over its keys.",
	}
	BreakerProbes = &Metric{
		Name: "resilience_breaker_probes_total", Type: Counter,
		Labels: []Label{{"result", []string{"success", "failure", "ignored", "late"}}},
		Help:   "Calls that HALF_OPEN admitted, by what they meant for the breaker. Those late held their place for longer than ProbeTimeout.",
	}
)

// The metrics of retries.
var (
	RetryCalls = &Metric{
		Name: "resilience_retry_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"first_try", "recovered", "gave_up", "aborted"}}},
		Help:   "Calls by outcome: a success at the first attempt or after a retry, given up, or ended by a panic or runtime.Goexit.",
	}
	RetryAttempts = &Metric{
		Name: "resilience_retry_attempts_total", Type: Counter,
		Labels: []Label{{"kind", []string{"first", "retry"}}},
		Help:   "Attempts by kind, those first once their call is over.",
	}
	RetrySuppressed = &Metric{
		Name: "resilience_retry_suppressed_total", Type: Counter,
		Labels: []Label{{"reason", []string{
			"out_of_attempts", "out_of_budget", "all_failing", "past_deadline", "wait_too_long",
			"rejected", "not_retryable", "inherited", "context_done",
		}}},
		Help: "Calls given up, by why there was no further attempt.",
	}
	RetryBudget = &Metric{
		Name: "resilience_retry_budget_units", Type: Gauge,
		Help: "What is left to pay retries with, in successes at the first attempt, of a group added up over its keys.",
	}
	RetryCapacity = &Metric{
		Name: "resilience_retry_budget_capacity_units", Type: Gauge,
		Help: "What the retry budget can hold at present, of a group added up over its keys.",
	}
)

// The metrics of bulkheads.
var (
	BulkheadCalls = &Metric{
		Name: "resilience_bulkhead_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"completed", "rejected", "canceled"}}},
		Help:   "Calls by outcome. Callers of those canceled gave up while they waited.",
	}
	BulkheadRejected = &Metric{
		Name: "resilience_bulkhead_rejected_total", Type: Counter,
		Labels: []Label{{"reason", []string{"queue_full", "wait_expired"}}},
		Help:   "Calls rejected, by reason.",
	}
	BulkheadInFlight = &Metric{
		Name: "resilience_bulkhead_in_flight", Type: Gauge,
		Help: "Calls that hold a slot.",
	}
	BulkheadWaiting = &Metric{
		Name: "resilience_bulkhead_waiting", Type: Gauge,
		Help: "Callers in line for a slot.",
	}
	BulkheadSlots = &Metric{
		Name: "resilience_bulkhead_slots", Type: Gauge,
		Help: "Slots there are at present, of a group added up over its keys.",
	}
)

// The metrics of limits.
var (
	LimitCalls = &Metric{
		Name: "resilience_limit_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"useful", "gone", "shed", "queue_full", "canceled"}}},
		Help: "Requests by outcome: answered while their caller was there, in the handler when it left, refused in an overload, refused because too many were waiting, and left by their caller while they waited. " +
			"A limit in shadow mode refuses none, so those shed and queue_full are among the useful and gone as well.",
	}
	LimitOverload = &Metric{
		Name: "resilience_limit_overload", Type: Gauge,
		Help: "How many limits have proof of an overload: 0 or 1 for a limit, and of a group how many keys.",
	}
	LimitOverloads = &Metric{
		Name: "resilience_limit_overloads_total", Type: Counter,
		Help: "Overloads that began.",
	}
	LimitInFlight = &Metric{
		Name: "resilience_limit_in_flight", Type: Gauge,
		Help: "Requests in the handler.",
	}
	LimitWaiting = &Metric{
		Name: "resilience_limit_waiting", Type: Gauge,
		Help: "Requests in front of the handler.",
	}
	LimitInForce = &Metric{
		Name: "resilience_limit_in_force", Type: Gauge,
		Help: "Requests that may be in the handler at present, be it under a test, of a group added up over its keys.",
	}
	LimitKnee = &Metric{
		Name: "resilience_limit_knee", Type: Gauge,
		Help: "Requests that the handler needs at once for all the throughput it is capable of, as last measured, 0 if no test has found it yet, of a group added up over its keys.",
	}
	LimitTests = &Metric{
		Name: "resilience_limit_tests_total", Type: Counter,
		Labels: []Label{{"result", []string{"raised", "not_raised", "lowered", "not_lowered", "abandoned"}}},
		Help:   "Tests of another limit by result: a higher one that was kept or not, a lower one that was kept or not, and those that had no result because the load went away.",
	}
)

// The metrics of the other policies, and of groups.
var (
	TimeoutCalls = &Metric{
		Name: "resilience_timeout_calls_total", Type: Counter,
		Help: "Calls started.",
	}
	TimeoutExceeded = &Metric{
		Name: "resilience_timeout_exceeded_total", Type: Counter,
		Labels: []Label{{"result", []string{"failed", "late"}}},
		Help:   "Calls whose time was over, by whether they failed or returned a value late.",
	}
	FallbackCalls = &Metric{
		Name: "resilience_fallback_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"unused", "passed", "used", "failed"}}},
		Help:   "Calls by outcome: a success, a failure that the fallback is not for, one that it answered, one that it failed to answer.",
	}
	StaleCalls = &Metric{
		Name: "resilience_stale_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"fresh", "stale", "failed"}}},
		Help:   "Calls by outcome: a fresh value, a remembered value, an error or a panic.",
	}
	StaleFetches = &Metric{
		Name: "resilience_stale_fetches_total", Type: Counter,
		Help: "Fetches that calls shared.",
	}
	StaleKeys = &Metric{
		Name: "resilience_stale_keys", Type: Gauge,
		Help: "Values that are remembered.",
	}
	KeyedKeys = &Metric{
		Name: "resilience_keyed_keys", Type: Gauge,
		Help: "Keys that a group remembers, without those that have a policy of their own.",
	}
	KeyedEvicted = &Metric{
		Name: "resilience_keyed_evicted_total", Type: Counter,
		Help: "Keys that a group has forgotten.",
	}
	CallDuration = &Metric{
		Name: "resilience_call_duration_seconds", Type: Histogram,
		Labels: []Label{{"outcome", []string{"success", "failure", "ignored", "rejected"}}},
		Help:   "How long calls took, by outcome, where a metrics.Histogram is among the policies.",
	}
)

// All is the table.
var All = []*Metric{
	BreakerCalls, BreakerWouldReject, BreakerState, BreakerMode, BreakerTransitions, BreakerOpenSeconds, BreakerProbes,
	RetryCalls, RetryAttempts, RetrySuppressed, RetryBudget, RetryCapacity,
	BulkheadCalls, BulkheadRejected, BulkheadInFlight, BulkheadWaiting, BulkheadSlots,
	LimitCalls, LimitOverload, LimitOverloads, LimitInFlight, LimitWaiting, LimitInForce, LimitKnee, LimitTests,
	TimeoutCalls, TimeoutExceeded, FallbackCalls, StaleCalls, StaleFetches, StaleKeys, KeyedKeys, KeyedEvicted, CallDuration,
}
