package grpc_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience/stack"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// retrying is a service config with three attempts.
const retrying = `{"methodConfig": [{"name": [{"service": "grpc.testing.TestService"}],
	"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// hedging is a setting that grpc-go does not support.
const hedging = `{"methodConfig": [{"name": [{"service": "grpc.testing.TestService"}],
	"hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0s", "nonFatalStatusCodes": ["UNAVAILABLE"]}}]}`

// resolves is the resolver of a network in memory. It also returns the service config.
type resolves struct{}

func (resolves) Scheme() string                        { return "passthrough" }
func (resolves) ResolveNow(resolver.ResolveNowOptions) {}
func (resolves) Close()                                {}

func (r resolves) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	return r, cc.UpdateState(resolver.State{
		Addresses:     []resolver.Address{{Addr: "bufconn"}},
		ServiceConfig: cc.ParseServiceConfig(retrying),
	})
}

// busy is a service that returns UNAVAILABLE. It counts the calls and records their
// retry headers.
type busy struct {
	*service
	runs, now, most atomic.Int32
	marks           chan string // the retry headers of gRPC and of grpcmw
}

func newBusy() *busy {
	b := &busy{marks: make(chan string, 100)}
	b.service = answering(func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		b.marks <- first(md.Get("grpc-previous-rpc-attempts")) + "/" + first(md.Get("retry-attempt"))
		if n := b.now.Add(1); n > b.most.Load() {
			b.most.Store(n)
		}
		defer b.now.Add(-1)
		b.runs.Add(1)
		return status.Error(codes.Unavailable, "busy")
	})
	return b
}

// drain returns all values that were sent to c.
func drain[T any](c chan T) (all []T) {
	for len(c) > 0 {
		all = append(all, <-c)
	}
	return all
}

func first(values []string) string {
	if len(values) == 0 {
		return "-"
	}
	return values[0]
}

// Three attempts of gRPC and three of the policy are three attempts in all. The policy
// never retries a stream.
func TestClient_serviceConfigRetries(t *testing.T) {
	ours := []string{"-/-", "-/2", "-/3"}
	theirs := []string{"-/-", "1/-", "2/-"}
	once := theirs[:1]
	for name, test := range map[string]struct {
		options       []grpc.DialOption
		unary, stream []string
	}{
		"no service config":        {nil, ours, once},
		"a retry policy":           {[]grpc.DialOption{grpc.WithDefaultServiceConfig(retrying)}, theirs, theirs},
		"one that is not followed": {[]grpc.DialOption{grpc.WithDefaultServiceConfig(retrying), grpc.WithDisableRetry()}, once, once},
		"one of the resolver":      {[]grpc.DialOption{grpc.WithResolvers(resolves{})}, theirs, theirs},
		"one that is not taken":    {[]grpc.DialOption{grpc.WithResolvers(resolves{}), grpc.WithDisableServiceConfig()}, ours, once},
		"a hedging policy":         {[]grpc.DialOption{grpc.WithDefaultServiceConfig(hedging)}, ours, once},
	} {
		for kind, want := range map[string][]string{"unary": test.unary, "stream": test.stream} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				b, o, n := newBusy(), newOut(), inMemory(t)
				n.serve(t, b.register)
				conn := n.dial(t, append(o.options(), test.options...)...)
				wantCode(t, calls[kind](limit(t), conn), codes.Unavailable)
				if got := drain(b.marks); !slices.Equal(got, want) {
					t.Errorf("attempts of gRPC and of ours: %q, want %q", got, want)
				}
				if test.options == nil {
					wantJudged(t, o.breaker, outcomes{failures: uint64(b.runs.Load())})
				}
				if n := b.most.Load(); n != 1 {
					t.Errorf("%d attempts at a time", n)
				}
				free(t, o.slots)
			})
		}
	}
}

// All attempts of a service config are one attempt for the policies: one slot and one
// outcome.
func TestClient_serviceConfigIsOneAttempt(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			var runs atomic.Int32
			o, n := newOut(), inMemory(t)
			n.serve(t, answering(func(context.Context) error {
				if runs.Add(1) < 3 {
					return status.Error(codes.Unavailable, "busy")
				}
				if held := o.slots.Stats().InFlight; held != 1 {
					t.Errorf("%d slots held", held)
				}
				return nil
			}).register)
			if err := call(limit(t), n.dial(t, append(o.options(), grpc.WithDefaultServiceConfig(retrying))...)); err != nil {
				t.Error(err)
			}
			free(t, o.slots)
			wantJudged(t, o.breaker, outcomes{successes: 1})
			if n := runs.Load(); n != 3 {
				t.Errorf("%d runs", n)
			}
			if s := o.retry.Stats(); s.Retries != 0 {
				t.Errorf("%d retries are ours", s.Retries)
			}
		})
	}
}

// A call that ends by the timeout of the service config is a failure.
func TestClient_serviceConfigTimeout(t *testing.T) {
	o, n := newOut(), inMemory(t)
	n.serve(t, answering(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}).register)
	conn := n.dial(t, append(o.options(), grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "timeout": "0.02s"}]}`))...)
	var want outcomes
	for _, call := range calls {
		wantCode(t, call(limit(t), conn), codes.DeadlineExceeded)
		want.failures++
		wantJudged(t, o.breaker, want)
		free(t, o.slots)
	}
}

// refusing is an HTTP/2 server that refuses the first n streams as not processed, and
// answers the others with an empty message. It counts streams and records their retry
// headers.
type refusing struct {
	first   int32
	streams atomic.Int32
	marks   chan string
}

func (r *refusing) serve(t testing.TB, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.speak(conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

func (r *refusing) speak(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if f.WriteSettings() != nil {
		return
	}
	for mark := ""; ; {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			mark = markIn(frame)
		case *http2.DataFrame:
			if frame.StreamEnded() {
				r.marks <- mark
				err = r.answer(f, frame.StreamID)
			}
		}
		if err != nil {
			return
		}
	}
}

// markIn returns the retry header of grpcmw in the headers of a stream. There is one
// stream at a time.
func markIn(header *http2.MetaHeadersFrame) string {
	for _, field := range header.RegularFields() {
		if field.Name == "retry-attempt" {
			return field.Value
		}
	}
	return "-"
}

// answer waits for the whole message, because gRPC returns io.EOF if it could not send
// the message again.
func (r *refusing) answer(f *http2.Framer, id uint32) error {
	if r.streams.Add(1) <= r.first {
		return f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	}
	header := fields(":status", "200", "content-type", "application/grpc")
	trailer := fields("grpc-status", "0")
	for _, err := range []error{
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header, EndHeaders: true}),
		f.WriteData(id, false, make([]byte, 5)), // an empty message
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: trailer, EndHeaders: true, EndStream: true}),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func fields(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for p := range slices.Chunk(pairs, 2) {
		_ = e.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
	}
	return b.Bytes()
}

// A transparent retry of gRPC is not an attempt of the policy. gRPC sends a stream again
// once if the server has not processed it, so three attempts are at most six streams.
func TestClient_transparentRetry(t *testing.T) {
	for name, test := range map[string]struct {
		refused int32
		kind    string
		options []grpc.DialOption
		want    []string
		code    codes.Code
		heard   outcomes
	}{
		"of a call":                         {1, "unary", nil, []string{"-", "-"}, codes.OK, outcomes{successes: 1}},
		"of a stream":                       {1, "stream", nil, []string{"-", "-"}, codes.OK, outcomes{successes: 1}},
		"of a call, without other retries":  {1, "unary", []grpc.DialOption{grpc.WithDisableRetry()}, []string{"-", "-"}, codes.OK, outcomes{successes: 1}},
		"of a call that is refused for now": {3, "unary", nil, []string{"-", "-", "2", "2"}, codes.OK, outcomes{1, 1, 0}},
		"of a call that is refused":         {100, "unary", nil, []string{"-", "-", "2", "2", "3", "3"}, codes.Unavailable, outcomes{failures: 3}},
		"of a stream that is refused":       {100, "stream", nil, []string{"-", "-"}, codes.Unavailable, outcomes{failures: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := inMemory(t)
			server := &refusing{first: test.refused, marks: make(chan string, 100)}
			server.serve(t, n)
			o := newOut()
			conn := n.dial(t, append(o.options(), test.options...)...)
			wantCode(t, calls[test.kind](limit(t), conn), test.code)
			free(t, o.slots)
			if got := drain(server.marks); !slices.Equal(got, test.want) {
				t.Errorf("marks of the streams: %q, want %q", got, test.want)
			}
			wantJudged(t, o.breaker, test.heard)
		})
	}
}

// A call that waits for a connection is one attempt, with its timeout.
func TestClient_waitForReady(t *testing.T) {
	o, n := newOut(func(c *stack.ClientConfig) { c.Retry.MaxAttempts = 1; c.Attempt.Timeout = 50 * time.Millisecond }), inMemory(t)
	n.Close() // no server accepts
	conn := n.dial(t, append(o.options(), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))...)
	var want outcomes
	for _, call := range calls {
		wantCode(t, call(limit(t), conn), codes.DeadlineExceeded)
		want.failures++
		wantJudged(t, o.breaker, want)
		free(t, o.slots)
	}
}
