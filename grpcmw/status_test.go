package grpcmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// outcomes has what each code is by default, 17 being a code that there is not.
var outcomes = map[codes.Code]resilience.Outcome{
	codes.OK: resilience.Success, codes.Canceled: resilience.Ignored, codes.Unknown: resilience.Failure,
	codes.InvalidArgument: resilience.Success, codes.DeadlineExceeded: resilience.Failure, codes.NotFound: resilience.Success,
	codes.AlreadyExists: resilience.Success, codes.PermissionDenied: resilience.Success, codes.ResourceExhausted: resilience.Success,
	codes.FailedPrecondition: resilience.Success, codes.Aborted: resilience.Success, codes.OutOfRange: resilience.Success,
	codes.Unimplemented: resilience.Success, codes.Internal: resilience.Failure, codes.Unavailable: resilience.Failure,
	codes.DataLoss: resilience.Failure, codes.Unauthenticated: resilience.Success, 17: resilience.Failure,
}

func newBreaker() *breaker.Breaker { return resilience.Must(breaker.New(breaker.Config{})) }

func wantCounted(t *testing.T, what any, b *breaker.Breaker, want resilience.Outcome) {
	t.Helper()
	s := b.Stats()
	got := map[resilience.Outcome]uint64{resilience.Success: s.Successes, resilience.Failure: s.Failures, resilience.Ignored: s.Ignored}
	if got[want] != 1 || s.Successes+s.Failures+s.Ignored != 1 {
		t.Errorf("%v is not counted as one %v: %v", what, want, got)
	}
}

// Every code has its outcome.
func TestCodeOutcome_allCodes(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for code, want := range outcomes {
			var calls atomic.Int32
			client, server := newBreaker(), newBreaker()
			c := serve(t, answers(&calls, status.Error(code, "text")), unaryServer(grpcmw.Server{Policy: server}), unary(grpcmw.Client{Policy: client}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			if status.Code(err) != code {
				t.Errorf("got %v, want %v", err, code)
			}
			wantCounted(t, "by the client, "+code.String(), client, want)
			wantCounted(t, "by the server, "+code.String(), server, want)
			if got := grpcmw.CodeOutcome(code); got != want {
				t.Errorf("CodeOutcome(%v) is %v", code, got)
			}
		}
	})
}

// Classify replaces CodeOutcome.
func TestClient_classify(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		own := func(method string, code codes.Code) resilience.Outcome {
			if code == codes.ResourceExhausted && strings.HasSuffix(method, "/UnaryCall") {
				return resilience.Failure
			}
			return grpcmw.CodeOutcome(code)
		}
		for code, want := range map[codes.Code]resilience.Outcome{codes.ResourceExhausted: resilience.Failure, codes.NotFound: resilience.Success} {
			var calls atomic.Int32
			client, server := newBreaker(), newBreaker()
			c := serve(t, answers(&calls, status.Error(code, "text")), unaryServer(grpcmw.Server{Policy: server, Classify: own}), unary(grpcmw.Client{Policy: client, Classify: own}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, code)
			wantCounted(t, "by the client, "+code.String(), client, want)
			wantCounted(t, "by the server, "+code.String(), server, want)
		}
	})
}

// failingCreds are credentials that cannot be had.
type failingCreds struct{ err error }

func (c failingCreds) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return nil, c.err
}
func (failingCreds) RequireTransportSecurity() bool { return false }

var noCreds = failingCreds{errors.New("no token")}

// broken is a codec that cannot read, and a compressor that cannot write.
type broken struct{}

var errBroken = errors.New("broken")

func (broken) Name() string                               { return "proto" }
func (broken) Marshal(v any) ([]byte, error)              { return proto.Marshal(v.(proto.Message)) }
func (broken) Unmarshal([]byte, any) error                { return errBroken }
func (broken) Compress(io.Writer) (io.WriteCloser, error) { return nil, errBroken }
func (broken) Decompress(r io.Reader) (io.Reader, error)  { return r, nil }

type brokenCompressor struct{ broken }

func (brokenCompressor) Name() string { return "broken" }

func init() { encoding.RegisterCompressor(brokenCompressor{}) }

// counting returns the option that counts attempts.
func counting(n *atomic.Int32) grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		n.Add(1)
		return invoker(ctx, method, req, reply, cc, opts...)
	})
}

// A message that gRPC cannot send or receive is no evidence about the server, and is not
// retried.
func TestClient_localErrorIsIgnored(t *testing.T) {
	big := &pb.SimpleRequest{Payload: &pb.Payload{Body: make([]byte, 10_000)}} // of zeros, which compress well
	replies := &service{unary: func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		return &pb.SimpleResponse{Payload: big.Payload}, nil
	}}
	withMetadata := func(kv ...string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return metadata.AppendToOutgoingContext(ctx, kv...) }
	}
	zip := grpc.UseCompressor(gzip.Name)
	for name, test := range map[string]struct {
		server []grpc.ServerOption
		opts   []grpc.CallOption
		req    *pb.SimpleRequest
		ctx    func(context.Context) context.Context
		code   codes.Code
	}{
		"sent":                        {nil, []grpc.CallOption{grpc.MaxCallSendMsgSize(100)}, big, nil, codes.ResourceExhausted},
		"sent, compressed":            {nil, []grpc.CallOption{grpc.MaxCallSendMsgSize(10), zip}, big, nil, codes.ResourceExhausted},
		"received":                    {nil, []grpc.CallOption{grpc.MaxCallRecvMsgSize(100)}, big, nil, codes.ResourceExhausted},
		"received, compressed":        {nil, []grpc.CallOption{grpc.MaxCallRecvMsgSize(1000), zip}, big, nil, codes.ResourceExhausted},
		"the server receives":         {[]grpc.ServerOption{grpc.MaxRecvMsgSize(100)}, nil, big, nil, codes.ResourceExhausted},
		"the server receives, zipped": {[]grpc.ServerOption{grpc.MaxRecvMsgSize(1000)}, []grpc.CallOption{zip}, big, nil, codes.ResourceExhausted},
		"the server sends":            {[]grpc.ServerOption{grpc.MaxSendMsgSize(100)}, nil, big, nil, codes.ResourceExhausted},
		"marshal":                     {nil, nil, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Message: "\xff"}}, nil, codes.Internal},
		"codec":                       {nil, []grpc.CallOption{grpc.CallContentSubtype("none")}, big, nil, codes.Internal},
		"unmarshal":                   {nil, []grpc.CallOption{grpc.ForceCodec(broken{})}, big, nil, codes.Internal},
		"compress":                    {nil, []grpc.CallOption{grpc.UseCompressor("broken")}, big, nil, codes.Internal},
		"compressor":                  {nil, []grpc.CallOption{grpc.UseCompressor("none")}, big, nil, codes.Internal},
		"metadata, key":               {nil, nil, big, withMetadata("a key", ""), codes.Internal},
		"metadata, empty key":         {nil, nil, big, withMetadata("", ""), codes.Internal},
		"metadata, value":             {nil, nil, big, withMetadata("key", "\n"), codes.Internal},
		"metadata, too much":          {[]grpc.ServerOption{grpc.MaxHeaderListSize(1000)}, nil, big, withMetadata("key", strings.Repeat("x", 2000)), codes.Internal},
		"credentials of the call":     {nil, []grpc.CallOption{grpc.PerRPCCredentials(noCreds)}, big, nil, codes.Internal},
		"credentials":                 {nil, nil, big, nil, codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, serve serving) {
				b := newBreaker()
				var made atomic.Int32
				client := grpcmw.Client{
					Policy: resilience.Compose(retries(t, retry.Config{}), b), Retryable: always,
					Exempt: func(method string) bool { return strings.HasSuffix(method, "/EmptyCall") },
				}
				dial := []grpc.DialOption{unary(client), counting(&made)}
				if test.code == codes.Unauthenticated {
					dial = append(dial, grpc.WithPerRPCCredentials(noCreds))
				}
				c := serve(t, replies, test.server, dial...)
				ctx := patience(t)
				if test.ctx != nil {
					// What the server takes is known once its settings have come.
					if _, err := c.EmptyCall(ctx, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
						t.Fatal(err)
					}
					made.Store(0)
					ctx = test.ctx(ctx)
				}
				_, err := c.UnaryCall(ctx, test.req, test.opts...)
				wantStatus(t, err, test.code)
				if made.Load() != 1 {
					t.Errorf("made %d times: %v", made.Load(), err)
				}
				wantCounted(t, err, b, resilience.Ignored)
			})
		})
	}
}

// Local errors are recognised by their text. Some need more than a test has, such as a
// message of 4 GiB or an old server.
func TestClient_localErrorTexts(t *testing.T) {
	for _, err := range []error{
		status.Error(codes.ResourceExhausted, "grpc: message too large (4294967296 bytes)"),
		status.Error(codes.ResourceExhausted, "grpc: message after decompression larger than max (2 vs. 1)"),
		status.Error(codes.Internal, "grpc: error unmarshalling request: broken"),
		status.Error(codes.Internal, "transport: received per-RPC creds error with illegal status: broken"),
		status.Error(codes.Unauthenticated, "transport: cannot send secure credentials on an insecure connection"),
	} {
		b := newBreaker()
		got := grpcmw.Client{Policy: b}.Unary(t.Context(), "/s/m", nil, nil, nil, invoke(nil, err))
		if got != err {
			t.Errorf("%v came back as %v", err, got)
		}
		wantCounted(t, err, b, resilience.Ignored)
	}
	for _, err := range []error{
		status.Error(codes.ResourceExhausted, "quota: trying to send message larger than max"),
		status.Error(codes.InvalidArgument, "header key "),
	} {
		b := newBreaker()
		_ = grpcmw.Client{Policy: b}.Unary(t.Context(), "/s/m", nil, nil, nil, invoke(nil, err))
		wantCounted(t, err, b, resilience.Success)
	}
}

// An error of an interceptor further in that has no status gets one.
func TestClient_errorWithoutStatus(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code codes.Code
		want resilience.Outcome
	}{
		"plain":              {errBroken, codes.Unknown, resilience.Failure},
		"canceled":           {fmt.Errorf("gone: %w", context.Canceled), codes.Canceled, resilience.Ignored},
		"deadline":           {fmt.Errorf("late: %w", context.DeadlineExceeded), codes.DeadlineExceeded, resilience.Failure},
		"rejected":           {fmt.Errorf("no: %w", bulkhead.ErrFull), codes.ResourceExhausted, resilience.Ignored},
		"rejected somehow":   {fmt.Errorf("no: %w", resilience.ErrRejected), codes.Unavailable, resilience.Ignored},
		"wraps a status":     {fmt.Errorf("no: %w", detailed(t, codes.NotFound, "it").Err()), codes.NotFound, resilience.Success},
		"status that is nil": {nilStatus{}, codes.Unknown, resilience.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := newBreaker(), newBreaker()
			asked := false
			c := grpcmw.Client{Policy: client, Retryable: func(_ string, err error) bool {
				asked = true
				wantStatus(t, err, test.code, test.err)
				return false
			}}
			err := c.Unary(t.Context(), "/s/m", nil, nil, nil, invoke(nil, test.err))
			wantStatus(t, err, test.code, test.err)
			wantCounted(t, "by the client", client, test.want)
			if !asked {
				t.Error("Retryable was not asked")
			}
			_, err = grpcmw.Server{Policy: server}.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s/m"},
				func(context.Context, any) (any, error) { return nil, test.err })
			wantStatus(t, err, test.code, test.err)
			if errors.Is(test.err, resilience.ErrRejected) {
				test.want = grpcmw.CodeOutcome(test.code) // of a handler it is the result
			}
			wantCounted(t, "by the server", server, test.want)
		})
	}
}

type nilStatus struct{}

func (nilStatus) Error() string              { return "no status" }
func (nilStatus) GRPCStatus() *status.Status { return nil }

// refined is an error that has a status of its own, whatever caused it.
type refined struct {
	code  codes.Code
	cause error
}

func (e *refined) Error() string              { return "refined: " + e.cause.Error() }
func (e *refined) Unwrap() error              { return e.cause }
func (e *refined) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }

// A status is not replaced by the status of its cause.
func TestClient_keepsStatus(t *testing.T) {
	for name, err := range map[string]error{
		"cancellation":        &refined{codes.Aborted, context.Canceled},
		"wrapped":             fmt.Errorf("get: %w", &refined{codes.Aborted, context.Canceled}),
		"deadline":            fmt.Errorf("get: %w", &refined{codes.NotFound, context.DeadlineExceeded}),
		"rejection":           &refined{codes.Internal, &resilience.Rejection{Reason: resilience.Open}},
		"rejection, wrapped":  fmt.Errorf("get: %w", &refined{codes.Internal, &resilience.Rejection{Reason: resilience.Open}}),
		"beside a cancel":     errors.Join(status.Error(codes.NotFound, "none"), context.Canceled),
		"without a status":    fmt.Errorf("get: %w", context.Canceled),
		"tried again in vain": fmt.Errorf("get: %w", &refined{codes.Unavailable, context.DeadlineExceeded}),
	} {
		for around, p := range map[string]resilience.Policy{"nothing": resilience.Compose(), "a retry": retries(t, retry.Config{})} {
			t.Run(name+", under "+around, func(t *testing.T) {
				s := &service{unary: func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) { return nil, err }}
				_, want := memory.serve(t, s, nil).UnaryCall(patience(t), &pb.SimpleRequest{})
				if strings.HasPrefix(name, "rejection") { // its text stays in the process
					want = status.Error(status.Code(want), "rejected: open")
				}
				_, got := memory.serve(t, s, unaryServer(grpcmw.Server{Policy: p})).UnaryCall(patience(t), &pb.SimpleRequest{})
				if got == nil || got.Error() != want.Error() {
					t.Errorf("a server says %v, and bare %v", got, want)
				}
				got = grpcmw.Client{Policy: p}.Unary(patience(t), "/s/m", nil, nil, nil, invoke(nil, err))
				if status.Code(got) != status.Code(want) || !errors.Is(got, err) {
					t.Errorf("a client says %v, and bare %v", got, want)
				}
			})
		}
	}
}
