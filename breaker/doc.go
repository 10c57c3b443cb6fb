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
//	gobreaker     more than 5 failures in a row, a minute, 1 probe
//	              Trip: []Rule{Consecutive(6)}, OpenFor: time.Minute, CloseAfter: 1
//	failsafe-go   the first failure, a minute, 1 probe
//	              Trip: []Rule{Consecutive(1)}, OpenFor: time.Minute, CloseAfter: 1
//	resilience4j  half of the last 100 calls failed, a minute, 10 probes
//	              Trip: []Rule{FailureRate(50, 100)}, OpenFor: time.Minute, CloseAfter: 10
//
// and these take the place of their settings:
//
//	gobreaker     ReadyToTrip, Interval   Trip: Consecutive, or FailureRateOver with the interval
//	              Timeout                 OpenFor
//	              MaxRequests             CloseAfter
//	              IsSuccessful            Classify
//	              OnStateChange           Observer
//	              TwoStepCircuitBreaker   Acquire
//	failsafe-go   FailureThreshold        Trip: Consecutive
//	              FailureThresholdRatio   Trip: FailureRate
//	              FailureRateThreshold    Trip: FailureRateOver
//	              Delay                   OpenFor; an error with RetryAfter() for DelayFunc
//	              SuccessThreshold        CloseAfter
//	              HandleIf                Classify
//	resilience4j  COUNT_BASED, TIME_BASED Trip: FailureRate, FailureRateOver
//	              slowCall…               Trip: SlowRate
//	              waitDuration…           OpenFor; MaxOpenFor for an IntervalFunction that grows
//	              permittedNumber…        CloseAfter
//	              DISABLED, FORCED_OPEN   SetMode(Disabled), SetMode(ForcedOpen)
//	              METRICS_ONLY            SetMode(MetricsOnly)
//
// HALF_OPEN is another than theirs: it admits one call at first and one more for
// each success, where theirs admit as many as they need at once; and the deadline of
// a caller that passes is a failure, where gobreaker leaves that to IsSuccessful.
package breaker
