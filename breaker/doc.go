// Package breaker has a circuit breaker: it stops calls to a dependency that does
// not answer, and finds out by itself when it answers again.
//
//	b, err := breaker.New(breaker.Config{Name: "users"})
//	user, err := resilience.Do(ctx, b, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// The zero Config opens after a silence: seven calls in a row that failed, over at
// least a second. It stays open for a thirty-second of the silence, so that few
// calls reach a dependency that is down and its recovery is noticed soon, and
// closes through a slow start.
//
// # Coming from another breaker
//
// Try the default first; MetricsOnly shows what it would do. These settings give
// what others do by default:
//
//	// gobreaker: more than 5 failures in a row, a minute, 1 probe
//	breaker.Config{Trip: []breaker.Rule{breaker.Consecutive(6)}, OpenFor: time.Minute, CloseAfter: 1}
//	// failsafe-go: the first failure, a minute, 1 probe
//	breaker.Config{Trip: []breaker.Rule{breaker.Consecutive(1)}, OpenFor: time.Minute, CloseAfter: 1}
//	// resilience4j: half of the last 100 calls failed, a minute, 10 probes
//	breaker.Config{Trip: []breaker.Rule{breaker.FailureRate(50, 100)}, OpenFor: time.Minute, CloseAfter: 10}
//
// and these take the place of their settings:
//
//	gobreaker     ReadyToTrip, Interval   Trip: Consecutive, or FailureRateOver with the interval
//	              Interval 0              no rule counts all calls since CLOSED; FailureRate the last ones
//	              Timeout                 OpenFor
//	              MaxRequests             CloseAfter
//	              IsSuccessful            Classify, which returns an Outcome
//	              IsExcluded              Classify, with resilience.Ignored
//	              OnStateChange           Observer
//	              TwoStepCircuitBreaker   Acquire, and Done of the permit
//	failsafe-go   FailureThreshold        Trip: Consecutive
//	              FailureThresholdRatio   Trip: FailureRate
//	              FailureRateThreshold    Trip: FailureRateOver
//	              FailureThresholdPeriod  no rule counts failures in a period; FailureRateOver, or Silence
//	              Delay                   OpenFor; an error with RetryAfter() for DelayFunc
//	              SuccessThreshold        CloseAfter
//	              SuccessThresholdRatio   none; CloseAfter counts successes less failures
//	              HandleIf                Classify, which returns an Outcome
//	              OnOpen, OnClose         Observer; To of the event is the state
//	              Open, Close             SetMode(ForcedOpen), which lasts; Reset
//	              HalfOpen                none
//	              TryAcquirePermit        Acquire
//	              RecordError             Done of the permit
//	resilience4j  COUNT_BASED, TIME_BASED Trip: FailureRate, FailureRateOver
//	              slowCall…               Trip: SlowRate
//	              waitDuration…           OpenFor; MaxOpenFor for an IntervalFunction that grows
//	              permittedNumber…        CloseAfter
//	              DISABLED, FORCED_OPEN   SetMode(Disabled), SetMode(ForcedOpen)
//	              METRICS_ONLY            SetMode(MetricsOnly)
//
// Percentages of FailureRate round up to whole calls: for 2 of 3 write
// FailureRate(66, 3). Where IsSuccessful says true, Classify says Success:
//
//	Classify: func(err error) resilience.Outcome {
//		if errors.Is(err, sql.ErrNoRows) {
//			return resilience.Success
//		}
//		return resilience.Failure
//	},
//
// HALF_OPEN is another than theirs: it admits one call at first and one more for
// each success, where theirs admit as many as they need at once, and once it has
// credit a single failure does not open it again; and an error after the deadline of
// the caller is a failure, where gobreaker leaves that to IsSuccessful.
package breaker
