package interop_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// serviceConfig turns on the retries of gRPC.
const serviceConfig = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s",
	"maxBackoff": "0.05s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// talker is a gRPC client behind a faulty network.
type talker struct {
	pb.TestServiceClient
	conn   *grpc.ClientConn
	name   string
	policy resilience.Policy

	started, ended, ok atomic.Int64
	sent               atomic.Int64 // attempts that reached gRPC
	canceled           atomic.Int64 // by their callers
	codes              [17]atomic.Int64
	rejected, odd      atomic.Int64
	lost               atomic.Int64
	strange            atomic.Value // an error that is not a status
}

func newTalker(t *testing.T, name string, n *network, options ...grpc.DialOption) *talker {
	t.Helper()
	config := stack.DefaultClient(name)
	config.Attempt.Timeout = faultLimit
	k := &talker{name: name, policy: resilience.Must(config.New())}
	c := grpcmw.Client{Policy: k.policy}
	conn, err := grpc.NewClient("passthrough:///dependency", append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return n.dial(ctx, "", "") }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 2, MaxDelay: 50 * time.Millisecond}, MinConnectTimeout: time.Second}),
		grpc.WithChainUnaryInterceptor(c.Unary, k.unary),
		grpc.WithChainStreamInterceptor(c.Stream, k.stream),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	k.conn, k.TestServiceClient = conn, pb.NewTestServiceClient(conn)
	return k
}

// unary and stream count attempts.

func (k *talker) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	k.sent.Add(1)
	return invoker(ctx, method, req, reply, cc, opts...)
}

func (k *talker) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	k.sent.Add(1)
	return streamer(ctx, desc, cc, method, opts...)
}

// call makes the nth call, of one kind after another. Some callers leave in the
// middle, and some cancel.
func (k *talker) call(ctx context.Context, n int) {
	k.started.Add(1)
	defer k.ended.Add(1)
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if n%8 == 6 {
		defer time.AfterFunc(time.Duration(n%50)*time.Millisecond, cancel).Stop()
	}
	err := k.talk(ctx, n)
	if ctx.Err() != nil {
		k.canceled.Add(1)
	}
	if err == nil {
		k.ok.Add(1)
		return
	}
	s, ok := status.FromError(err)
	if !ok || int(s.Code()) >= len(k.codes) {
		k.odd.Add(1)
		k.strange.Store(err)
		return
	}
	if errors.Is(err, io.EOF) {
		// gRPC returns this instead of the status for a call whose message it could not
		// send again.
		k.lost.Add(1)
		return
	}
	k.codes[s.Code()].Add(1)
	if errors.Is(err, resilience.ErrRejected) {
		k.rejected.Add(1)
	}
}

// talk makes a call of one of the four kinds.
func (k *talker) talk(ctx context.Context, n int) error {
	large := &pb.Payload{Body: make([]byte, 8<<10)}
	switch n % 8 {
	case 1:
		_, err := k.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 64 << 10, Payload: large})
		return err
	case 2, 6:
		s, err := k.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: parts(8)})
		return readMessages(s, err, -1)
	case 3: // and its caller leaves
		s, err := k.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: parts(8)})
		return readMessages(s, err, 1)
	case 4:
		s, err := k.StreamingInputCall(ctx)
		for range 4 {
			if err == nil {
				err = s.Send(&pb.StreamingInputCallRequest{Payload: large})
			}
		}
		if err == nil || err == io.EOF {
			_, err = s.CloseAndRecv()
		}
		return err
	case 5:
		return k.converse(ctx)
	case 7: // whose caller never reads
		_, err := k.FullDuplexCall(ctx)
		return err
	default:
		_, err := k.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 1 << 10})
		return err
	}
}

// parts asks for n messages of 8 KiB.
func parts(n int) (all []*pb.ResponseParameters) {
	for range n {
		all = append(all, &pb.ResponseParameters{Size: 8 << 10, IntervalUs: 1000})
	}
	return all
}

// readMessages reads n messages, or all of them.
func readMessages(s grpc.ServerStreamingClient[pb.StreamingOutputCallResponse], err error, n int) error {
	for ; err == nil && n != 0; n-- {
		_, err = s.Recv()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (k *talker) converse(ctx context.Context) error {
	s, err := k.FullDuplexCall(ctx)
	for range 4 {
		if err == nil {
			err = s.Send(&pb.StreamingOutputCallRequest{ResponseParameters: parts(1)})
		}
		if err == nil || err == io.EOF && s != nil {
			_, err = s.Recv()
		}
	}
	if err == nil {
		if err = s.CloseSend(); err == nil {
			_, err = s.Recv()
		}
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// account checks the counters of the layers against each other: the calls that one layer
// admits are the calls that the next one counts.
func (k *talker) account(t *testing.T) {
	t.Helper()
	re, br, bu, ti := find[*retry.Retry](k.policy).Stats(), find[*breaker.Breaker](k.policy).Stats(),
		find[*bulkhead.Bulkhead](k.policy).Stats(), find[*timeout.Timeout](k.policy).Stats()
	calls, canceled := k.started.Load(), k.canceled.Load()
	same := func(what string, got, want, less int64) {
		t.Helper()
		if got > want || got < want-less {
			t.Errorf("%s: %s: %d, want %d (or up to %d less)", k.name, what, got, want, less)
		}
	}
	same("calls ended", k.ended.Load(), calls, 0)
	stopped := re.Aborted
	for _, n := range re.Stopped {
		stopped += n
	}
	// A call that is canceled between two layers is counted by the outer one only.
	all := int64(re.FirstTry + re.Recovered + stopped)
	same("calls in the retry", all, calls, canceled)
	ran := int64(br.Successes + br.Failures + br.Ignored)
	same("attempts in the breaker", ran+int64(br.Rejected), all+int64(re.Retries), canceled)
	same("attempts in the bulkhead", int64(bu.Completed+bu.QueueFull+bu.WaitExpired+bu.Canceled), ran, canceled)
	same("attempts in the timeout", int64(ti.Calls), int64(bu.Completed), canceled)
	same("attempts that were sent", k.sent.Load(), int64(ti.Calls), canceled)
	if bu.InFlight != 0 || bu.Queued != 0 || re.Aborted != 0 || br.ProbesLate != 0 {
		t.Errorf("%s: %+v\n%+v\n%+v", k.name, bu, re, br)
	}
	unavailable, late := k.codes[codes.Unavailable].Load(), k.codes[codes.DeadlineExceeded].Load()
	if unavailable == 0 || ti.Exceeded == 0 && !brief() || k.ok.Load() == 0 {
		t.Errorf("%s: the faults were none", k.name)
	}
	if n := k.odd.Load() + k.codes[codes.Unknown].Load(); n != 0 {
		t.Errorf("%s: %d errors without a status, or UNKNOWN: %v", k.name, n, k.strange.Load())
	}
	t.Logf("%s: %d calls: %d went well, %d unavailable, %d late, %d rejected, %d lost; %d were canceled; %d retries", k.name,
		calls, k.ok.Load(), unavailable, late, k.rejected.Load(), k.lost.Load(), canceled, re.Retries)
	for code := range k.codes {
		if n := k.codes[code].Load(); n != 0 {
			t.Logf("%s: %d %v", k.name, n, codes.Code(code))
		}
	}
}
