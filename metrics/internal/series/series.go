// Package series is the table of the metrics of this module. The collector matches
// reports against it. The dashboard, the alerts and docs/observability.md are generated
// from it.
package series

// A Type is the type of a metric in Prometheus.
type Type string

// The types of metrics.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// A Label is one label of a metric. Values are all values that it can have, nil if they
// depend on the configuration of a policy.
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

// Prefix starts the name of every metric.
const Prefix = "resilience_"

// NameLabel is the label whose value is the name of the policy.
const NameLabel = "name"

// LabelNames returns the names of all labels of m, NameLabel first.
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
		Help:   "Calls by outcome. A rejected call did not run. A call is ignored if its caller gave up or an inner policy rejected it.",
	}
	BreakerWouldReject = &Metric{
		Name: "resilience_breaker_would_reject_total", Type: Counter,
		Help: "Calls that ran only because the breaker is in MetricsOnly. They are also counted by outcome.",
	}
	BreakerState = &Metric{
		Name: "resilience_breaker_state", Type: Gauge,
		Labels: []Label{{"state", states}},
		Help:   "Breakers in the state: 0 or 1 for a breaker, the number of keys for a group.",
	}
	BreakerMode = &Metric{
		Name: "resilience_breaker_mode", Type: Gauge,
		Labels: []Label{{"mode", []string{"auto", "forced_open", "disabled", "metrics_only"}}},
		Help:   "Breakers in the mode: 0 or 1 for a breaker, the number of keys for a group.",
	}
	BreakerTransitions = &Metric{
		Name: "resilience_breaker_transitions_total", Type: Counter,
		Labels: []Label{{"from", states}, {"to", states}, {"rule", nil}},
		Help:   "Transitions by the state before, the state after and the cause.",
	}
	BreakerOpenSeconds = &Metric{
		Name: "resilience_breaker_open_seconds_total", Type: Counter,
		Help: "Time spent in OPEN. For a group it is the sum over its keys.",
	}
	BreakerProbes = &Metric{
		Name: "resilience_breaker_probes_total", Type: Counter,
		Labels: []Label{{"result", []string{"success", "failure", "ignored", "late"}}},
		Help:   "Calls that HALF_OPEN admitted, by result. A late probe took longer than ProbeTimeout.",
	}
)

// The metrics of retries.
var (
	RetryCalls = &Metric{
		Name: "resilience_retry_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"first_try", "recovered", "gave_up", "aborted"}}},
		Help:   "Calls by outcome: a success at the first attempt, a success after a retry, a failure that was not retried again, or a panic or runtime.Goexit.",
	}
	RetryAttempts = &Metric{
		Name: "resilience_retry_attempts_total", Type: Counter,
		Labels: []Label{{"kind", []string{"first", "retry"}}},
		Help:   "Attempts by kind. First attempts are counted when their call ends.",
	}
	RetrySuppressed = &Metric{
		Name: "resilience_retry_suppressed_total", Type: Counter,
		Labels: []Label{{"reason", []string{
			"out_of_attempts", "out_of_budget", "all_failing", "past_deadline", "wait_too_long",
			"rejected", "not_retryable", "inherited", "context_done",
		}}},
		Help: "Calls that gave up, by the reason for no further attempt.",
	}
	RetryBudget = &Metric{
		Name: "resilience_retry_budget_units", Type: Gauge,
		Help: "Units left in the retry budget. A success at the first attempt earns one. For a group it is the sum over its keys.",
	}
	RetryCapacity = &Metric{
		Name: "resilience_retry_budget_capacity_units", Type: Gauge,
		Help: "Units that the retry budget can hold at present. For a group it is the sum over its keys.",
	}
)

// The metrics of bulkheads.
var (
	BulkheadCalls = &Metric{
		Name: "resilience_bulkhead_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"completed", "rejected", "canceled"}}},
		Help:   "Calls by outcome. A call is canceled if its caller gave up in the queue.",
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
		Help: "Calls queued for a slot.",
	}
	BulkheadSlots = &Metric{
		Name: "resilience_bulkhead_slots", Type: Gauge,
		Help: "Slots at present. For a group it is the sum over its keys.",
	}
	BulkheadCongested = &Metric{
		Name: "resilience_bulkhead_congested", Type: Gauge,
		Help: "1 while a congestion window bounds the slots, because calls time out. For a group it is the number of its keys with one.",
	}
)

// The metrics of limits.
var (
	LimitCalls = &Metric{
		Name: "resilience_limit_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"useful", "gone", "shed", "queue_full", "canceled"}}},
		Help: "Requests by outcome. Useful: answered while the caller waited for it. Gone: the caller left while the handler ran. Shed: rejected during an overload. Queue_full: rejected because the queue was full. Canceled: the caller left the queue. " +
			"A limit in shadow mode rejects no request, so it also counts shed and queue_full requests as useful or gone.",
	}
	LimitRejected = &Metric{
		Name: "resilience_limit_rejected_total", Type: Counter,
		Labels: []Label{{"priority", []string{"lowest", "low", "normal", "critical"}}},
		Help:   "Requests rejected, by priority: those that are counted as shed or queue_full. A limit in shadow mode counts none.",
	}
	LimitOverload = &Metric{
		Name: "resilience_limit_overload", Type: Gauge,
		Help: "Limits with proof of an overload: 0 or 1 for a limit, the number of keys for a group.",
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
		Help: "Requests queued for the handler.",
	}
	LimitInForce = &Metric{
		Name: "resilience_limit_in_force", Type: Gauge,
		Help: "Requests that may be in the handler at present, also during a trial. It is 0 while no limit is in force and Max is not set. For a group it is the sum over its keys.",
	}
	LimitKnee = &Metric{
		Name: "resilience_limit_knee", Type: Gauge,
		Help: "Concurrent requests that the handler needs for its full throughput, as last measured. It is 0 until a trial has shown it. For a group it is the sum over its keys.",
	}
	LimitTests = &Metric{
		Name: "resilience_limit_tests_total", Type: Counter,
		Labels: []Label{{"result", []string{"raised", "not_raised", "lowered", "not_lowered", "abandoned"}}},
		Help:   "Trials of another limit by result: a higher limit that was kept or not, a lower limit that was kept or not, or no result because the handler stalled.",
	}
)

// The metrics of endpoints.
var (
	EndpointPicks = &Metric{
		Name: "resilience_endpoint_picks_total", Type: Counter,
		Labels: []Label{{"kind", []string{"in", "probe", "all_failing"}}},
		Help:   "Attempts by the endpoint that was chosen: one that is not ejected, an ejected one as a probe, or any one because all that are left fail.",
	}
	EndpointEjections = &Metric{
		Name: "resilience_endpoint_ejections_total", Type: Counter,
		Labels: []Label{{"reason", []string{"unreachable", "timeout", "failures"}}},
		Help:   "Ejections by reason: no connection, no answer in time, or several failures in a row.",
	}
	EndpointReplicas = &Metric{
		Name: "resilience_endpoint_replicas", Type: Gauge,
		Labels: []Label{{"state", []string{"in", "ejected", "returning", "suspended"}}},
		Help:   "Endpoints in the state. Those of a set with origins or connections are summed.",
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
		Help:   "Calls that took longer than the timeout, by whether they failed or returned a value late.",
	}
	FallbackCalls = &Metric{
		Name: "resilience_fallback_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"unused", "passed", "used", "failed"}}},
		Help:   "Calls by outcome: a success, a failure that the fallback does not handle, a failure that it answered, or a failure of the fallback.",
	}
	StaleCalls = &Metric{
		Name: "resilience_stale_calls_total", Type: Counter,
		Labels: []Label{{"outcome", []string{"fresh", "stale", "failed"}}},
		Help:   "Calls by outcome: a fresh value, a remembered value, or an error or a panic.",
	}
	StaleFetches = &Metric{
		Name: "resilience_stale_fetches_total", Type: Counter,
		Help: "Fetches. Concurrent calls for one key share a fetch.",
	}
	StaleKeys = &Metric{
		Name: "resilience_stale_keys", Type: Gauge,
		Help: "Values that are remembered.",
	}
	KeyedKeys = &Metric{
		Name: "resilience_keyed_keys", Type: Gauge,
		Help: "Keys that the group remembers, without the keys of Config.Keys.",
	}
	KeyedEvicted = &Metric{
		Name: "resilience_keyed_evicted_total", Type: Counter,
		Help: "Keys that the group has evicted.",
	}
	CallDuration = &Metric{
		Name: "resilience_call_duration_seconds", Type: Histogram,
		Labels: []Label{{"outcome", []string{"success", "failure", "ignored", "rejected"}}},
		Help:   "How long calls took, by outcome, as measured by a metrics.Histogram.",
	}
)

// All is the table.
var All = []*Metric{
	BreakerCalls, BreakerWouldReject, BreakerState, BreakerMode, BreakerTransitions, BreakerOpenSeconds, BreakerProbes,
	RetryCalls, RetryAttempts, RetrySuppressed, RetryBudget, RetryCapacity,
	BulkheadCalls, BulkheadRejected, BulkheadInFlight, BulkheadWaiting, BulkheadSlots, BulkheadCongested,
	LimitCalls, LimitRejected, LimitOverload, LimitOverloads, LimitInFlight, LimitWaiting, LimitInForce, LimitKnee, LimitTests,
	EndpointPicks, EndpointEjections, EndpointReplicas,
	TimeoutCalls, TimeoutExceeded, FallbackCalls, StaleCalls, StaleFetches, StaleKeys, KeyedKeys, KeyedEvicted, CallDuration,
}
