package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

func ExampleNew() {
	b, err := breaker.New(breaker.Config{Name: "users"})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = resilience.Run(context.Background(), b, func(ctx context.Context) error {
		return nil // call the dependency
	})
	fmt.Println(err, b.State())
	// Output: <nil> CLOSED
}

// This breaker works as other libraries do: five failures in a row open it for half a
// minute, and the first success closes it.
func ExampleConfig() {
	b := resilience.Must(breaker.New(breaker.Config{
		Name:       "users",
		Trip:       []breaker.Rule{breaker.Consecutive{Failures: 5}},
		OpenFor:    30 * time.Second,
		CloseAfter: 1,
	}))
	for range 5 {
		_ = resilience.Run(context.Background(), b, func(context.Context) error { return errors.New("connection refused") })
	}
	err := resilience.Run(context.Background(), b, func(context.Context) error { return nil })
	fmt.Println(b.State(), errors.Is(err, breaker.ErrOpen))
	// Output: OPEN true
}

// greet gets a name from the users service, or falls back if the breaker is open.
func greet(ctx context.Context, b *breaker.Breaker, user func(context.Context) (string, error)) string {
	name, err := resilience.Do(ctx, b, user)
	if r, ok := errors.AsType[*resilience.Rejection](err); ok && errors.Is(err, breaker.ErrOpen) {
		return fmt.Sprintf("Hello! (%s, %v)", r.Name, r.Cause) // nothing was sent
	}
	if err != nil {
		return "Sorry: " + err.Error()
	}
	return "Hello, " + name + "!"
}

func ExampleBreaker() {
	users := resilience.Must(breaker.New(breaker.Config{
		Name: "users",
		Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}},
	}))
	ctx := context.Background()
	fmt.Println(greet(ctx, users, func(context.Context) (string, error) { return "Ada", nil }))
	for range 3 {
		fmt.Println(greet(ctx, users, func(context.Context) (string, error) { return "", errors.New("connection refused") }))
	}
	// Output:
	// Hello, Ada!
	// Sorry: connection refused
	// Sorry: connection refused
	// Hello! (users, connection refused)
}

// try makes one call for each error, gap apart, and prints the state after each.
func try(b *breaker.Breaker, mock *clock.Mock, gap time.Duration, errs ...error) {
	var states []breaker.State
	for _, err := range errs {
		_ = resilience.Run(context.Background(), b, func(context.Context) error { return err })
		states = append(states, b.State())
		mock.Add(gap)
	}
	fmt.Println(states)
}

// ruled returns a breaker with one rule, and its clock.
func ruled(r breaker.Rule) (*breaker.Breaker, *clock.Mock) {
	mock := clock.NewMock()
	return resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{r}, OpenFor: time.Minute, Clock: mock})), mock
}

// The failures must last for a second, so a short pause does not open the breaker.
func ExampleSilence() {
	b, mock := ruled(breaker.Silence{Failures: 3, Span: time.Second})
	down := errors.New("down")
	try(b, mock, 100*time.Millisecond, down, down, down, down)
	try(b, mock, 500*time.Millisecond, nil, down, down, down)
	// Output:
	// [CLOSED CLOSED CLOSED CLOSED]
	// [CLOSED CLOSED CLOSED OPEN]
}

func ExampleConsecutive() {
	b, mock := ruled(breaker.Consecutive{Failures: 3})
	down := errors.New("down")
	try(b, mock, 0, down, down, nil, down, down, down)
	// Output: [CLOSED CLOSED CLOSED CLOSED CLOSED OPEN]
}

// Three of the last six calls open the breaker.
func ExampleRate() {
	b, mock := ruled(breaker.Rate{Failures: 3, Of: 6})
	down := errors.New("down")
	try(b, mock, 0, nil, down, nil, down, nil, down)
	// Output: [CLOSED CLOSED CLOSED CLOSED CLOSED OPEN]
}

// Half of the calls of the last ten seconds open the breaker, if there are at least four.
func ExampleRate_over() {
	b, mock := ruled(breaker.Rate{Failures: 2, Of: 4, Over: 10 * time.Second})
	down := errors.New("down")
	try(b, mock, 10*time.Second, down, down, down)
	try(b, mock, time.Second, nil, down, nil, down)
	// Output:
	// [CLOSED CLOSED CLOSED]
	// [CLOSED CLOSED CLOSED OPEN]
}

// All calls succeed, but half of them take more than a second.
func ExampleSlow() {
	b, mock := ruled(breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 4, Over: time.Minute})
	for _, took := range []time.Duration{10 * time.Millisecond, 2 * time.Second, 20 * time.Millisecond, 3 * time.Second} {
		_ = resilience.Run(context.Background(), b, func(context.Context) error {
			mock.Add(took) // the work
			return nil
		})
		fmt.Println(took, b.State())
	}
	// Output:
	// 10ms CLOSED
	// 2s CLOSED
	// 20ms CLOSED
	// 3s OPEN
}

// A permit guards work that begins in one function and ends in another.
func ExampleBreaker_Acquire() {
	b := resilience.Must(breaker.New(breaker.Config{Name: "exports"}))
	work := func(done func(error)) { go done(errors.New("disk full")) }

	permit, err := b.Acquire(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan bool)
	work(func(err error) {
		permit.Done(err)
		close(ended)
	})
	<-ended
	fmt.Println(b.Stats().Failures, "failure")
	// Output: 1 failure
}

// consume handles one message of a queue under b.
func consume(ctx context.Context, b *breaker.Breaker, receive func() (work resilience.Func)) (err error) {
	if err := b.Wait(ctx); err != nil { // leave messages in the queue while b is open
		return err
	}
	permit, err := b.Acquire(ctx)
	if err != nil {
		return err // another consumer was faster
	}
	work := receive()
	if work == nil {
		permit.Cancel() // there was no work
		return nil
	}
	err = resilience.ErrAborted // the result if work panics
	defer func() { permit.Done(err) }()
	err = work(ctx)
	return err
}

func ExampleBreaker_Wait() {
	b := resilience.Must(breaker.New(breaker.Config{
		Name: "orders", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Millisecond, CloseAfter: 1,
	}))
	queue := []resilience.Func{
		func(context.Context) error { return errors.New("disk full") },
		nil, // the queue was empty
		func(context.Context) error { return nil },
	}
	for _, work := range queue {
		fmt.Println(consume(context.Background(), b, func() resilience.Func { return work }))
	}
	fmt.Println(b.Stats().Opened, b.State(), b.Stats().Rejected)
	// Output:
	// disk full
	// <nil>
	// <nil>
	// 1 CLOSED 0
}

// An operator takes a dependency out of service and puts it back.
func ExampleBreaker_SetMode() {
	b := resilience.Must(breaker.New(breaker.Config{Name: "users"}))
	call := func() error {
		return resilience.Run(context.Background(), b, func(context.Context) error { return nil })
	}
	b.SetMode(breaker.ForcedOpen)
	fmt.Println(call())
	b.SetMode(breaker.Auto)
	fmt.Println(call())
	// Output:
	// breaker "users": rejected: open: forced open
	// <nil>
}

func ExampleBreaker_Reset() {
	b, mock := ruled(breaker.Consecutive{Failures: 1})
	try(b, mock, 0, errors.New("down"))
	b.Reset()
	fmt.Println(b.State(), b.Stats().Opened)
	// Output:
	// [OPEN]
	// CLOSED 1
}

// Explain prints why a breaker is open, since when, and what happens next.
func ExampleBreaker_Explain() {
	mock := clock.NewMock()
	mock.Set(time.Date(2026, time.March, 1, 9, 30, 0, 0, time.UTC))
	b := resilience.Must(breaker.New(breaker.Config{Name: "users", OpenFor: 5 * time.Second, CloseAfter: 8, Clock: mock}))
	call := func(err error) {
		_ = resilience.Run(context.Background(), b, func(context.Context) error { return err })
	}
	for range 7 {
		call(errors.New(`Get "https://app:secret@users.example/42?token=abc": connection refused`))
		mock.Add(200 * time.Millisecond)
	}
	mock.Add(6 * time.Second)
	call(errors.New("EOF")) // the probe
	mock.Add(1800 * time.Millisecond)
	fmt.Println(b.Explain())
	// Output:
	// breaker "users": OPEN for 1.8s, since 2026-03-01 09:30:07.400 UTC
	// why:  a probe failed, after: EOF; it opened 8s ago on Silence{Failures: 7, Span: time.Second}: 7 failed in a row, after: Get "https://users.example/42?…": connection refused
	// next: rejects every call for another 3.2s; the next call after that is the probe
	// history:
	//   2026-03-01 09:30:01.200 UTC  CLOSED -> OPEN, Silence{Failures: 7, Span: time.Second}: 7 failed in a row, for 5s, after: Get "https://users.example/42?…": connection refused
	//   2026-03-01 09:30:07.400 UTC  OPEN -> HALF_OPEN, open time is over
	//   2026-03-01 09:30:07.400 UTC  HALF_OPEN -> OPEN, a probe failed, for 5s, after: EOF
}
