package ops

import (
	"strings"

	"github.com/resilience-go/resilience/metrics/internal/series"
)

// Alerts are all that there are.
var Alerts = []*Alert{
	{
		Name: "ResilienceBreakerRejectsMost", Severity: "critical", For: "5m",
		Expr:    breakerRejected.Name + " > 0.5",
		Summary: "Breaker {{ $labels.name }} of {{ $labels.job }} rejects {{ $value | humanizePercentage }} of its calls.",
		Means: "For five minutes more than half of the calls under this name were not made, over all processes and keys. " +
			"The dependency is down, or its callers can not reach it.",
		Look: "at the dependency itself, and at the panel \"Transitions by rule\": it says what opened the breaker. " +
			"/debug/resilience of a process, or its log, has the last error with each transition. Under \"Mode\", see whether somebody has forced it open.",
		Do: "bring the dependency back. The breaker finds out by itself, within 1/32 of the outage by default, so do not reset it. " +
			"If the dependency is well and the rule is wrong, set the mode MetricsOnly or Disabled.",
		Ignore: "in a planned outage, and where a consumer asks Acquire in a loop, since each time counts as a rejected call.",
	},
	{
		Name: "ResilienceBreakerOpen", Severity: "warning", For: "10m",
		Expr: processes(join("and",
			inProcess.level(series.BreakerState, is("state", "open", "half_open"))+" > 0",
			inProcess.flow(series.BreakerCalls, is("outcome", "rejected"))+" > 0",
		)),
		Summary: "Breaker {{ $labels.name }} of {{ $labels.job }} has been open for long, and rejects calls, in {{ $value }} process(es).",
		Means: "For ten minutes at least one process had a breaker of this name, or of a group one key, that was not CLOSED, while calls were rejected. " +
			"OPEN and HALF_OPEN take turns in an outage, so both count.",
		Look: "at \"Share rejected\": it is near 1 if all is down, and small if it is one key of many or one process of many. " +
			"Choose a single instance on the dashboard to find the process. Its /debug/resilience, or its log, says the key.",
		Do: "bring back the host or the method that the key stands for, or take it out of use. " +
			"If one process is alone, look at its network and its credentials.",
		Ignore: "if the share rejected is small and stays so: a dependency that answers half of its calls keeps a breaker in HALF_OPEN, which rejects a part. " +
			"In a large group several keys that fail now and then can look like one that is down.",
	},
	{
		Name: "ResilienceBreakerFlapping", Severity: "warning",
		Expr:    processes(join("and", flapping(), rejectedOf("30m"))),
		Summary: "Breaker {{ $labels.name }} of {{ $labels.job }} opens again and again, in {{ $value }} process(es).",
		Means: "In at least five of the last six slices of five minutes a process had a breaker of this name that went from CLOSED to OPEN. " +
			"So it closed in between: the dependency recovers and fails again. An outage opens a breaker from CLOSED only once.",
		Look: "at \"Transitions by rule\" for the rule, and at \"Share that failed\" for what the dependency does when it is closed.",
		Do: "look for what comes and goes on the other side: restarts, pauses, a health check that takes replicas out, a limit that is hit. " +
			"With a Rate or Slow rule, raise OpenFor, or AtLeast so that more calls decide.",
		Ignore: "in a group of very many keys, of which another one has a short outage every few minutes.",
	},
	{
		Name: "ResilienceRetryStorm", Severity: "warning", For: "10m",
		Expr:    join("and", attemptsPerCall.Name+" > 1.5", inRules.flow(series.RetryAttempts, is("kind", "retry"))+" > 0.1"),
		Summary: "Retry {{ $labels.name }} of {{ $labels.job }} makes {{ $value | humanize }} attempts for each call.",
		Means: "For ten minutes retries added more than half to the load of the dependency, which the default budget does not allow: 1.45 attempts for each call are its bound. " +
			"So the budget is off or large, or most keys are new.",
		Look: "at \"Attempts per call\" and \"Given up by reason\", for how bad it is and whether it helps. " +
			"Then look for a negative or a large Budget in the configuration, and at \"Keys forgotten\": each new key starts with four retries.",
		Do:     "set Budget back to 0, since each further attempt is load on a dependency that fails already. If keys are made of what users send, make them of the host or the route.",
		Ignore: "for a job that is alone, must get through, and has its budget turned off on purpose.",
	},
	{
		Name: "ResilienceRetryBudgetEmpty", Severity: "warning", For: "10m",
		Expr:    outOfBudget.Name + " > 0.05",
		Summary: "Retry {{ $labels.name }} of {{ $labels.job }} gives up {{ $value | humanizePercentage }} of its calls because its budget is empty.",
		Means: "For ten minutes more than one call of twenty failed and was not tried again, since too few calls succeed to pay for a retry. " +
			"The dependency fails a third of its calls or more, or fewer if they time out, which is more than retries can help. If it answered none, the reason would be all_failing.",
		Look:   "at \"Given up by reason\", and at \"Time was over\": a retry after a timeout costs four times as much.",
		Do:     "find out which part of the calls fails: a replica, a method, a size of request. Do not raise Budget: it would add load to what is overloaded.",
		Ignore: "if callers can live with the errors, or a fallback answers for them.",
	},
	{
		Name: "ResilienceBulkheadSaturated", Severity: "warning", For: "5m",
		Expr:    bulkheadRefused.Name + " > 0.05",
		Summary: "Bulkhead {{ $labels.name }} of {{ $labels.job }} gives no slot to {{ $value | humanizePercentage }} of its calls.",
		Means: "For five minutes more than one call of twenty was turned away or gave up in line. " +
			"More calls come at once than there are slots, or calls hold their slots for too long.",
		Look: "at \"Rejected by reason\" and \"In flight and limit\". queue_full: too many at once. wait_expired: the dependency has become slow, or pauses. " +
			"If few are in flight and the limit is low, one key of a group is full, or calls fail, which does not raise the limit.",
		Do: "if the dependency is slow or hangs, repair that, and see that attempts have a time limit. " +
			"If it is healthy and a fixed Limit is too small, raise it, or leave it at 0. If it pauses by nature, set Limit to hold the calls of a pause.",
		Ignore: "in front of a server that turns away load on purpose, and during a planned load test.",
	},
	{
		Name: "ResilienceLimitRefusesMany", Severity: "critical", For: "5m",
		Expr:    limitRefused.Name + " > 0.25",
		Summary: "Limit {{ $labels.name }} of {{ $labels.job }} keeps {{ $value | humanizePercentage }} of its requests from the handler.",
		Means: "For five minutes more than one request of four was refused, or left by its caller while it waited, over all processes. " +
			"More come than the service can do at present.",
		Look: "at \"Requests by outcome\": if as many are useful as ever, more come than before; if fewer are, the service does less than before. " +
			"Where most are canceled or queue_full and \"Limits in an overload\" is 0, the handler hangs, and nothing ends that could be measured.",
		Do: "if more come, add processes, and see who sends them: callers that retry without a budget can be most of them. " +
			"If the service does less, look at its last release, at its processors, and at what it waits for. " +
			"There is no limit to raise, unless Max is set and \"Limit, knee and in flight\" stays at it.",
		Ignore: "in a planned load test, and in shadow mode, in which those shed and queue_full were handled.",
	},
	{
		Name: "ResilienceLimitOverload", Severity: "warning", For: "5m",
		Expr:    processes(join("and", overloaded("5m"), inProcess.flow(series.LimitCalls, is("outcome", "shed"))+" > 0")),
		Summary: "Limit {{ $labels.name }} of {{ $labels.job }} has been in an overload for long, in {{ $value }} process(es).",
		Means: "For five minutes and more at least one process had, most of the time, proof that it can not keep up, and refused requests: " +
			"they come faster than it answers them, and a higher limit does not help. It works at its capacity, and refuses the rest.",
		Look: "at \"Share refused\" for how much the rest is. Then choose a single instance on the dashboard: " +
			"one process that is alone gets more than its part of the load, or shares its processors with something else.",
		Do: "add processes or take load away, before the share grows. If one process is alone, look at how load is spread, and at its neighbours. " +
			"Leave the limit as it is: what it refuses would otherwise make all requests late.",
		Ignore: "where callers come back later and lose nothing, such as jobs that fill whatever capacity there is.",
	},
}

// processes counts the processes for which expr has a result.
func processes(expr string) string {
	return "count without (" + strings.Join(inRules.drop, ", ") + ") (\n" + strings.TrimSuffix(indent(expr, 2), "\n") + "\n)"
}

// join puts an operator between lines.
func join(operator string, operands ...string) string {
	return strings.Join(operands, "\n"+operator+"\n")
}

// flapping holds for a process whose breakers opened anew in five of the last six
// slices of five minutes. Many keys that open at once are one slice.
func flapping() string {
	s := scope{window: "5m"}
	m := series.BreakerTransitions
	anew := s.total(m, "increase("+s.of(m, is("from", "closed"), is("to", "open"))+"["+s.window+"])")
	return "sum_over_time((" + anew + " > bool 0)[30m:5m]) >= 5"
}

// overloaded holds for a process that was in an overload for most of that time. A single
// scrape says little: near its capacity a service goes in and out.
func overloaded(window string) string {
	s := scope{window: window}
	m := series.LimitOverload
	return s.total(m, "avg_over_time("+s.of(m)+"["+s.window+"])") + " > 0.5"
}

// rejectedOf holds for a process that has rejected calls in that time: in MetricsOnly a
// breaker opens, and rejects none.
func rejectedOf(window string) string {
	s := scope{window: window}
	return s.flow(series.BreakerCalls, is("outcome", "rejected")) + " > 0"
}
