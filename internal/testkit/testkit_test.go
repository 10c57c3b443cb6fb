package testkit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
)

var errBoom = errors.New("boom")

// Unwind returns how the function ended.
func TestUnwind_ending(t *testing.T) {
	for _, want := range []error{nil, errBoom} {
		if e := testkit.Unwind(func() error { return want }); e != (testkit.Ending{Err: want}) {
			t.Errorf("ended with %+v, want error %v", e, want)
		}
	}
	for name, how := range testkit.Aborts(errBoom) {
		if e := testkit.Unwind(func() error { how.Abort(); return nil }); e != how {
			t.Errorf("%s: ended with %+v", name, e)
		}
	}
}

// A Lasting operation settles when it is answered and when it ends.
func TestLasting_moments(t *testing.T) {
	var settled []string
	at := func(name string) settler { return func(error) { settled = append(settled, name) } }
	op := &testkit.Lasting{Mute: true}
	p := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		next.Settle(resilience.Answered, err, at("answered"), 0)
		next.Settle(resilience.Ended, err, at("ended"), 0)
		return err
	})
	for i, step := range []func(){
		func() { _ = resilience.RunOperation(t.Context(), p, op) }, op.Reply, op.Discard,
	} {
		if step(); len(settled) != i {
			t.Errorf("step %d: settled %v", i, settled)
		}
	}
}

type settler func(error)

func (s settler) Settle(_ uint64, err error) { s(err) }

// A Listener connects in memory, and fails once it is closed.
func TestListener_connects(t *testing.T) {
	l := testkit.NewListener()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("hello"))
		conn.Close()
	}()
	conn, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); string(b) != "hello" || err != nil {
		t.Errorf("read %q and %v", b, err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Dial(done); !errors.Is(err, context.Canceled) {
		t.Errorf("without an Accept: %v", err)
	}
	l.Close()
	l.Close()
	if _, err := l.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialed a closed one: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted from a closed one: %v", err)
	}
}

// A Clock stands still until Move moves it, and calls OnSince.
func TestClock_Move(t *testing.T) {
	c := testkit.NewClock()
	start, calls := c.Now(), 0
	c.OnSince = func() { calls++ }
	for _, d := range []time.Duration{time.Hour, -time.Minute} {
		before := c.Since(start)
		if c.Move(d); c.Since(start) != before+d {
			t.Errorf("%v after Move(%v) from %v", c.Since(start), d, before)
		}
	}
	if calls < 4 {
		t.Errorf("OnSince was called %d times", calls)
	}
}

// Jump moves the wall time of a JumpClock and not its monotonic time, also in a bubble.
func TestJumpClock_Jump(t *testing.T) {
	check := func(t *testing.T) {
		for _, d := range []time.Duration{8 * time.Hour, -8 * time.Hour} {
			c := testkit.NewJumpClock()
			before := c.Now()
			if wall := before.Round(0).Sub(time.Now().Round(0)); wall.Abs() > time.Minute {
				t.Errorf("the wall time is wrong by %v", wall)
			}
			c.Jump(d)
			time.Sleep(time.Millisecond)
			after := c.Now()
			if m := after.Sub(before); m < time.Millisecond || m > time.Minute || c.Since(before) > time.Minute {
				t.Errorf("the monotonic time moved by %v after Jump(%v)", m, d)
			}
			if w := after.Round(0).Sub(before.Round(0)); w < d || w > d+time.Minute {
				t.Errorf("the wall time moved by %v after Jump(%v)", w, d)
			}
		}
	}
	t.Run("real time", check)
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, check) })
}
