package grpcmw_test

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// year is the longest wait that is believed.
const year = 365 * 24 * time.Hour

// bounded returns n units as a duration between 0 and a year.
func bounded(n *big.Int, unit time.Duration) time.Duration {
	n = new(big.Int).Mul(n, big.NewInt(int64(unit)))
	switch {
	case n.Sign() < 0:
		return 0
	case n.Cmp(big.NewInt(int64(year))) > 0:
		return year
	default:
		return time.Duration(n.Int64())
	}
}

// pushbackModel is what a trailer with the values, and a RetryInfo that came as the
// bytes, ask for.
func pushbackModel(values []string, info []byte) (may bool, after time.Duration) {
	if len(values) > 1 {
		return false, 0
	}
	if len(values) == 1 {
		v := values[0]
		n, ok := new(big.Int).SetString(v, 10)
		if !ok || strings.Trim(v, "0123456789") != "" || !n.IsInt64() {
			return false, 0
		}
		return true, bounded(n, time.Millisecond)
	}
	m := &errdetails.RetryInfo{}
	if info == nil || proto.Unmarshal(info, m) != nil {
		return true, 0
	}
	n := new(big.Int).Mul(big.NewInt(m.GetRetryDelay().GetSeconds()), big.NewInt(int64(time.Second)))
	return true, bounded(n.Add(n, big.NewInt(int64(m.GetRetryDelay().GetNanos()))), 1)
}

// A server can neither crash its clients nor have them try again when they would not
// without it, or sooner.
func FuzzPushback(f *testing.F) {
	wire := func(d *durationpb.Duration) []byte {
		b, err := proto.Marshal(&errdetails.RetryInfo{RetryDelay: d})
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	for _, v := range []string{"", "0", "100", "-1", "+1", "1_0", "0x1", "1e3", " 1", "١", "9223372036854775807", "9223372036854775808", "31536000001"} {
		f.Add(1, v, "", []byte(nil))
	}
	f.Add(2, "1", "1", []byte(nil))
	for _, d := range []*durationpb.Duration{nil, {Seconds: 1}, {Seconds: -1}, {Seconds: 1 << 62}, {Seconds: -1 << 63, Nanos: -1}, {Nanos: 1 << 30}} {
		f.Add(0, "", "", wire(d))
	}
	f.Add(0, "", "", []byte{0xff})
	f.Fuzz(func(t *testing.T, n int, first, second string, info []byte) {
		var trailer metadata.MD
		values := []string{first, second}[:min(max(0, n), 2)]
		if len(values) > 0 {
			trailer = pairs(values...)
		}
		s := &spb.Status{Code: int32(codes.Unavailable), Message: "no"}
		if info != nil {
			s.Details = []*anypb.Any{{TypeUrl: "type.googleapis.com/google.rpc.RetryInfo", Value: info}}
		}
		var may bool
		var after time.Duration
		look := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			e, ok := errors.AsType[interface {
				error
				Retryable() bool
				RetryAfter() time.Duration
			}](err)
			if !ok {
				t.Fatalf("policies see %v", err)
			}
			may, after = e.Retryable(), e.RetryAfter()
			return err
		})
		calls := 0
		count := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
			calls++
			return invoke(trailer, status.FromProto(s).Err())(ctx, method, req, reply, cc, opts...)
		}
		err := grpcmw.Client{Policy: resilience.Compose(stubborn(2), look)}.Unary(t.Context(), "/s/m", nil, nil, nil, count)
		wantStatus(t, err, codes.Unavailable)
		wantMay, wantAfter := pushbackModel(values, info)
		if wantCalls := map[bool]int{true: 2, false: 1}[wantMay]; calls != wantCalls || may != wantMay || wantMay && after != wantAfter {
			t.Errorf("%q and %x: %d calls, may %v after %v, want %v after %v", values, info, calls, may, after, wantMay, wantAfter)
		}
	})
}

// A client can neither crash a server nor have its calls tried more often than they
// would be without it.
func FuzzCallMetadata(f *testing.F) {
	for _, timeout := range []string{"", "1S", "0n", "99999999H", "-1S", "1", "S", "123456789S", "1x", "\x00"} {
		f.Add(timeout, "2", "")
	}
	for _, mark := range []string{"", "1", "2", "999", "1000", "-2", "02", "99999999999999999999"} {
		f.Add("1H", mark, "")
		f.Add("1H", mark, mark)
	}
	var attempt int
	var expired bool
	runs := 0
	server := grpcmw.Server{Policy: held}
	srv := grpc.NewServer(unaryServer(server)...)
	pb.RegisterTestServiceServer(srv, &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		runs++
		attempt = resilience.Attempt(ctx)
		at, limited := ctx.Deadline()
		expired = limited && time.Until(at) < -time.Minute
		return &pb.SimpleResponse{}, nil
	}})
	f.Fuzz(func(t *testing.T, timeout, first, second string) {
		r := httptest.NewRequest(http.MethodPost, "/grpc.testing.TestService/UnaryCall", bytes.NewReader(make([]byte, 5)))
		r.ProtoMajor, r.ProtoMinor = 2, 0
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Retry-Attempt": {first}}
		want := 1
		if n, ok := new(big.Int).SetString(first, 10); ok && n.String() == first && n.Cmp(big.NewInt(1)) > 0 && n.Cmp(big.NewInt(1000)) < 0 {
			want = int(n.Int64())
		}
		if timeout != "" {
			r.Header["Grpc-Timeout"] = []string{timeout}
		}
		if second != "" {
			r.Header["Retry-Attempt"] = []string{first, second}
			want = 1
		}
		attempt, expired, runs = want, false, 0
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if attempt != want || expired || runs > 1 {
			t.Errorf("timeout %q, marks %q, %q: attempt %d, want %d; expired %v; %d runs", timeout, first, second, attempt, want, expired, runs)
		}
		if timeout == "1H" && w.Code == http.StatusOK && runs != 1 {
			t.Errorf("marks %q, %q: not run: %v", first, second, w.Result().Trailer)
		}
	})
}
