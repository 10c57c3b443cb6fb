package resiliencetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/resilience-go/resilience"
)

// ErrHang stands in a Script for a run that does not come back before its context
// is done. The run then returns resilience.ContextError.
var ErrHang = errors.New("resiliencetest: hang")

// Scripted is the operation that Script returns. It is safe for concurrent use.
type Scripted struct {
	mu   sync.Mutex // guards runs
	runs int
	errs []error
}

// Script returns an operation whose first run returns the first error, the second
// run the second, and so on; nil is a success, and ErrHang waits. The last one is
// returned ever after, so Script(err) always fails and Script(err, err, nil) fails
// twice. Script() always succeeds.
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
	if err == ErrHang { // a mark, not an error that somebody wraps
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

// Recorder is a resilience.Observer that keeps what it hears. The zero value is
// ready for use; it is safe for concurrent use and must not be copied after.
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

// Events returns the events of the given kinds so far, of all kinds if none are
// given, in the order in which they were observed.
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
