package grpcmw_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

var errPolicy = errors.New("a policy says no")

// failsAfterSuccess is a policy that turns a success into an error.
var failsAfterSuccess = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
	if err := next.Run(ctx); err != nil {
		return err
	}
	return errPolicy
})

// settlerFunc is a resilience.Settler that is a func.
type settlerFunc func()

func (f settlerFunc) Settle(uint64, error) { f() }

// A stream that a policy gives up is ended.
func TestClient_abandonedStreamEnds(t *testing.T) {
	policies := map[string]resilience.Policy{
		"an error after success": failsAfterSuccess,
		"Discard": testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			next.Discard()
			next.Discard()
			return err
		}),
		"Discard, then an error": testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			next.Discard()
			return errPolicy
		}),
	}
	for name, how := range testkit.Aborts(errPolicy) {
		policies[name+" of a policy"] = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			how.Abort()
			return nil
		})
		policies[name+" of a settler on Discard"] = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			next.Settle(resilience.Ended, nil, settlerFunc(how.Abort), 0)
			next.Discard()
			return nil
		})
		policies[name+" of a settler at the end"] = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			next.Settle(resilience.Ended, nil, settlerFunc(how.Abort), 0)
			return errPolicy
		})
	}
	for name, p := range policies {
		for net, n := range networks {
			t.Run(name+", "+net, func(t *testing.T) {
				g := newGuards()
				come, gone := make(chan struct{}, 9), make(chan struct{})
				r := n.serve(t, &service{duplex: func(st duplex) error {
					come <- struct{}{}
					defer close(gone)
					return hang(5)(st)
				}}, nil, guarded(resilience.Compose(p, waitFor(come), g.around())), grpc.WithChainStreamInterceptor(measure))
				end := testkit.Unwind(func() error {
					st, err := r.FullDuplexCall(patience(t))
					if st != nil {
						t.Error("there is a stream")
					}
					return err
				})
				if end.Err == nil && end.Panic == nil && !end.Goexit {
					t.Error("no error")
				}
				g.end(t, codes.Canceled, codes.Canceled, resilience.Ignored)
				wait(t, gone)
				if len(come) != 0 {
					t.Error("a second stream was opened")
				}
			})
		}
	}
}

// lenient is a codec that encodes any message.
type lenient struct{}

func (lenient) Name() string                { return "proto" }
func (lenient) Marshal(any) ([]byte, error) { return nil, nil }
func (lenient) Unmarshal([]byte, any) error { return nil }

// A stream that a policy gives up is ended, also if its codec encodes any message.
func TestClient_abandonedStreamOfLenientCodec(t *testing.T) {
	for name, n := range networks {
		t.Run(name, func(t *testing.T) {
			g := newGuards()
			come, gone := make(chan struct{}, 9), make(chan struct{})
			r := n.serve(t, &service{duplex: func(st duplex) error {
				come <- struct{}{}
				defer close(gone)
				return hang(0)(st)
			}}, nil, guarded(resilience.Compose(failsAfterSuccess, waitFor(come), g.around())), grpc.WithDefaultCallOptions(grpc.ForceCodec(lenient{})))
			if st, err := r.FullDuplexCall(t.Context()); st != nil || err == nil {
				t.Errorf("got %v, %v", st, err)
			}
			g.end(t, codes.Canceled, codes.Canceled, resilience.Ignored)
			wait(t, gone)
		})
	}
}

// measure is an interceptor that needs to see messages.
func measure(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	cs, err := streamer(ctx, desc, cc, method, opts...)
	return &measured{cs, 0}, err
}

type measured struct {
	grpc.ClientStream
	bytes int
}

func (m *measured) SendMsg(msg any) error {
	m.bytes += proto.Size(msg.(proto.Message))
	return m.ClientStream.SendMsg(msg)
}

// waitFor is a policy that returns a stream when its handler has begun.
func waitFor(come chan struct{}) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		if err := next.Run(ctx); err != nil {
			return err
		}
		<-come
		return nil
	}
}

// A stream is made once, and a stream that cannot be made is one failure.
func TestClient_streamIsMadeOnce(t *testing.T) {
	for name, p := range map[string]resilience.Policy{
		"retry":      retries(t, retry.Config{}),
		"persistent": persistent(t),
		"stubborn":   stubborn(5),
	} {
		t.Run(name, func(t *testing.T) {
			b, made := newBreaker(), 0
			_, err := openFake(resilience.Compose(p, b), func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				made++
				return nil, errDown
			})
			if wantCode(t, err, codes.Unavailable); !errors.Is(err, errDown) {
				t.Errorf("the error of the stream is lost: %v", err)
			}
			if name == "retry" && err != errDown {
				t.Errorf("tried again: %v", err)
			}
			if made != 1 {
				t.Errorf("made %d times", made)
			}
			if s := b.Stats(); s.Failures != 1 || s.Successes != 0 {
				t.Errorf("judged %+v", s)
			}
		})
	}
}

// A policy that runs a live stream again makes no other.
func TestClient_secondRunMakesNoStream(t *testing.T) {
	for name, discard := range map[string]bool{"after Discard": true, "without Discard": false} {
		t.Run(name, func(t *testing.T) {
			g := newGuards()
			come, gone := make(chan struct{}, 9), make(chan struct{})
			again := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				_ = next.Run(ctx)
				if discard {
					next.Discard()
				}
				return next.Run(ctx)
			})
			r := memory.serve(t, &service{duplex: func(st duplex) error {
				come <- struct{}{}
				defer close(gone)
				return hang(0)(st)
			}}, nil, guarded(resilience.Compose(g.bulkhead, again, waitFor(come))))
			_, err := r.FullDuplexCall(patience(t))
			wantCode(t, err, codes.Internal)
			wait(t, gone)
			if s := g.bulkhead.Stats(); len(come) != 0 || s.InFlight != 0 || s.Completed != 1 {
				t.Errorf("opened %d more, %+v", len(come), s)
			}
		})
	}
}

// If a policy returns neither a stream nor an error, the caller gets an error.
func TestClient_policyWithoutStream(t *testing.T) {
	_, err := openFake(misuse["drops"], func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, errDown
	})
	if err != errDown {
		t.Errorf("of a stream that could not be made: %v", err)
	}
	_, err = openFake(misuse["nothing"], nil)
	wantCode(t, err, codes.Internal)
}

// A settler that unwinds does so on the goroutine that caused the moment. The others are
// settled, and the stream is left to its caller's context: another goroutine may be
// sending.
func TestClient_streamSettlerUnwinds(t *testing.T) {
	for name, how := range testkit.Aborts(errPolicy) {
		for at, read := range map[resilience.Moment]int{resilience.Answered: 1, resilience.Ended: 2} {
			t.Run(name+" "+at.String(), func(t *testing.T) {
				ended, gone := newWitness(resilience.Ended), make(chan struct{})
				unwinds := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					err := next.Run(ctx)
					next.Settle(at, err, settlerFunc(how.Abort), 0)
					return err
				})
				r := memory.serve(t, &service{duplex: func(st duplex) error {
					defer close(gone)
					if at == resilience.Ended {
						return answer(1, nil)(st)
					}
					return hang(1)(st)
				}}, nil, guarded(resilience.Compose(ended, unwinds)))
				ctx, cancel := context.WithCancel(patience(t))
				st := r.open(t, ctx)
				end := testkit.Unwind(func() error {
					defer cancel()
					for range read {
						_, _ = st.Recv()
					}
					return nil
				})
				if end != how {
					t.Errorf("ended with %+v", end)
				}
				<-ended.heard
				wait(t, gone)
			})
		}
	}
}

// A panic while a stream is made settles all policies.
func TestClient_streamPanicSettlesAll(t *testing.T) {
	for name, how := range testkit.Aborts(errPolicy) {
		t.Run(name, func(t *testing.T) {
			g := newGuards()
			end := testkit.Unwind(func() error {
				_, err := openFake(g.around(), func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
					how.Abort()
					return nil, nil
				})
				return err
			})
			if end != how {
				t.Errorf("ended with %+v", end)
			}
			g.end(t, codes.Unknown, codes.Unknown, resilience.Failure)
		})
	}
}
