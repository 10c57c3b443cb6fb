// Package breaker has a circuit breaker. It stops calls to a dependency that does not
// answer, and notices by itself when the dependency answers again.
//
//	b, err := breaker.New(breaker.Config{Name: "users"})
//	user, err := resilience.Do(ctx, b, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// The zero Config opens after a silence: seven failed calls in a row, over at least a
// second. It stays open for a thirty-second of the silence, so that few calls reach a
// dependency that is down and its recovery is noticed soon. It closes through a slow
// start.
//
// # Coming from another breaker
//
// Try the default first; MetricsOnly shows what it would do. These settings are the
// defaults of other breakers:
//
//	// gobreaker: more than 5 failures in a row, a minute, 1 probe
//	breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 6}}, OpenFor: time.Minute, CloseAfter: 1}
//	// failsafe-go: the first failure, a minute, 1 probe
//	breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Minute, CloseAfter: 1}
//	// resilience4j: half of the last 100 calls failed, a minute, 10 probes
//	breaker.Config{Trip: []breaker.Rule{breaker.Rate{Failures: 50, Of: 100}}, OpenFor: time.Minute, CloseAfter: 10}
//
// These replace their settings:
//
//	gobreaker     ReadyToTrip, Interval   Trip: Consecutive, or Rate with Over for the interval
//	              Interval 0              no rule counts all calls since CLOSED; Rate counts the last ones
//	              Timeout                 OpenFor
//	              MaxRequests             CloseAfter
//	              IsSuccessful            Classify, which returns an Outcome
//	              IsExcluded              Classify, with resilience.Ignored
//	              OnStateChange           Observer
//	              TwoStepCircuitBreaker   Acquire, and Done of the permit
//	failsafe-go   FailureThreshold        Trip: Consecutive
//	              FailureThresholdRatio   Trip: Rate, with the same two numbers
//	              FailureRateThreshold    Trip: Rate with Over and AtLeast
//	              FailureThresholdPeriod  no rule counts failures in a period; Rate with Over, or Silence
//	              Delay                   OpenFor; an error with RetryAfter() for DelayFunc
//	              SuccessThreshold        CloseAfter
//	              SuccessThresholdRatio   none; CloseAfter counts successes
//	              HandleIf                Classify, which returns an Outcome
//	              OnOpen, OnClose         Observer; To of the event is the state
//	              Open, Close             SetMode(ForcedOpen), which lasts; Reset
//	              HalfOpen                none
//	              TryAcquirePermit        Acquire
//	              RecordError             Done of the permit
//	resilience4j  COUNT_BASED, TIME_BASED Trip: Rate, Rate with Over
//	              failureRateThreshold    Failures and Of: 50 % of 20 calls is Failures: 10, Of: 20
//	              minimumNumberOfCalls    AtLeast
//	              slowCall…               Trip: Slow
//	              waitDuration…           OpenFor; MaxOpenFor for an IntervalFunction that grows
//	              permittedNumber…        CloseAfter
//	              DISABLED, FORCED_OPEN   SetMode(Disabled), SetMode(ForcedOpen)
//	              METRICS_ONLY            SetMode(MetricsOnly)
//
// If IsSuccessful returns true, Classify returns Success:
//
//	Classify: func(err error) resilience.Outcome {
//		if errors.Is(err, sql.ErrNoRows) {
//			return resilience.Success
//		}
//		return resilience.Failure
//	},
//
// HALF_OPEN differs from theirs. It admits one call at first and one more for each
// success, where theirs admit as many as they need at once. After a success, a single
// failure does not open it again, unless the rule is Consecutive with 1. An error after the caller's deadline is a failure,
// where gobreaker leaves that to IsSuccessful.
package breaker
