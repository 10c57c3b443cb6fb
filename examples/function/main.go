// Command function puts policies around a function, here a query of a database that
// fails, goes down and comes back.
//
//	go run ./examples/function
//
// A call is retried if an attempt fails, an attempt has a timeout, and the breaker
// rejects calls while the database is down. A fallback answers instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

func main() { run(context.Background(), os.Stdout) }

func run(ctx context.Context, w io.Writer) {
	db := &database{failing: 2}

	p := resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "users"})),
		resilience.Must(breaker.New(breaker.Config{Name: "users"})),
		resilience.Must(timeout.New(timeout.Config{Name: "users", Timeout: time.Second})), // of one attempt
	)
	find := func(id int) (User, error) {
		return resilience.Do(ctx, p, func(ctx context.Context) (User, error) {
			return db.User(ctx, id)
		})
	}

	user, err := find(7)
	fmt.Fprintf(w, "two attempts fail:      %v, %v after %d attempts\n", user, err, db.queries)

	// The breaker opens when nothing has succeeded for a second.
	db.failing = forever
	calls, start := 0, time.Now()
	for err = nil; !errors.Is(err, resilience.ErrRejected); calls++ {
		_, err = find(7)
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Fprintf(w, "the database is down:   rejected after %v and %d failed calls\n", time.Since(start).Round(100*time.Millisecond), calls-1)

	lastKnown := user
	user, err = fallback.Do(ctx, p, func(ctx context.Context) (User, error) {
		return db.User(ctx, 7)
	}, func(context.Context, error) (User, error) {
		return lastKnown, nil
	})
	fmt.Fprintf(w, "with a fallback:        %v, %v\n", user, err)

	db.failing = 0
	for start, err = time.Now(), errDown; err != nil; time.Sleep(10 * time.Millisecond) {
		user, err = find(7)
	}
	fmt.Fprintf(w, "the database is back:   %v after %v\n", user, time.Since(start).Round(10*time.Millisecond))
}

// User is a row of the database.
type User struct{ Name string }

// database fails the next queries, as many as failing.
type database struct{ failing, queries int }

const forever = 1 << 30

var errDown = errors.New("connection refused")

// User returns the user with an id.
func (d *database) User(_ context.Context, _ int) (User, error) {
	d.queries++
	if d.failing > 0 {
		d.failing--
		return User{}, errDown
	}
	return User{"Ada"}, nil
}
