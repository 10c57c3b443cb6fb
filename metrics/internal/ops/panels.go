package ops

import "github.com/resilience-go/resilience/metrics/internal/series"

// Rows returns what is on the dashboard.
func Rows() []Row {
	return []Row{
		{"Breakers", breakers()},
		{"Retries", retries()},
		{"Bulkheads", bulkheads()},
		{"Limits", limits()},
		{"Timeouts and fallbacks", others()},
		{"Groups", groups()},
		{"Duration of calls", durations()},
	}
}

// by is a query for a counter, with a series for each value of the labels.
func by(m *series.Metric, labels ...string) []Query {
	return []Query{{onDashboard.total(m, onDashboard.rate(m), labels...), legend(labels...)}}
}

// perMinute is for what happens too seldom to be read by the second.
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

// worstState is 2 for a name with a breaker that is open, else 1 if one is half open.
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
			Description: "Red if any breaker or key of the name was open when it was scraped, yellow if one was half open: in an outage the two take turns, and a key that nobody calls any more stays yellow.",
		},
		{
			Title: "Not closed", Unit: "short", Look: stacked,
			Queries:     []Query{{d.total(notClosed, d.of(notClosed, is("state", "open", "half_open")), "state"), legend("state")}},
			Description: "How many breakers, of groups how many keys, are open or half open, added up over processes: as many as there are processes means that all of them see the outage.",
		},
		{
			Title: "Calls by outcome", Unit: "ops", Look: stacked, Queries: by(series.BreakerCalls, "outcome"),
			Description: "Calls a second as the breaker counted them: rejected ones did not run, and ignored ones say nothing about the dependency.",
		},
		{
			Title: "Share rejected", Unit: "percentunit", Look: share, Queries: one(d.rejectedShare()),
			Description: "Which part of the calls the breaker did not let through: near 1 in an outage, small if it is one key of many, 0 in MetricsOnly.",
		},
		{
			Title: "Share that failed", Unit: "percentunit", Look: share, Queries: one(d.failedShare()),
			Description: "Failures among the calls that ran and were judged: while a breaker is open these are its few probes, so read it together with the share rejected.",
		},
		{
			Title: "Share of time open", Unit: "percentunit", Look: share, Queries: one(d.openShare()),
			Description: "How much of their time the breakers spent in OPEN, whenever they were scraped: low in spite of an outage if probes hang, since they do so in HALF_OPEN.",
		},
		{
			Title: "Transitions by rule", Unit: "opm", Queries: perMinute(by(series.BreakerTransitions, "from", "to", "rule")),
			Description: "Transitions a minute and what caused them: closed to open is an outage that began, half_open to open a probe that failed, half_open to closed a recovery.",
		},
		{
			Title: "Probes by result", Unit: "ops", Look: stacked, Queries: by(series.BreakerProbes, "result"),
			Description: "Calls that HALF_OPEN admitted: successes are a dependency that comes back, and late ones took longer than ProbeTimeout and could not help to close the breaker.",
		},
		{
			Title: "Would reject", Unit: "ops", Queries: one(d.flow(series.BreakerWouldReject)),
			Description: "Calls a second that ran only because of MetricsOnly: if they are much more than the failures, the rule on trial would have rejected calls that worked.",
		},
		{
			Title: "Mode", Unit: "short", Look: stacked,
			Queries:     []Query{{d.total(other, d.of(other, is("mode", "forced_open", "disabled", "metrics_only")), "mode"), legend("mode")}},
			Description: "Breakers or keys that somebody has taken out of auto: one that is forced open rejects all, one that is disabled none, and both stay so until they are set back.",
		},
	}
}

func retries() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "Calls by how they ended", Unit: "ops", Look: stacked, Queries: by(series.RetryCalls, "outcome"),
			Description: "Recovered calls are what retries are good for; given up ones failed for the caller.",
		},
		{
			Title: "Attempts by kind", Unit: "ops", Look: stacked, Queries: by(series.RetryAttempts, "kind"),
			Description: "What the dependency gets a second: retries are load on top of the first attempts.",
		},
		{
			Title: "Attempts per call", Unit: "none", Queries: one(d.attemptsPerCall()),
			Description: "All attempts for each first one: 1 is no retries, and the default budget keeps it below 1.45 for long.",
		},
		{
			Title: "Given up by reason", Unit: "ops", Look: stacked, Queries: by(series.RetrySuppressed, "reason"),
			Description: "Why there was no further attempt: all_failing and rejected are normal in an outage, out_of_budget says that too many calls fail for retries to help.",
		},
		{
			Title: "Budget and its capacity", Unit: "none", Width: 16,
			Queries: []Query{
				{d.level(series.RetryBudget), legend() + " left"},
				{d.level(series.RetryCapacity), legend() + " capacity"},
			},
			Description: "Units left to pay retries with, five for a retry and twenty after a timeout: near its capacity is well, near 0 means that calls fail faster than successes pay.",
		},
	}
}

func bulkheads() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "In flight and limit", Unit: "short", Width: 12,
			Queries: []Query{
				{d.level(series.BulkheadInFlight), legend() + " in flight"},
				{d.level(series.BulkheadSlots), legend() + " limit"},
			},
			Description: "Slots that are held, and all there are: of a group both are sums over its keys, so one key can be full far below the limit.",
		},
		{
			Title: "Waiting", Unit: "short", Width: 12, Queries: one(d.level(series.BulkheadWaiting)),
			Description: "Callers in line for a slot when it was scraped: more than a short peak means that slots come back too slowly.",
		},
		{
			Title: "Slots asked for, by outcome", Unit: "ops", Look: stacked, Queries: by(series.BulkheadCalls, "outcome"),
			Description: "Completed calls had a slot and gave it back, however they ended; canceled ones gave up in line.",
		},
		{
			Title: "Share without a slot", Unit: "percentunit", Look: share, Queries: one(d.refusedShare()),
			Description: "Which part of the calls was rejected or gave up in line: this, and not the limit, says that a bulkhead is full.",
		},
		{
			Title: "Rejected by reason", Unit: "ops", Look: stacked, Queries: by(series.BulkheadRejected, "reason"),
			Description: "queue_full is more at once than slots and places in line, wait_expired a line that moves too slowly because the dependency is slow or pauses.",
		},
	}
}

func limits() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "Limits in an overload", Unit: "short", Queries: one(d.level(series.LimitOverload)),
			Description: "Processes, of groups keys, with proof that they can not keep up: this, and not the limit, says that there is too much load.",
		},
		{
			Title: "Requests by outcome", Unit: "ops", Look: stacked, Queries: by(series.LimitCalls, "outcome"),
			Description: "Useful is what the service is good for and should stay level however many come; gone ones were handled for nobody, shed and queue_full ones refused, canceled ones left in line.",
		},
		{
			Title: "Share refused", Unit: "percentunit", Look: share, Queries: one(d.noPlaceShare()),
			Description: "Which part of the requests did not come to the handler, because it was refused or because its caller left in line: 0 without an overload, half of all at twice the capacity.",
		},
		{
			Title: "Limit, knee and in flight", Unit: "short", Width: 16,
			Queries: []Query{
				{d.level(series.LimitInFlight), legend() + " in flight"},
				{d.level(series.LimitInForce), legend() + " limit"},
				{d.level(series.LimitKnee), legend() + " knee"},
			},
			Description: "Added up over processes: a limit far above what is in flight restricts nobody and may stand anywhere, steps down and up are tests, and the knee is 0 until a test has found it.",
		},
		{
			Title: "Waiting for the handler", Unit: "short", Queries: one(d.level(series.LimitWaiting)),
			Description: "Requests in line when it was scraped: a peak is a burst or a test of a lower limit, and a line that stays is an overload or a handler that hangs.",
		},
		{
			Title: "Tests by result", Unit: "opm", Width: 12, Look: stacked, Queries: perMinute(by(series.LimitTests, "result")),
			Description: "Tests a minute, of which there are none while the limit is not reached: raised and lowered ones moved the limit, not_lowered ones measured the knee, and many abandoned ones are load that comes in bursts.",
		},
		{
			Title: "Overloads that began", Unit: "opm", Width: 12, Queries: perMinute(by(series.LimitOverloads)),
			Description: "Overloads a minute: one that lasts begins once, and many short ones are a service near its capacity.",
		},
	}
}

func others() []*Panel {
	d := onDashboard
	return []*Panel{
		{
			Title: "Calls with a timeout", Unit: "ops", Queries: one(d.flow(series.TimeoutCalls)),
			Description: "Calls a second that were started under a timeout, to compare with those whose time was over.",
		},
		{
			Title: "Calls that timed out", Unit: "ops", Look: stacked, Queries: by(series.TimeoutExceeded, "result"),
			Description: "Calls that took longer than their timeout: a late call returned a value, so its operation ignores its context.",
		},
		{
			Title: "Fallbacks by outcome", Unit: "ops", Look: stacked, Queries: by(series.FallbackCalls, "outcome"),
			Description: "Used is how often the fallback answered instead of a failure: with a good fallback nothing else shows that the dependency is broken.",
		},
		{
			Title: "Stale values by outcome", Unit: "ops", Look: stacked, Queries: by(series.StaleCalls, "outcome"),
			Description: "Stale is how often a remembered value answered instead of a failed fetch.",
		},
		{
			Title: "Fetches of stale values", Unit: "ops", Queries: one(d.flow(series.StaleFetches)),
			Description: "Fetches a second, fewer than the calls, because calls for one key share a fetch.",
		},
		{
			Title: "Values remembered", Unit: "short", Queries: one(d.level(series.StaleKeys)),
			Description: "Values that are remembered, added up over processes, at most Config.Max in each.",
		},
	}
}

func groups() []*Panel {
	return []*Panel{
		{
			Title: "Keys", Unit: "short", Width: 12, Queries: one(onDashboard.level(series.KeyedKeys)),
			Description: "Keys that groups remember, added up over processes: a line that only rises comes from keys that are made of what users send.",
		},
		{
			Title: "Keys forgotten", Unit: "opm", Width: 12, Queries: perMinute(by(series.KeyedEvicted)),
			Description: "Keys dropped a minute to make room: if it is not near 0, there are more keys in use than Max, and those that return start anew.",
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
			Description: "Half, nine of ten, and 99 of 100 calls that ran took less than this; with classic buckets it is a guess within a bucket.",
		},
		{
			Title: "Calls that were timed", Unit: "ops", Width: 12, Look: stacked,
			Queries:     []Query{{"histogram_count(" + native + ")\nor\n" + classic, legend("outcome")}},
			Description: "Calls a second that the histogram has seen, by outcome: a quantile over a few calls says little.",
		},
	}
}
