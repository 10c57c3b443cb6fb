package ops

import "github.com/resilience-go/resilience/metrics/internal/series"

// Rows returns the rows of the dashboard.
func Rows() []Row {
	return []Row{
		{"Breakers", breakers()},
		{"Retries", retries()},
		{"Bulkheads", bulkheads()},
		{"Limits", limits()},
		{"Endpoints", endpoints()},
		{"Timeouts and fallbacks", others()},
		{"Groups", groups()},
		{"Duration of calls", durations()},
	}
}

// by returns a query for the rate of a counter, with a series for each value of the labels.
func by(m *series.Metric, labels ...string) []Query {
	return []Query{{onDashboard.total(m, onDashboard.rate(m), labels...), legend(labels...)}}
}

// perMinute changes rates a second to rates a minute, for events that are rare.
func perMinute(queries []Query) []Query {
	for i := range queries {
		queries[i].Expr = "60 * " + queries[i].Expr
	}
	return queries
}

func one(expr string) []Query { return []Query{{expr, legend()}} }

func legend(labels ...string) string {
	text := "{{" + series.NameLabel + "}}"
	for _, l := range labels {
		text += " {{" + l + "}}"
	}
	return text
}

// worstState returns a query for the worst state of each name: 2 is open, 1 is half open
// and 0 is closed.
func worstState() string {
	state := func(name string) string {
		return "(" + onDashboard.of(series.BreakerState, is("state", name)) + " > bool 0)"
	}
	return "max by (" + series.NameLabel + ") (\n  2 * " + state("open") + "\n  or\n  " + state("half_open") + "\n  or\n  0 * " + state("closed") + "\n)"
}

func breakers() []*Panel {
	d := onDashboard
	notClosed, other := series.BreakerState, series.BreakerMode
	return []*Panel{
		{
			Title: "Worst state", Unit: "none", Width: columns, Look: timeline, Queries: one(worstState()),
			Description: "Red if a breaker or a key of the name was open at the scrape, yellow if one was half open: both alternate during an outage, and a key without calls stays yellow.",
		},
		{
			Title: "Not closed", Unit: "short", Look: stacked,
			Queries:     []Query{{d.total(notClosed, d.of(notClosed, is("state", "open", "half_open")), "state"), legend("state")}},
			Description: "Breakers, or keys of groups, that are open or half open, summed over processes: if the number is the number of processes, all of them see the outage.",
		},
		{
			Title: "Calls by outcome", Unit: "ops", Look: stacked, Queries: by(series.BreakerCalls, "outcome"),
			Description: "Calls per second: rejected calls did not run, and ignored calls are no evidence about the dependency.",
		},
		{
			Title: "Share rejected", Unit: "percentunit", Look: share, Queries: one(d.rejectedShare()),
			Description: "Share of the calls that the breaker rejected: near 1 in an outage, small if one key of many is down, 0 in MetricsOnly.",
		},
		{
			Title: "Share that failed", Unit: "percentunit", Look: share, Queries: one(d.failedShare()),
			Description: "Share of failures among the calls that succeeded or failed: an open breaker runs only a few probes, so read this panel together with the share rejected.",
		},
		{
			Title: "Share of time open", Unit: "percentunit", Look: share, Queries: one(d.openShare()),
			Description: "Share of time that the breakers spent in OPEN: it is low during an outage if probes hang, because a probe runs in HALF_OPEN.",
		},
		{
			Title: "Transitions by rule", Unit: "opm", Queries: perMinute(by(series.BreakerTransitions, "from", "to", "rule")),
			Description: "Transitions per minute and their causes: closed to open is the start of an outage, half_open to open is a failed probe or a rule of Trip, half_open to closed is a recovery.",
		},
		{
			Title: "Probes by result", Unit: "ops", Look: stacked, Queries: by(series.BreakerProbes, "result"),
			Description: "Calls that HALF_OPEN admitted: successes mean that the dependency recovers, and late probes took longer than ProbeTimeout and do not count towards closing the breaker.",
		},
		{
			Title: "Would reject", Unit: "ops", Queries: one(d.flow(series.BreakerWouldReject)),
			Description: "Calls per second that ran only because of MetricsOnly: if there are many more of them than failures, the rule would have rejected calls that work.",
		},
		{
			Title: "Mode", Unit: "short", Look: stacked,
			Queries:     []Query{{d.total(other, d.of(other, is("mode", "forced_open", "disabled", "metrics_only")), "mode"), legend("mode")}},
			Description: "Breakers or keys in another mode than auto: forced_open rejects all calls, disabled rejects none, and a mode stays until the program sets another.",
		},
	}
}

func retries() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "Calls by how they ended", Unit: "ops", Look: stacked, Queries: by(series.RetryCalls, "outcome"),
			Description: "Calls per second: a recovered call succeeded because of a retry, and gave_up means that the caller got the error.",
		},
		{
			Title: "Attempts by kind", Unit: "ops", Look: stacked, Queries: by(series.RetryAttempts, "kind"),
			Description: "Attempts per second that reach the dependency: retries are load in addition to the first attempts.",
		},
		{
			Title: "Attempts per call", Unit: "none", Queries: one(d.attemptsPerCall()),
			Description: "All attempts divided by the first attempts: 1 means no retries, and the default budget keeps the mean below 1.45.",
		},
		{
			Title: "Given up by reason", Unit: "ops", Look: stacked, Queries: by(series.RetrySuppressed, "reason"),
			Description: "Why there was no further attempt: all_failing and rejected are normal in an outage, and out_of_budget means that too many calls fail for retries to help.",
		},
		{
			Title: "Budget and its capacity", Unit: "none", Width: 16,
			Queries: []Query{
				{d.level(series.RetryBudget), legend() + " left"},
				{d.level(series.RetryCapacity), legend() + " capacity"},
			},
			Description: "Units left in the budget, where a retry costs five and a retry after a timeout twenty: near the capacity is healthy, near 0 means that failures cost more than successes earn.",
		},
	}
}

func bulkheads() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "In flight and slots", Unit: "short", Width: 12,
			Queries: []Query{
				{d.level(series.BulkheadInFlight), legend() + " in flight"},
				{d.level(series.BulkheadSlots), legend() + " slots"},
			},
			Description: "Slots in use and all slots: for a group both are sums over its keys, so one key can be full while the sum is far from full.",
		},
		{
			Title: "Waiting", Unit: "short", Width: 12, Queries: one(d.level(series.BulkheadWaiting)),
			Description: "Calls queued for a slot at the scrape: more than a short peak means that calls hold their slots for too long.",
		},
		{
			Title: "Congested", Unit: "short", Width: 12, Queries: one(d.level(series.BulkheadCongested)),
			Description: "Bulkheads whose slots are bounded because calls time out while others are slow: the dependency is overloaded.",
		},
		{
			Title: "Slots asked for, by outcome", Unit: "ops", Look: stacked, Queries: by(series.BulkheadCalls, "outcome"),
			Description: "Calls per second: a completed call released its slot, whatever its result was, and the caller of a canceled call left the queue.",
		},
		{
			Title: "Share without a slot", Unit: "percentunit", Look: share, Queries: one(d.refusedShare()),
			Description: "Share of the calls that were rejected or canceled in the queue: this panel, not the number of slots, shows that a bulkhead is full.",
		},
		{
			Title: "Rejected by reason", Unit: "ops", Look: stacked, Queries: by(series.BulkheadRejected, "reason"),
			Description: "Rejected calls per second: queue_full means too many concurrent calls for the slots and the queue, and wait_expired means that the queue moves too slowly because the dependency is slow or pauses.",
		},
	}
}

func endpoints() []*Panel {
	d := onDashboard
	replicas := series.EndpointReplicas
	return []*Panel{
		{
			Title: "Endpoints not in", Unit: "short", Look: stacked,
			Queries:     []Query{{d.total(replicas, d.of(replicas, is("state", "ejected", "returning", "suspended")), "state"), legend("state")}},
			Description: "Endpoints that get probes only, start slowly, or have no connection (gRPC), summed over processes: each process finds out for itself, so a replica that is down counts once in each process that calls it.",
		},
		{
			Title: "Attempts by endpoint chosen", Unit: "ops", Look: stacked, Queries: by(series.EndpointPicks, "kind"),
			Description: "Attempts per second: probes check ejected endpoints, and all_failing means that no endpoint works, so any is chosen.",
		},
		{
			Title: "Ejections by reason", Unit: "opm", Queries: perMinute(by(series.EndpointEjections, "reason")),
			Description: "Ejections per minute: unreachable is a replica that is down or restarts, timeout one that hangs, and failures one that answers with failures.",
		},
	}
}

func limits() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "Limits in an overload", Unit: "short", Queries: one(d.level(series.LimitOverload)),
			Description: "Processes, or keys of groups, with proof of an overload: this panel, not the limit, shows that there is too much load.",
		},
		{
			Title: "Requests by outcome", Unit: "ops", Look: stacked, Queries: by(series.LimitCalls, "outcome"),
			Description: "Requests per second: useful ones should stay level in an overload, gone ones were handled after their caller left, shed and queue_full ones were rejected, and canceled ones left the queue.",
		},
		{
			Title: "Share refused", Unit: "percentunit", Look: share, Queries: one(d.noSlotShare()),
			Description: "Share of the requests that did not reach the handler, because they were rejected or left the queue: 0 without an overload, one half at twice the capacity.",
		},
		{
			Title: "Rejected by priority", Unit: "ops", Look: stacked, Queries: by(series.LimitRejected, "priority"),
			Description: "Rejected requests per second: critical ones among them mean that there are more critical requests than the service can handle.",
		},
		{
			Title: "Limit, knee and in flight", Unit: "short", Width: 16,
			Queries: []Query{
				{d.level(series.LimitInFlight), legend() + " in flight"},
				{d.level(series.LimitInForce), legend() + " limit"},
				{d.level(series.LimitKnee), legend() + " knee"},
			},
			Description: "Sums over processes: the limit is 0 while none is in force, steps down and up are trials, and the knee is 0 until a trial has shown it.",
		},
		{
			Title: "Waiting for the handler", Unit: "short", Queries: one(d.level(series.LimitWaiting)),
			Description: "Requests queued at the scrape: a peak is a burst or a trial of a lower limit, and a queue that stays is an overload or a handler that hangs.",
		},
		{
			Title: "Trials by result", Unit: "opm", Width: 12, Look: stacked, Queries: perMinute(by(series.LimitTests, "result")),
			Description: "Trials per minute, none while requests are not slow: raised and lowered trials moved the limit, not_lowered trials measured the knee or found no queue, and many abandoned trials mean that the handler stalls.",
		},
		{
			Title: "Overloads that began", Unit: "opm", Width: 12, Queries: perMinute(by(series.LimitOverloads)),
			Description: "Overloads per minute: a long overload is counted once, and many short ones mean that the service is near its capacity.",
		},
	}
}

func others() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "Calls with a timeout", Unit: "ops", Queries: one(d.flow(series.TimeoutCalls)),
			Description: "Calls per second that started under a timeout, to compare with the calls that timed out.",
		},
		{
			Title: "Calls that timed out", Unit: "ops", Look: stacked, Queries: by(series.TimeoutExceeded, "result"),
			Description: "Calls per second that took longer than their timeout: a late call still returned a value, so its operation ignores its context.",
		},
		{
			Title: "Fallbacks by outcome", Unit: "ops", Look: stacked, Queries: by(series.FallbackCalls, "outcome"),
			Description: "Calls per second: used means that the fallback answered instead of a failure, which may be the only sign that the dependency is down.",
		},
		{
			Title: "Stale values by outcome", Unit: "ops", Look: stacked, Queries: by(series.StaleCalls, "outcome"),
			Description: "Calls per second: stale means that a remembered value answered instead of a failed fetch.",
		},
		{
			Title: "Fetches of stale values", Unit: "ops", Queries: one(d.flow(series.StaleFetches)),
			Description: "Fetches per second: there are fewer fetches than calls if concurrent calls for one key share them.",
		},
		{
			Title: "Values remembered", Unit: "short", Queries: one(d.level(series.StaleKeys)),
			Description: "Values that are remembered, summed over processes, at most Config.Max in each process.",
		},
	}
}

func groups() []*Panel {
	return []*Panel{
		{
			Title: "Keys", Unit: "short", Width: 12, Queries: one(onDashboard.level(series.KeyedKeys)),
			Description: "Keys that groups remember, summed over processes: a line that only rises means that keys are made of user input.",
		},
		{
			Title: "Keys forgotten", Unit: "opm", Width: 12, Queries: perMinute(by(series.KeyedEvicted)),
			Description: "Keys evicted per minute to make room: if the rate is not near 0, more keys than Max are in use, and a key that returns starts without state.",
		},
	}
}

func durations() []*Panel {
	m := series.CallDuration
	s := onDashboard
	native := s.total(m, s.rate(m), "outcome")
	classic := s.total(m, "rate("+s.named(m, "_count", nil)+"["+s.window+"])", "outcome")
	return []*Panel{
		{
			Title: "Duration of calls", Unit: "s", Width: 12,
			Queries: []Query{
				{s.quantile("0.5"), legend() + " p50"},
				{s.quantile("0.9"), legend() + " p90"},
				{s.quantile("0.99"), legend() + " p99"},
			},
			Description: "50 %, 90 % and 99 % of the calls that ran took less than this: with classic buckets the value is an estimate within a bucket.",
		},
		{
			Title: "Calls that were timed", Unit: "ops", Width: 12, Look: stacked,
			Queries:     []Query{{"histogram_count(" + native + ")\nor\n" + classic, legend("outcome")}},
			Description: "Calls per second that the histogram measured, by outcome: a quantile of few calls means little.",
		},
	}
}
