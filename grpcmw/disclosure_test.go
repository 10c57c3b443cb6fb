package grpcmw_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The parts of a rejection that must not leave the process.
const (
	secretName   = "ledger-breaker"
	secretKey    = "tenant-17"
	secretDetail = "7 failures in a row"
	secretCause  = "card 4111 of alice@example.com"
)

func secretRejection() *resilience.Rejection {
	return &resilience.Rejection{
		Policy: "breaker", Name: secretName, Key: secretKey, Reason: resilience.Open, Detail: secretDetail,
		RetryAt: time.Now().Add(time.Hour), Cause: errors.New(secretCause),
	}
}

// wantNoSecret wants a text without any part of a rejection but its reason.
func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{secretName, secretKey, secretDetail, secretCause, "breaker"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q left the process: %s", secret, text)
		}
	}
}

// careful is an error that has a rejection and a status of its own without its text.
type careful struct{ error }

func (e careful) Unwrap() error              { return e.error }
func (e careful) GRPCStatus() *status.Status { return status.New(codes.Unavailable, "try later") }

// careless is careful with the text of the rejection in its status.
type careless struct{ error }

func (e careless) Unwrap() error { return e.error }
func (e careless) GRPCStatus() *status.Status {
	return status.New(codes.FailedPrecondition, "ledger: "+e.Error())
}

// A status made of a rejection has the code and the reason only, whether the rejection is a
// Server's own or of a call that its handler made. In the process errors.As finds it.
func TestServer_rejectionTextStaysInside(t *testing.T) {
	client := grpcmw.Client{Policy: testkit.Policy(func(context.Context, resilience.Next) error { return secretRejection() })}
	overGRPC := client.Unary(t.Context(), "/s/m", nil, nil, nil, invoke(nil, nil))
	overHTTP := func() error {
		tr := &httpmw.Transport{Policy: client.Policy}
		_, err := (&http.Client{Transport: tr}).Get("http://example.test")
		return err
	}()
	retried := resilience.Run(t.Context(), retries(t, retry.Config{Name: secretName}), func(ctx context.Context) error {
		if resilience.Attempt(ctx) == 1 {
			return status.Error(codes.Unavailable, "down")
		}
		return secretRejection()
	})
	inVain := resilience.Run(t.Context(), retries(t, retry.Config{Name: "shop"}), func(context.Context) error {
		return status.Error(codes.Unavailable, "down")
	})
	for name, test := range map[string]struct {
		err     error
		code    codes.Code
		message string
	}{
		"of a Do":                  {secretRejection(), codes.Unavailable, "rejected: open"},
		"of a Do, wrapped":         {fmt.Errorf("ledger: %w", secretRejection()), codes.Unavailable, "rejected: open"},
		"of a bulkhead":            {&resilience.Rejection{Policy: "bulkhead", Name: secretName, Reason: bulkhead.Full}, codes.ResourceExhausted, "rejected: full"},
		"without a reason":         {&resilience.Rejection{Policy: "breaker", Name: secretName}, codes.ResourceExhausted, "rejected"},
		"of another type":          {fmt.Errorf("%s: %w", secretName, resilience.ErrRejected), codes.Unavailable, "rejected"},
		"of a Client":              {overGRPC, codes.Unavailable, "rejected: open"},
		"of a Client, wrapped":     {fmt.Errorf("ledger: %w", overGRPC), codes.Unavailable, "rejected: open"},
		"of a Transport":           {overHTTP, codes.Unavailable, "rejected: open"},
		"of a retry":               {retried, codes.Unavailable, "down"},
		"no rejection, a retry":    {inVain, codes.Unavailable, inVain.Error()},
		"joined with a status":     {errors.Join(status.Error(codes.NotFound, "none"), secretRejection()), codes.NotFound, "none"},
		"with a careful status":    {careful{secretRejection()}, codes.Unavailable, "try later"},
		"with a careless status":   {careless{secretRejection()}, codes.FailedPrecondition, "rejected: open"},
		"a careless one, wrapped":  {fmt.Errorf("get: %w", careless{secretRejection()}), codes.FailedPrecondition, "rejected: open"},
		"no rejection":             {status.Error(codes.NotFound, "order: rejected: by the shop"), codes.NotFound, "order: rejected: by the shop"},
		"no rejection, no status":  {errors.New("order: rejected: by the shop"), codes.Unknown, "order: rejected: by the shop"},
		"no rejection, a deadline": {context.DeadlineExceeded, codes.DeadlineExceeded, "context deadline exceeded"},
	} {
		for where, policy := range map[string]resilience.Policy{
			"handler":                  resilience.Compose(),
			"handler, with policies":   resilience.Compose(newBreaker(), retries(t, retry.Config{})),
			"handler, policies wrap":   wraps,
			"handler, policies drop":   misuse["drops"],
			"policy":                   testkit.Policy(func(context.Context, resilience.Next) error { return test.err }),
			"handler, exempt from all": nil,
		} {
			t.Run(where+", "+name, func(t *testing.T) {
				if where == "policy" && test.code != codes.Unavailable && test.code != codes.ResourceExhausted {
					t.Skip("not a policy's error")
				}
				var inside error
				log := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					resp, err := handler(ctx, req)
					inside = err
					return resp, err
				}
				var streamed error
				logStream := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					streamed = handler(srv, ss)
					return streamed
				}
				server := grpcmw.Server{Policy: policy, Exempt: func(string) bool { return policy == nil }}
				r := memory.serve(t, &service{
					unary:  func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) { return nil, test.err },
					duplex: func(duplex) error { return test.err },
				}, []grpc.ServerOption{grpc.ChainUnaryInterceptor(log, server.Unary), grpc.ChainStreamInterceptor(logStream, server.Stream)})
				var header, trailer metadata.MD
				_, err := r.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
				_, err2 := r.open(t, patience(t)).Recv()
				for _, err := range []error{err, err2} {
					s := status.Convert(err)
					if s.Code() != test.code || s.Message() != test.message && where != "handler, policies wrap" {
						t.Errorf("the client got %v %q, want %v %q", s.Code(), s.Message(), test.code, test.message)
					}
					wantNoSecret(t, fmt.Sprint(s.Proto(), header, trailer))
				}
				for _, err := range []error{inside, streamed} {
					if !errors.Is(err, test.err) && where != "handler, policies wrap" {
						t.Errorf("inside: %v is lost: %v", test.err, err)
					}
					if strings.Contains(test.err.Error(), secretName) && !strings.Contains(err.Error(), secretName) {
						t.Errorf("inside, the text is lost: %v", err)
					}
				}
			})
		}
	}
}

// wraps is a policy that wraps errors, as other policies do to add details.
var wraps = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
	if err := next.Run(ctx); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
})

// If a policy's timeout passes and the handler then returns a rejection of its own call, the
// timeout's status does not have the text of the rejection.
func TestServer_timeoutHidesNestedRejection(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		short := resilience.Must(timeout.New(timeout.Config{Timeout: time.Millisecond}))
		c := serve(t, &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			<-ctx.Done()
			return nil, secretRejection()
		}}, unaryServer(grpcmw.Server{Policy: short}))
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantCode(t, err, codes.DeadlineExceeded)
		wantNoSecret(t, err.Error())
		if got := status.Convert(err).Message(); got != "rejected: open" {
			t.Errorf("message %q", got)
		}
	})
}

// A client does not get what another client's call got from a dependency of the handler.
func TestServer_hidesOtherCallersErrors(t *testing.T) {
	for name, overGRPC := range map[string]bool{"over gRPC": true, "over Do": false} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, serve serving) {
				b := resilience.Must(breaker.New(breaker.Config{Name: secretName, Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Minute}))
				ledger := serve(t, &service{unary: func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
					return nil, status.Error(codes.Unavailable, secretCause)
				}}, nil, unary(grpcmw.Client{Policy: b}))
				c := serve(t, &service{unary: func(ctx context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
					if overGRPC {
						return ledger.UnaryCall(ctx, req)
					}
					return resilience.Do(ctx, b, func(context.Context) (*pb.SimpleResponse, error) { return nil, errors.New(secretCause) })
				}}, unaryServer(grpcmw.Server{Policy: resilience.Compose()}))
				if _, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}); err == nil || !strings.Contains(err.Error(), secretCause) {
					t.Errorf("the first client got %v, not its own error", err)
				}
				_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
				wantCode(t, err, codes.Unavailable)
				wantNoSecret(t, err.Error())
			})
		})
	}
}
