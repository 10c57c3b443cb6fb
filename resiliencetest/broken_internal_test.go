package resiliencetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
)

// broken is a policy that breaks the contract, with the rules that catch it.
type broken struct {
	policy func() resilience.Policy
	caught []string
	hangs  bool // the check hangs in real time, so only the rules in caught run
}

// patience is short where the check is known to hang.
func (b broken) patience() time.Duration {
	if b.hangs {
		return time.Second
	}
	return patience
}

func brokenPolicies() map[string]broken {
	all := map[string]broken{}
	for _, some := range []map[string]broken{brokenResults(), brokenRuns(), brokenUnwinding(), brokenLocks(), brokenHolding()} {
		for name, b := range some {
			all[name] = b
		}
	}
	return all
}

func brokenResults() map[string]broken {
	return map[string]broken{
		"rejects all": {caught: []string{"admits", "unwinding", "settling", "done"}, policy: always(func(context.Context, resilience.Next) error {
			return resilience.ErrRejected
		})},
		"rejects the first": {caught: []string{"admits"}, policy: func() resilience.Policy {
			var seen atomic.Bool
			return apply(func(ctx context.Context, next resilience.Next) error {
				if !seen.Swap(true) {
					return resilience.ErrRejected
				}
				return next.Run(ctx)
			})
		}},
		"mixes up results": {caught: []string{"concurrency"}, policy: func() resilience.Policy { return &mixer{} }},
		"keeps the text of the error only": {caught: []string{"errors"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			if err := next.Run(ctx); err != nil && !errors.Is(err, ctx.Err()) {
				return errors.New(err.Error())
			} else {
				return err
			}
		})},
		"hides the error from As": {caught: []string{"errors"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			if err := next.Run(ctx); err != nil {
				return onlyIs{err}
			}
			return nil
		})},
		"rejects after the run": {caught: []string{"rejections"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			if err := next.Run(ctx); err != nil {
				return errors.Join(err, resilience.ErrRejected)
			}
			return nil
		})},
		"retries what is canceled": {caught: []string{"done"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if err != nil && ctx.Err() != nil {
				next.Discard()
				err = next.Run(ctx)
			}
			return err
		})},
		"has its own error for a done context": {caught: []string{"done"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			if ctx.Err() != nil {
				return errors.New("too late")
			}
			return next.Run(ctx)
		})},
	}
}

// mixer stores the error of a call where another call may overwrite it.
type mixer struct {
	mu  sync.Mutex
	err error
}

func (m *mixer) Apply(ctx context.Context, next resilience.Next) error {
	err := next.Run(ctx)
	m.mu.Lock()
	m.err = err
	m.mu.Unlock()
	time.Sleep(time.Millisecond)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

type onlyIs struct{ err error }

func (e onlyIs) Error() string        { return e.err.Error() }
func (e onlyIs) Is(target error) bool { return errors.Is(e.err, target) }

func brokenRuns() map[string]broken {
	under := func(derive func(context.Context) context.Context) func() resilience.Policy {
		return always(func(ctx context.Context, next resilience.Next) error { return next.Run(derive(ctx)) })
	}
	return map[string]broken{
		"hedges":                   {caught: []string{"sequence", "goroutines", "discarding", "done"}, policy: always(hedge)},
		"abandons":                 {caught: []string{"sequence"}, policy: always(abandon)},
		"passes another context":   {caught: []string{"context"}, policy: under(func(context.Context) context.Context { return context.Background() })},
		"passes values only":       {caught: []string{"context"}, policy: under(context.WithoutCancel)},
		"passes all but the cause": {caught: []string{"context"}, policy: under(func(ctx context.Context) context.Context { return anonymous{ctx} })},
		"second run without context": {caught: []string{"context"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if err != nil && ctx.Err() == nil {
				next.Discard()
				err = next.Run(context.Background())
			}
			return err
		})},
		"starts a goroutine": {caught: []string{"goroutines"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			go func() {}()
			return err
		})},
		"leaves a goroutine behind": {caught: allRules(), policy: always(func(ctx context.Context, next resilience.Next) error {
			go func() { select {} }()
			return next.Run(ctx)
		})},
		"waits before Discard": {caught: []string{"discarding"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if err != nil && ctx.Err() == nil {
				time.Sleep(time.Second)
				next.Discard()
				err = next.Run(ctx)
			}
			return err
		})},
		"runs again without Discard": {caught: []string{"discarding"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if err != nil && ctx.Err() == nil {
				err = next.Run(ctx)
			}
			return err
		})},
		"answers without Discard": {caught: []string{"discarding"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			return nil
		})},
	}
}

// allRules returns the names of all rules.
func allRules() (names []string) {
	for _, r := range rules {
		names = append(names, r.name)
	}
	return names
}

// anonymous is a context whose Value hides the cause.
type anonymous struct{ context.Context }

func (a anonymous) Value(key any) any {
	if _, ok := key.(contextKey); ok {
		return a.Context.Value(key)
	}
	return nil
}

// hedge runs next twice at once and waits for both.
func hedge(ctx context.Context, next resilience.Next) error {
	first := make(chan error, 1)
	go func() {
		err := resilience.ErrAborted
		defer func() {
			_ = recover()
			first <- err
		}()
		err = next.Run(ctx)
	}()
	second := next.Run(ctx)
	return errors.Join(<-first, second)
}

// abandon returns when the context is done, even if next has not returned.
func abandon(ctx context.Context, next resilience.Next) error {
	if ctx.Done() == nil {
		return next.Run(ctx)
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("panic: %v", v)
			}
		}()
		done <- next.Run(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func brokenUnwinding() map[string]broken {
	return map[string]broken{
		"recovers": {caught: []string{"unwinding"}, policy: always(func(ctx context.Context, next resilience.Next) (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = fmt.Errorf("panic: %v", v)
				}
			}()
			return next.Run(ctx)
		})},
		"wraps the panic": {caught: []string{"unwinding"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			defer func() {
				if v := recover(); v != nil {
					panic(fmt.Errorf("panic: %v", v))
				}
			}()
			return next.Run(ctx)
		})},
		"panics again": {caught: []string{"unwinding"}, policy: always(func(ctx context.Context, next resilience.Next) error {
			defer func() {
				if v := recover(); v != nil {
					panic(v)
				}
			}()
			return next.Run(ctx)
		})},
		"keeps its slot on panic and Goexit": {caught: []string{"unwinding"}, policy: func() resilience.Policy {
			s := &slots{capacity: 1000}
			return apply(func(ctx context.Context, next resilience.Next) error {
				if err := s.take(); err != nil {
					return err
				}
				err := next.Run(ctx)
				next.Settle(resilience.Ended, err, s, 0)
				return err
			})
		}},
		"ignores panics": {caught: []string{"outcomes"}, policy: func() resilience.Policy {
			return &breaker{forgets: func(err error) bool { return err == resilience.ErrAborted }}
		}},
	}
}

func brokenLocks() map[string]broken {
	return map[string]broken{
		"holds a mutex while next runs": {caught: []string{"locks"}, hangs: true, policy: func() resilience.Policy {
			var mu sync.Mutex
			return apply(func(ctx context.Context, next resilience.Next) error {
				mu.Lock()
				defer mu.Unlock()
				return next.Run(ctx)
			})
		}},
		"holds a mutex while it calls the error": {caught: []string{"locks"}, hangs: true, policy: func() resilience.Policy {
			var mu sync.Mutex
			return apply(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				mu.Lock()
				defer mu.Unlock()
				resilience.OutcomeOf(ctx, err, nil)
				return err
			})
		}},
		"holds a mutex while it discards": {caught: []string{"locks"}, hangs: true, policy: func() resilience.Policy {
			var mu sync.Mutex
			return apply(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				if err != nil && ctx.Err() == nil {
					mu.Lock()
					defer mu.Unlock()
					next.Discard()
				}
				return err
			})
		}},
		"holds a channel while next runs": {caught: []string{"locks", "settling"}, policy: func() resilience.Policy {
			lock := make(chan struct{}, 1)
			return apply(func(ctx context.Context, next resilience.Next) error {
				lock <- struct{}{}
				defer func() { <-lock }()
				return next.Run(ctx)
			})
		}},
	}
}

func brokenHolding() map[string]broken {
	return map[string]broken{
		"releases when next returns": {caught: []string{"settling"}, policy: func() resilience.Policy {
			s := &slots{capacity: 5}
			return apply(func(ctx context.Context, next resilience.Next) error {
				if err := s.take(); err != nil {
					return err
				}
				defer s.Settle(0, nil)
				return next.Run(ctx)
			})
		}},
		"releases twice": {caught: []string{"settling"}, policy: func() resilience.Policy {
			s := &slots{capacity: 5}
			return apply(func(ctx context.Context, next resilience.Next) error {
				if err := s.take(); err != nil {
					return err
				}
				err := resilience.ErrAborted
				defer func() {
					next.Settle(resilience.Answered, err, s, 0)
					next.Settle(resilience.Ended, err, s, 0)
				}()
				err = next.Run(ctx)
				return err
			})
		}},
		"never releases after a success": {caught: []string{"settling"}, policy: func() resilience.Policy {
			s := &slots{capacity: 100}
			return apply(func(ctx context.Context, next resilience.Next) error {
				if err := s.take(); err != nil {
					return err
				}
				err := resilience.ErrAborted
				defer func() {
					if err != nil {
						next.Settle(resilience.Ended, err, s, 0)
					}
				}()
				err = next.Run(ctx)
				return err
			})
		}},
	}
}
