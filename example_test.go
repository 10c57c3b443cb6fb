package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
)

// named is a policy that prints its name on the way in and out.
type named string

func (n named) Apply(ctx context.Context, next resilience.Next) error {
	fmt.Println("into", n)
	err := next.Run(ctx)
	fmt.Println("out of", n)
	return err
}

func ExampleCompose() {
	p := resilience.Compose(named("retry"), named("breaker"))
	err := resilience.Run(context.Background(), p, func(context.Context) error {
		fmt.Println("operation")
		return nil
	})
	fmt.Println(err)
	// Output:
	// into retry
	// into breaker
	// operation
	// out of breaker
	// out of retry
	// <nil>
}

func ExampleRun() {
	err := resilience.Run(context.Background(), named("breaker"), func(context.Context) error {
		return errors.New("connection refused")
	})
	fmt.Println(err)
	// Output:
	// into breaker
	// out of breaker
	// connection refused
}

func ExampleDo() {
	user, err := resilience.Do(context.Background(), resilience.Compose(), func(context.Context) (string, error) {
		return "Ada", nil
	})
	fmt.Println(user, err)
	// Output:
	// Ada <nil>
}

// lookup is an Operation: one call with its arguments and its result. A func that
// captures as much allocates for each variable.
type lookup struct {
	id   int
	name string
}

func (l *lookup) Run(context.Context) error {
	l.name = fmt.Sprint("user ", l.id)
	return nil
}

func ExampleRunOperation() {
	l := &lookup{id: 7}
	err := resilience.RunOperation(context.Background(), resilience.Compose(), l)
	fmt.Println(l.name, err)
	// Output: user 7 <nil>
}

func ExampleLogObserver() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	o := resilience.LogObserver(log) // for the Observer of a Config

	// The event of a breaker that opens:
	o.Observe(context.Background(), resilience.Event{
		Kind: breaker.EventOpened, Level: slog.LevelWarn, Policy: "breaker", Name: "users",
		From: "CLOSED", To: "OPEN", Reason: "Silence{Failures: 7, Span: time.Second}", Failures: 7,
	})
	// Output: level=WARN msg="breaker opened" name=users from=CLOSED to=OPEN reason="Silence{Failures: 7, Span: time.Second}" failures=7
}

func ExampleAttempt() {
	ctx := context.Background()
	fmt.Println(resilience.Attempt(ctx), resilience.Attempt(resilience.WithAttempt(ctx, 2)))
	// Output: 1 2
}

// newLimit is an example of a policy's New.
func newLimit(n int) (resilience.Policy, error) {
	if n < 0 {
		return nil, errors.New("limit: negative; leave it 0 for the default")
	}
	return named("limit"), nil
}

func ExampleMust() {
	defer func() { fmt.Println("panic:", recover()) }()
	p := resilience.Must(newLimit(10))
	fmt.Println(p)
	resilience.Must(newLimit(-1))
	// Output:
	// limit
	// panic: limit: negative; leave it 0 for the default
}

// once allows one operation at a time. It holds its slot until the response has been
// read to its end.
type once struct{ busy chan struct{} }

func (o *once) Apply(ctx context.Context, next resilience.Next) error {
	if err := resilience.ContextError(ctx); err != nil {
		return err // and take no slot
	}
	select {
	case o.busy <- struct{}{}:
	default:
		return &resilience.Rejection{Policy: "once", Reason: bulkhead.Full}
	}
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, o, 0) }()
	err = next.Run(ctx)
	return err
}

func (o *once) Settle(uint64, error) { <-o.busy }

func ExampleNext_Settle() {
	p := &once{busy: make(chan struct{}, 1)}
	err := resilience.Run(context.Background(), p, func(ctx context.Context) error {
		return resilience.Run(ctx, p, func(context.Context) error { return nil })
	})
	fmt.Println(err)
	// Output:
	// once: rejected: full
}
