package search

import "time"

// Trials counts trials by result.
type Trials struct {
	// Raised: the throughput was higher with more requests, or the load did not reach the higher
	// limit. NotRaised: it was the same, so the limit stayed.
	Raised, NotRaised uint64
	// Lowered: the throughput was the same with fewer requests, a first trial found the knee, or
	// requests waited less for a processor. NotLowered: the throughput was lower.
	Lowered, NotLowered uint64
	// Inconclusive: the trial was interrupted or took too long, or none was queued in it.
	Inconclusive uint64
}

// A Result is what a trial has shown. The throughput during it does not matter if requests waited
// less for a processor.
type Result struct {
	At            int64   // when it ended, 0 if there was no trial
	Level         int32   // requests in the handler during the trial, at most
	Flight        float32 // requests in the handler before it
	Before, After float32 // useful completions per second before and during it, 0 if that does not matter
}

// Last returns the result of the last trial.
func (s *Search) Last() Result { return s.last }

// Rest returns until when no trial begins.
func (s *Search) Rest() int64 { return s.rest }

// Results returns the trials since it was last called.
func (s *Search) Results() (t Trials) {
	t, s.results = s.results, t
	return t
}

// ends records what the trial has shown, and returns the window that ends with it.
func (s *Search) ends(now int64, throughput float64) Window {
	t, w := &s.trial, &s.window
	s.last = Result{now, int32(t.level), float32(t.flight), perSecond(t.base), perSecond(throughput)}
	return Window{true, max(float64(w.useful), t.base*w.length(now))}
}

// perSecond converts a throughput.
func perSecond(x float64) float32 { return float32(x * float64(time.Second)) }
