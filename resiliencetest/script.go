package resiliencetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/resilience-go/resilience"
)

// ErrHang in a Script is a run that hangs until its context is done. The run then returns
// resilience.ContextError.
var ErrHang = errors.New("resiliencetest: hang")

// Scripted is the operation that Script returns. It is safe for concurrent use.
type Scripted struct {
	mu   sync.Mutex // guards runs
	runs int
	errs []error
}

// Script returns an operation whose runs return the errors in order. nil is a success, and
// ErrHang waits. Further runs return the last error again: Script(err) always fails, and
// Script(err, err, nil) fails twice. Script() always succeeds.
//
// Use it as an Operation, or its method Run as a resilience.Func.
func Script(errs ...error) *Scripted {
	return &Scripted{errs: slices.Clone(errs)}
}

// Run implements resilience.Operation.
func (s *Scripted) Run(ctx context.Context) error {
	s.mu.Lock()
	s.runs++
	var err error
	if n := len(s.errs); n > 0 {
		err = s.errs[min(s.runs, n)-1]
	}
	s.mu.Unlock()
	if err == ErrHang { // compared by identity: ErrHang is a mark
		<-ctx.Done()
		return resilience.ContextError(ctx)
	}
	return err
}

// Runs returns how many runs were started.
func (s *Scripted) Runs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// Recorder is a resilience.Observer that keeps the events. The zero value is ready for use.
// A Recorder is safe for concurrent use. Do not copy it after first use.
type Recorder struct {
	mu     sync.Mutex // guards events
	events []resilience.Event
}

// Observe implements resilience.Observer.
func (r *Recorder) Observe(_ context.Context, e resilience.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Events returns the events so far, in the order in which they were observed. With kinds, it
// returns only the events of these kinds.
func (r *Recorder) Events(kinds ...string) []resilience.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var events []resilience.Event
	for _, e := range r.events {
		if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
			events = append(events, e)
		}
	}
	return events
}

// Transitions returns the changes of state so far, such as "CLOSED->OPEN".
func (r *Recorder) Transitions() []string {
	var names []string
	for _, e := range r.Events() {
		if e.To != "" {
			names = append(names, e.From+"->"+e.To)
		}
	}
	return names
}
