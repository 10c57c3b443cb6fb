package grpcmw_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func always(string, error) bool { return true }

// By default, only UNAVAILABLE is retried.
func TestDefaultRetryable_unavailableOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		echo := &service{unary: func(_ context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			calls.Add(1)
			return nil, status.Error(codes.Code(req.GetResponseStatus().GetCode()), "no")
		}}
		p := retries(t, retry.Config{MaxAttempts: 2})
		var chosen codes.Code
		plain := serve(t, echo, nil, unary(grpcmw.Client{Policy: p}))
		own := serve(t, echo, nil, unary(grpcmw.Client{Policy: p, Retryable: func(method string, err error) bool {
			return strings.HasSuffix(method, "/UnaryCall") && status.Code(err) == chosen
		}}))
		for code := codes.Canceled; code <= 17; code++ {
			req := &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(code)}}
			_, err := plain.UnaryCall(patience(t), req)
			wantStatus(t, err, code)
			if n := calls.Swap(0); (n == 2) != (code == codes.Unavailable) {
				t.Errorf("%v: %d calls", code, n)
			}
			for _, chosen = range []codes.Code{code, codes.OK} {
				_, err = own.UnaryCall(patience(t), req)
				wantStatus(t, err, code)
				if n := calls.Swap(0); (n == 2) != (code == chosen) {
					t.Errorf("%v, where %v is chosen: %d calls", code, chosen, n)
				}
			}
		}
	})
}

// reply is what failing sends in its trailer and in a detail of its status.
type reply struct {
	trailer metadata.MD
	info    *errdetails.RetryInfo
}

// failing is a service that fails with r.
func failing(calls *atomic.Int32, r *reply) *service {
	return &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		calls.Add(1)
		_ = grpc.SetTrailer(ctx, r.trailer)
		s := status.New(codes.Unavailable, "no")
		if r.info != nil {
			var err error
			if s, err = s.WithDetails(&errdetails.ErrorInfo{}, r.info); err != nil {
				return nil, err
			}
		}
		return nil, s.Err()
	}}
}

func pairs(values ...string) metadata.MD {
	return metadata.MD{"grpc-retry-pushback-ms": values}
}

// A retry obeys the server's pushback.
func TestClient_pushback(t *testing.T) {
	after := func(d time.Duration) *errdetails.RetryInfo {
		return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
	}
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		var says reply
		var waits []time.Duration
		p := retries(t, retry.Config{MaxAttempts: 2, Observer: testkit.Observer(func(e resilience.Event) {
			if e.Kind == retry.EventRetrying {
				waits = append(waits, e.Delay)
			}
		})})
		clients := map[string]pb.TestServiceClient{
			"default":       serve(t, failing(&calls, &says), nil, unary(grpcmw.Client{Policy: p})),
			"Retryable yes": serve(t, failing(&calls, &says), nil, unary(grpcmw.Client{Policy: p, Retryable: always})),
		}
		for name, test := range map[string]struct {
			trailer metadata.MD
			info    *errdetails.RetryInfo
			calls   int32
			wait    time.Duration
		}{
			"none":                        {nil, nil, 2, 0},
			"at once":                     {pairs("0"), nil, 2, 0},
			"later":                       {pairs("30"), nil, 2, 30 * time.Millisecond},
			"negative":                    {pairs("-1"), nil, 1, 0},
			"no number":                   {pairs("soon"), nil, 1, 0},
			"empty":                       {pairs(""), nil, 1, 0},
			"with a sign":                 {pairs("+30"), nil, 1, 0},
			"a fraction":                  {pairs("1.5"), nil, 1, 0},
			"more than there is":          {pairs("99999999999999999999"), nil, 1, 0},
			"longer than a retry waits":   {pairs("9223372036854775807"), nil, 1, 0},
			"two":                         {pairs("1", "1"), nil, 1, 0},
			"detail":                      {nil, after(30 * time.Millisecond), 2, 30 * time.Millisecond},
			"detail of long ago":          {nil, after(-time.Hour), 2, 0},
			"empty detail":                {nil, &errdetails.RetryInfo{}, 2, 0},
			"detail forever":              {nil, &errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 1 << 62}}, 1, 0},
			"invalid detail":              {nil, &errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: -1, Nanos: 1}}, 2, 0},
			"the trailer before a detail": {pairs("20"), after(time.Hour), 2, 20 * time.Millisecond},
			"no, though a detail says":    {pairs("-1"), after(time.Millisecond), 1, 0},
		} {
			for whose, c := range clients {
				says, waits = reply{test.trailer, test.info}, nil
				calls.Store(0)
				start := time.Now()
				_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
				wantStatus(t, err, codes.Unavailable)
				if calls.Load() != test.calls || len(waits) != int(test.calls)-1 {
					t.Errorf("%s, %s: %d calls after waits of %v", name, whose, calls.Load(), waits)
				}
				if len(waits) > 0 && (waits[0] < test.wait || time.Since(start) < test.wait) {
					t.Errorf("%s, %s: waited %v", name, whose, waits)
				}
			}
		}
	})
}

// A call that must not be retried is made once, whatever a policy does.
func TestClient_finalOverridesPolicies(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for name, p := range map[string]resilience.Policy{
			"a retry of all errors": persistent(t),
			"a policy":              stubborn(3),
		} {
			var calls atomic.Int32
			b := resilience.Must(breaker.New(breaker.Config{}))
			c := serve(t, failing(&calls, &reply{trailer: pairs("-1")}), nil, unary(grpcmw.Client{Policy: resilience.Compose(p, b)}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, codes.Unavailable)
			if calls.Load() != 1 || !strings.Contains(err.Error(), "not sent again") {
				t.Errorf("%s: %d calls, %v", name, calls.Load(), err)
			}
			if s := b.Stats(); s.Failures != 1 {
				t.Errorf("%s: counted %+v", name, s)
			}
		}
	})
}

// The attempts of a service config's retry are not multiplied.
func TestClient_serviceConfigRetry(t *testing.T) {
	const config = `{"methodConfig": [{
		"name": [{"service": "grpc.testing.TestService", "method": "UnaryCall"}],
		"retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}
	}]}`
	everywhere(t, func(t *testing.T, serve serving) {
		for name, client := range map[string]grpcmw.Client{
			"default":                {Policy: retries(t, retry.Config{})},
			"Retryable yes":          {Policy: retries(t, retry.Config{}), Retryable: always},
			"a policy that does not": {Policy: stubborn(3)},
		} {
			var calls atomic.Int32
			s := answers(&calls, status.Error(codes.Unavailable, "down"))
			s.empty = func(context.Context, *pb.Empty) (*pb.Empty, error) {
				calls.Add(1)
				return nil, status.Error(codes.Unavailable, "down")
			}
			c := serve(t, s, nil, unary(client), grpc.WithDefaultServiceConfig(config))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, codes.Unavailable)
			if n := calls.Swap(0); n != 2 {
				t.Errorf("%s: %d calls, want the service config's", name, n)
			}
			_, err = c.EmptyCall(patience(t), &pb.Empty{})
			wantStatus(t, err, codes.Unavailable)
			if n := calls.Load(); n != 3 {
				t.Errorf("%s: %d calls of a method without a retry policy", name, n)
			}
		}
	})
}

// The attempt timeout is sent to the server.
func TestClient_sendsAttemptTimeout(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		left := make(chan time.Duration, 1)
		s := &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			d := time.Duration(-1)
			if at, ok := ctx.Deadline(); ok {
				d = time.Until(at)
			}
			left <- d
			return &pb.SimpleResponse{}, nil
		}}
		limited := resilience.Must(timeout.New(timeout.Config{Timeout: 5 * time.Second}))
		c := serve(t, s, nil, unary(grpcmw.Client{Policy: limited}))
		if _, err := c.UnaryCall(t.Context(), &pb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
		if d := <-left; d <= 0 || d > 5*time.Second {
			t.Errorf("the server has %v", d)
		}
	})
}

// A retry that cannot end before the deadline does not start.
func TestClient_noRetryPastDeadline(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		p := retries(t, retry.Config{MaxDelay: time.Hour})
		c := serve(t, failing(&calls, &reply{trailer: pairs("60000")}), nil, unary(grpcmw.Client{Policy: p}))
		ctx := patience(t) // ends before the minute that the server asks for
		_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
		wantStatus(t, err, codes.Unavailable)
		if e, ok := errors.AsType[*retry.Error](err); !ok || e.Reason != retry.PastDeadline || calls.Load() != 1 {
			t.Errorf("%d calls: %v", calls.Load(), err)
		}
		if ctx.Err() != nil {
			t.Error("it waited for the deadline")
		}
	})
}

// One breaker can guard HTTP and gRPC.
func TestClient_breakerSharedWithHTTP(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		shared := sensitive()
		var calls atomic.Int32
		web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
		defer web.Close()
		client := &http.Client{Transport: &httpmw.Transport{Base: web.Client().Transport, Policy: shared}}
		c := serve(t, answers(&calls, nil, status.Error(codes.Internal, "broken")), nil, unary(grpcmw.Client{Policy: shared}))
		if _, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Internal)
		resp, err := client.Get(web.URL)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, breaker.ErrOpen) || calls.Load() != 2 {
			t.Errorf("over HTTP: %v", err)
		}
		shared.Reset()
		web.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
		if resp, err = client.Get(web.URL); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		_, err = c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Unavailable, breaker.ErrOpen)
		if s := shared.Stats(); s.Successes != 1 || s.Failures != 2 || s.Rejected != 2 {
			t.Errorf("counted %+v", s)
		}
	})
}
