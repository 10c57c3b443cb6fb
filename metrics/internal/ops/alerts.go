package ops

import (
	"strings"

	"github.com/resilience-go/resilience/metrics/internal/series"
)

// Alerts are the alerts of rules.yaml.
var Alerts = []*Alert{
	{
		Name: "ResilienceBreakerRejectsMost", Severity: "critical", For: "5m",
		Expr:    breakerRejected.Name + " > 0.5",
		Summary: "Breaker {{ $labels.name }} of {{ $labels.job }} rejects {{ $value | humanizePercentage }} of its calls.",
		Means: "For five minutes the breaker rejected more than half of the calls under this name, over all processes and keys. " +
			"The dependency is down, or its callers cannot reach it.",
		Look: "at the dependency itself. The panel \"Transitions by rule\" shows the rule that opened the breaker. " +
			"/debug/resilience of a process, or its log, has the last error of each transition. The panel \"Mode\" shows whether the breaker was forced open.",
		Do: "repair the dependency. The breaker closes without help, by default within 1/32 of the outage, so do not reset it. " +
			"If the dependency is healthy and the rule is wrong, set the mode MetricsOnly or Disabled.",
		Ignore: "in a planned outage, and if a consumer calls Acquire in a loop, because each call counts as rejected.",
	},
	{
		Name: "ResilienceBreakerOpen", Severity: "warning", For: "10m",
		Expr: processes(join("and",
			inProcess.level(series.BreakerState, is("state", "open", "half_open"))+" > 0",
			inProcess.flow(series.BreakerCalls, is("outcome", "rejected"))+" > 0",
		)),
		Summary: "Breaker {{ $labels.name }} of {{ $labels.job }} has been open for at least ten minutes and rejects calls in {{ $value }} process(es).",
		Means: "For ten minutes at least one process had a breaker, or a key of a group, of this name that was not CLOSED, and calls were rejected. " +
			"OPEN and HALF_OPEN alternate during an outage, so both count.",
		Look: "at \"Share rejected\": it is near 1 if the whole dependency is down, and small if one key or one process of many is affected. " +
			"To find the process, choose a single instance on the dashboard. Its /debug/resilience, or its log, has the key.",
		Do: "repair the host or the method of the key, or take it out of use. " +
			"If only one process is affected, check its network and its credentials.",
		Ignore: "if the share rejected stays small: a dependency of which most calls hang opens a breaker from time to time, which rejects some calls. " +
			"In a large group, several keys with short failures can look like one key that is down.",
	},
	{
		Name: "ResilienceBreakerFlapping", Severity: "warning",
		Expr:    processes(join("and", flapping(), rejectedOf("30m"))),
		Summary: "Breaker {{ $labels.name }} of {{ $labels.job }} opens again and again in {{ $value }} process(es).",
		Means: "In at least five of the last six five-minute periods, a breaker of this name went from CLOSED to OPEN in one process. " +
			"It closed in between: the dependency recovers and fails again. One outage opens a breaker from CLOSED only once.",
		Look: "at \"Transitions by rule\" for the rule, and at \"Share that failed\" for the failures while the breaker is closed.",
		Do: "look for a cause in the dependency that comes and goes: restarts, pauses, a health check that removes replicas, a quota. " +
			"With a Rate or Slow rule, raise OpenFor, or raise AtLeast so that the rule needs more calls.",
		Ignore: "in a group of very many keys if every few minutes another key has a short outage.",
	},
	{
		Name: "ResilienceRetryStorm", Severity: "warning", For: "10m",
		Expr:    join("and", attemptsPerCall.Name+" > 1.5", inRules.flow(series.RetryAttempts, is("kind", "retry"))+" > 0.1"),
		Summary: "Retry {{ $labels.name }} of {{ $labels.job }} makes {{ $value | humanize }} attempts for each call.",
		Means: "For ten minutes retries added more than half to the load of the dependency. The default budget allows at most 1.45 attempts for each call, " +
			"so the budget is off or large, or most keys are new.",
		Look: "at \"Attempts per call\" for the extra load, and at \"Calls by how they ended\" for whether retries help. " +
			"Then look for retry.NoBudget or a large Budget in the configuration, and at \"Keys forgotten\": each new key starts with four retries.",
		Do:     "set Budget back to 0, because each retry adds load to a dependency that already fails. If keys are made of user input, make them of the host or the route.",
		Ignore: "for a single job that must succeed and has its budget turned off on purpose.",
	},
	{
		Name: "ResilienceRetryBudgetEmpty", Severity: "warning", For: "10m",
		Expr:    outOfBudget.Name + " > 0.05",
		Summary: "Retry {{ $labels.name }} of {{ $labels.job }} gives up {{ $value | humanizePercentage }} of its calls because its budget is empty.",
		Means: "For ten minutes more than one call of twenty failed and was not retried, because too few calls succeed to pay for a retry. " +
			"The dependency fails at least a third of its calls, or fewer if they time out, and retries cannot help with that. If all calls failed, the reason would be all_failing.",
		Look:   "at \"Given up by reason\", and at \"Calls that timed out\": a retry after a timeout costs four times as much.",
		Do:     "find out which calls fail: those of one replica, of one method, or of one size. Do not raise Budget: that adds load to an overloaded dependency.",
		Ignore: "if callers can handle the errors, or a fallback answers.",
	},
	{
		Name: "ResilienceBulkheadSaturated", Severity: "warning", For: "5m",
		Expr:    bulkheadRefused.Name + " > 0.05",
		Summary: "Bulkhead {{ $labels.name }} of {{ $labels.job }} gives no slot to {{ $value | humanizePercentage }} of its calls.",
		Means: "For five minutes more than one call of twenty was rejected or canceled in the queue. " +
			"There are more concurrent calls than slots, or calls hold their slots for too long.",
		Look: "at \"Rejected by reason\" and \"In flight and slots\". queue_full: too many concurrent calls. wait_expired: the dependency has become slow, or pauses. " +
			"If \"Congested\" is above 0, the dependency is overloaded, and the bulkhead bounds the calls to what it can answer in time. " +
			"If few calls are in flight and there are few slots, one key of a group is full, or calls hang, which does not add slots.",
		Do: "if the dependency is slow or hangs, repair it, and give attempts a timeout. " +
			"If it is healthy and Slots is fixed and too small, raise Slots or set it to 0. If it pauses by nature, set Slots to the number of calls that arrive in a pause.",
		Ignore: "in front of a server that sheds load on purpose, and during a planned load test.",
	},
	{
		Name: "ResilienceEndpointEjected", Severity: "warning", For: "10m",
		Expr: processes(join("and",
			inProcess.level(series.EndpointReplicas, is("state", "ejected"))+" > 0",
			inProcess.flow(series.EndpointPicks)+" > 0",
		)),
		Summary: "{{ $value }} process(es) of {{ $labels.job }} have had a replica of {{ $labels.name }} ejected for at least ten minutes.",
		Means: "For ten minutes at least one process sent an endpoint under this name nothing but probes, and the probes failed. " +
			"Calls succeed on the other endpoints, which have the load of the ejected one in addition.",
		Look: "at \"Ejections by reason\" for why, and at /debug/resilience of a process, or its log, for the address. " +
			"If all processes have it ejected, the replica is down. If one has, the network between the two is.",
		Do:     "restart or replace the replica, or take its address out of the name. It returns without help with the first probe that succeeds.",
		Ignore: "if the replica is down on purpose and the others have room for its load.",
	},
	{
		Name: "ResilienceLimitRefusesMany", Severity: "critical", For: "5m",
		Expr:    limitRefused.Name + " > 0.25",
		Summary: "Limit {{ $labels.name }} of {{ $labels.job }} keeps {{ $value | humanizePercentage }} of its requests from the handler.",
		Means: "For five minutes more than one request of four was rejected or canceled in the queue, over all processes. " +
			"More requests arrive than the service can handle at present.",
		Look: "at \"Requests by outcome\". If as many requests are useful as before, more requests arrive. If fewer are useful, the service has become slower. " +
			"If most are canceled or queue_full and \"Limits in an overload\" is 0, the handler hangs: no request ends, so there is nothing to measure.",
		Do: "if more requests arrive, add processes, and find out who sends them: most may be retries of callers without a retry budget. " +
			"If the service has become slower, check its last release, its processors and its dependencies. " +
			"There is no limit to raise, unless Max is set and the limit in \"Limit, knee and in flight\" stays at Max.",
		Ignore: "in a planned load test, and in shadow mode, in which shed and queue_full requests are handled.",
	},
	{
		Name: "ResilienceLimitOverload", Severity: "warning", For: "5m",
		Expr:    processes(join("and", overloaded("5m"), inProcess.flow(series.LimitCalls, is("outcome", "shed"))+" > 0")),
		Summary: "Limit {{ $labels.name }} of {{ $labels.job }} has been in an overload for at least five minutes in {{ $value }} process(es).",
		Means: "For five minutes at least one process had proof of an overload most of the time, and rejected requests. " +
			"Requests arrive faster than it answers them, and a higher limit does not help. It works at its capacity and rejects the rest.",
		Look: "at \"Share refused\" for the share of rejected requests. Then choose a single instance on the dashboard: " +
			"if only one process is affected, it gets more than its share of the load, or shares its processors with other programs.",
		Do: "add processes or remove load before the share grows. If only one process is affected, check the load balancing and the other programs on its machine. " +
			"Do not change the limit: the requests that it rejects would make all requests late.",
		Ignore: "if callers lose nothing by a later retry, such as batch jobs that use all capacity.",
	},
}

// processes returns an expression for the number of processes for which expr has a result.
func processes(expr string) string {
	return "count without (" + strings.Join(inRules.drop, ", ") + ") (\n" + strings.TrimSuffix(indent(expr, 2), "\n") + "\n)"
}

// join puts an operator between operands, on a line of its own.
func join(operator string, operands ...string) string {
	return strings.Join(operands, "\n"+operator+"\n")
}

// flapping returns an expression that holds for a process in which a breaker opened from
// CLOSED in five of the last six five-minute periods. Many keys that open at once count
// as one period.
func flapping() string {
	s := scope{window: "5m"}
	m := series.BreakerTransitions
	opened := s.total(m, "increase("+s.of(m, is("from", "closed"), is("to", "open"))+"["+s.window+"])")
	return "sum_over_time((" + opened + " > bool 0)[30m:5m]) >= 5"
}

// overloaded returns an expression that holds for a process that was in an overload for
// most of the window. A single scrape is no evidence: near its capacity a service enters
// and leaves overloads.
func overloaded(window string) string {
	s := scope{window: window}
	m := series.LimitOverload
	return s.total(m, "avg_over_time("+s.of(m)+"["+s.window+"])") + " > 0.5"
}

// rejectedOf returns an expression that holds for a process that rejected calls in the
// window. A breaker in MetricsOnly opens but rejects none.
func rejectedOf(window string) string {
	s := scope{window: window}
	return s.flow(series.BreakerCalls, is("outcome", "rejected")) + " > 0"
}
