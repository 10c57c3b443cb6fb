package grpcmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// whim gives up streams whose context says so.
var whim = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
	err := next.Run(ctx)
	if err == nil && ctx.Value(whimKey{}) != nil {
		next.Discard()
		return errPolicy
	}
	return err
})

type whimKey struct{}

// manyEndings are ways to end a stream. The server does as the metadata "end" says.
var manyEndings = []struct {
	end string
	use func(ctx context.Context, cancel context.CancelFunc, open func(context.Context) (call, error)) error
}{
	{"success", func(ctx context.Context, _ context.CancelFunc, open func(context.Context) (call, error)) error {
		return drain(ctx, open, codes.OK)
	}},
	{"failure", func(ctx context.Context, _ context.CancelFunc, open func(context.Context) (call, error)) error {
		return drain(ctx, open, codes.Unavailable)
	}},
	{"hang", func(ctx context.Context, cancel context.CancelFunc, open func(context.Context) (call, error)) error {
		_, err := open(ctx) // never read
		cancel()
		return err
	}},
	{"hang", func(ctx context.Context, cancel context.CancelFunc, open func(context.Context) (call, error)) error {
		st, err := open(ctx)
		if err != nil {
			return err
		}
		if _, err := st.Recv(); err != nil {
			return err
		}
		cancel()
		return nil
	}},
	{"hang", func(ctx context.Context, _ context.CancelFunc, open func(context.Context) (call, error)) error {
		_, err := open(context.WithValue(ctx, whimKey{}, true))
		if !errors.Is(err, errPolicy) {
			return errors.New("not given up")
		}
		return nil
	}},
}

// drain reads a stream to its end, which has that code.
func drain(ctx context.Context, open func(context.Context) (call, error), want codes.Code) error {
	st, err := open(ctx)
	for err == nil {
		_, err = st.Recv()
	}
	if err == io.EOF {
		err = nil
	}
	if status.Code(err) != want {
		return fmt.Errorf("ended with %v, want %v", err, want)
	}
	return nil
}

// Ten thousand streams leave no slot, goroutine or memory behind.
func TestClient_tenThousandStreams(t *testing.T) {
	const streams, workers = 10_000, 20
	clientSlots := resilience.Must(bulkhead.New(bulkhead.Config{Slots: workers, MaxWait: bulkhead.Unbounded, MaxQueue: workers}))
	serverSlots := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1000}))
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: streams}}}))
	l := resilience.Must(timeout.New(timeout.Config{Until: resilience.Answered}))
	t.Run("streams", func(t *testing.T) {
		r := memory.serve(t, &service{duplex: func(st duplex) error {
			md, _ := metadata.FromIncomingContext(st.Context())
			switch md.Get("end")[0] {
			case "hang":
				return hang(1)(st)
			case "failure":
				return errDown
			default:
				return answer(2, nil)(st)
			}
		}}, guardedServer(serverSlots), guarded(resilience.Compose(whim, b, clientSlots, l)))
		open := func(ctx context.Context) (call, error) { return r.FullDuplexCall(ctx) }
		var next atomic.Int64
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for i := next.Add(1); i <= streams; i = next.Add(1) {
					e := manyEndings[i%int64(len(manyEndings))]
					ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "end", e.end))
					if err := e.use(ctx, cancel, open); err != nil {
						t.Error(e.end, err)
					}
					cancel()
				}
			})
		}
		all.Wait()
	})
	goleak.VerifyNone(t) // and so all streams have ended
	if s := clientSlots.Stats(); s.InFlight != 0 || s.Completed != streams {
		t.Errorf("slots of the client: %+v", s)
	}
	if s := serverSlots.Stats(); s.InFlight != 0 {
		t.Errorf("slots of the server: %+v", s)
	}
	if s := b.Stats(); s.Successes+s.Failures+s.Ignored != streams || s.Failures != streams/5 {
		t.Errorf("judged %+v", s)
	}
	if s := l.Stats(); s != (timeout.Stats{Calls: streams}) {
		t.Errorf("limited %+v", s)
	}
}
