package grpcmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const second = time.Second

// limited opens a stream under guards, and inside of them under a time limit of a
// second until at, to a server with that handler.
func limited(t *testing.T, at resilience.Moment, handler func(duplex) error, use func(t *testing.T, g *guards, l *timeout.Timeout, st call)) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuards()
		l := resilience.Must(timeout.New(timeout.Config{Timeout: second, Until: at}))
		r := memory.serve(t, &service{duplex: handler}, nil, guarded(g.around(l)))
		use(t, g, l, r.open(t, patience(t)))
	})
}

// A stream that a timeout cuts off is a failure of the server.
func TestClient_streamTimeoutIsFailure(t *testing.T) {
	for name, at := range map[string]resilience.Moment{"until answered": resilience.Answered, "until ended": resilience.Ended} {
		t.Run(name+", read", func(t *testing.T) {
			limited(t, at, hang(0), func(t *testing.T, g *guards, l *timeout.Timeout, st call) {
				for range 2 {
					_, err := st.Recv()
					wantExceeded(t, err)
				}
				g.end(t, codes.DeadlineExceeded, codes.DeadlineExceeded, resilience.Failure)
				if s := l.Stats(); s != (timeout.Stats{Calls: 1, Exceeded: 1}) {
					t.Errorf("counted %+v", s)
				}
			})
		})
		t.Run(name+", never read", func(t *testing.T) {
			limited(t, at, hang(1), func(t *testing.T, g *guards, l *timeout.Timeout, st call) {
				g.end(t, codes.DeadlineExceeded, codes.DeadlineExceeded, resilience.Failure)
				_, err := st.Recv()
				for err == nil { // the message may have come before
					_, err = st.Recv()
				}
				wantExceeded(t, err)
			})
		})
	}
}

// wantExceeded wants an error that says over gRPC and over errors.Is alike that the
// time was over, and nothing else.
func wantExceeded(t *testing.T, err error) {
	t.Helper()
	wantCode(t, err, codes.DeadlineExceeded)
	if !errors.Is(err, timeout.ErrExceeded) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Errorf("not just the time: %v", err)
	}
}

// A timeout until Answered does not affect the rest of a stream.
func TestClient_streamTimeoutUntilAnswered(t *testing.T) {
	slow := func(st duplex) error {
		for range 3 {
			if err := st.Send(&response{}); err != nil {
				return err
			}
			time.Sleep(10 * second / 4)
		}
		return nil
	}
	limited(t, resilience.Answered, slow, func(t *testing.T, g *guards, l *timeout.Timeout, st call) {
		recv(t, st, 3)
		g.answeredOnly(t)
		if _, err := st.Recv(); err != io.EOF {
			t.Error(err)
		}
		g.end(t, codes.OK, codes.OK, resilience.Success)
		if s := l.Stats(); s != (timeout.Stats{Calls: 1}) {
			t.Errorf("counted %+v", s)
		}
	})
}

// A timeout until Ended cuts off a stream that has answered.
func TestClient_streamTimeoutUntilEnded(t *testing.T) {
	limited(t, resilience.Ended, hang(1), func(t *testing.T, g *guards, l *timeout.Timeout, st call) {
		recv(t, st, 1)
		_, err := st.Recv()
		wantExceeded(t, err)
		g.end(t, codes.OK, codes.DeadlineExceeded, resilience.Success)
	})
}

// A timeout until Ended is sent to the server.
func TestClient_streamTimeoutIsSent(t *testing.T) {
	left := make(chan time.Duration, 1)
	limited(t, resilience.Ended, func(st duplex) error {
		deadline, _ := st.Context().Deadline()
		left <- time.Until(deadline)
		return nil
	}, func(t *testing.T, g *guards, l *timeout.Timeout, st call) {
		if d := <-left; d <= 0 || d > second {
			t.Errorf("the server has %v", d)
		}
		st.Recv()
	})
}

// A stream that cannot be made in time is a timeout.
func TestClient_streamTimeoutOnCreate(t *testing.T) {
	for name, at := range map[string]resilience.Moment{"until answered": resilience.Answered, "until ended": resilience.Ended} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuards()
				l := resilience.Must(timeout.New(timeout.Config{Timeout: second, Until: at}))
				r := memory.serve(t, &service{}, nil, guarded(g.around(l)), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}))
				_, err := r.FullDuplexCall(patience(t))
				wantExceeded(t, err)
				g.end(t, codes.DeadlineExceeded, codes.DeadlineExceeded, resilience.Failure)
			})
		})
	}
}

// The caller's deadline is a failure of the server.
func TestClient_streamDeadlineIsFailure(t *testing.T) {
	odd := errors.New("odd")
	for name, c := range map[string]struct {
		with  func(context.Context) (context.Context, context.CancelFunc)
		cause error // that the error says, if any
		code  codes.Code
		judge resilience.Outcome
	}{
		"a deadline": {
			with: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, second)
			},
			code: codes.DeadlineExceeded, judge: resilience.Failure,
		},
		"canceled by a timeout": {
			with: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return canceledAfter(ctx, testkit.TimedOut{Err: context.DeadlineExceeded})
			},
			cause: context.DeadlineExceeded, code: codes.DeadlineExceeded, judge: resilience.Failure,
		},
		"canceled because of another call's deadline": {
			with: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return canceledAfter(ctx, fmt.Errorf("another call: %w", context.DeadlineExceeded))
			},
			code: codes.Canceled, judge: resilience.Ignored,
		},
		"canceled because of something else": {
			with: func(ctx context.Context) (context.Context, context.CancelFunc) { return canceledAfter(ctx, odd) },
			code: codes.Canceled, judge: resilience.Ignored,
		},
	} {
		for how, read := range map[string]bool{"read": true, "never read": false} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newGuards()
					r := memory.serve(t, &service{duplex: hang(0)}, nil, guarded(g.around()))
					ctx, cancel := c.with(patience(t))
					defer cancel()
					st := r.open(t, ctx)
					if read {
						_, err := st.Recv()
						if wantCode(t, err, c.code); c.cause != nil && !errors.Is(err, c.cause) {
							t.Errorf("not %v: %v", c.cause, err)
						}
					}
					g.end(t, c.code, c.code, c.judge)
				})
			})
		}
	}
}

// canceledAfter returns a context that is canceled with the cause after a second.
func canceledAfter(ctx context.Context, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(second, func() { cancel(cause) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}

const slowRetries = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "20s", "maxBackoff": "20s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// SendMsg returns the timeout while gRPC waits to make the stream again.
func TestClient_streamTimeoutOnSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuards()
		l := resilience.Must(timeout.New(timeout.Config{Timeout: second, Until: resilience.Answered}))
		r := memory.serve(t, &service{duplex: answer(0, status.Error(codes.Unavailable, "down"))}, nil,
			guarded(g.around(l)), grpc.WithDefaultServiceConfig(slowRetries))
		st := r.open(t, patience(t))
		synctest.Wait()
		wantExceeded(t, st.Send(&request{}))
		g.end(t, codes.DeadlineExceeded, codes.DeadlineExceeded, resilience.Failure)
	})
}

// slowTimer is a context whose deadline has passed before it is done.
type slowTimer struct {
	context.Context
	deadline time.Time
}

func (s *slowTimer) Deadline() (time.Time, bool) { return s.deadline, true }

// A server that reports the deadline before our timer does not hide the timeout.
func TestClient_streamTimeoutFromServer(t *testing.T) {
	exceeded := &timeout.Error{After: second}
	said := status.Error(codes.DeadlineExceeded, "the server says so")
	for name, c := range map[string]struct {
		fires time.Duration // after the deadline, 0 for never
		want  error
	}{
		"a timer that is late": {second / 100, exceeded},
		"a timer that is lost": {0, said},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					ctx, cancel := context.WithCancelCause(ctx)
					if c.fires != 0 {
						time.AfterFunc(second+c.fires, func() { cancel(testkit.TimedOut{Err: exceeded}) })
					}
					ended := settlerFunc(func() { cancel(nil) }) // as a timeout does
					err := next.Run(&slowTimer{ctx, time.Now().Add(second)})
					next.Settle(resilience.Ended, err, ended, 0)
					return err
				})
				cs, err := openFake(p, func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					return &fakeStream{recv: func() error {
						time.Sleep(second)
						finished(opts, said)
						return said
					}}, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				err = cs.RecvMsg(nil)
				if wantCode(t, err, codes.DeadlineExceeded); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}
