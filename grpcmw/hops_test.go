package grpcmw_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// hop calls the next service, over HTTP and over gRPC by turns.
type hop func(ctx context.Context) error

// marks remembers what calls said about which attempt they are.
type marks struct {
	mu  sync.Mutex
	all []string
}

func (m *marks) add(values []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, strings.Join(values, "+"))
}

// overGRPC returns a hop to a service that does what next does.
func overGRPC(t *testing.T, serve serving, seen *marks, next hop) hop {
	p := retries(t, retry.Config{})
	s := &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen.add(md.Get("retry-attempt"))
		if other := md.Get("other"); len(other) != 1 {
			t.Errorf("what the caller sends came as %q", other)
		}
		if err := next(ctx); err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		return &pb.SimpleResponse{}, nil
	}}
	c := serve(t, s, unaryServer(grpcmw.Server{Policy: resilience.Compose()}), unary(grpcmw.Client{Policy: p}))
	return func(ctx context.Context) error {
		// What the caller wants to send goes along; what another hop sent does not.
		_, err := c.UnaryCall(metadata.AppendToOutgoingContext(ctx, "other", "1"), &pb.SimpleRequest{})
		return err
	}
}

func overHTTP(t *testing.T, seen *marks, next hop) hop {
	s := httptest.NewServer(httpmw.Server{Policy: resilience.Compose()}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add(r.Header["Retry-Attempt"])
		if next(r.Context()) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})))
	t.Cleanup(s.Close)
	tr := &httpmw.Transport{Base: s.Client().Transport, Policy: retries(t, retry.Config{})}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
}

// thrice are the marks of three hops with three attempts each: a first attempt makes
// three at each hop, and a later one no more of its own.
var thrice = []string{"", "", "", "2", "2", "2", "2", "2", "2", "3", "3", "3", "3", "3", "3"}

// overStreams is overGRPC to a method that is a stream.
func overStreams(t *testing.T, serve serving, seen *marks, next hop) hop {
	s := &service{duplex: func(st duplex) error {
		md, _ := metadata.FromIncomingContext(st.Context())
		seen.add(md.Get("retry-attempt"))
		if err := next(st.Context()); err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		return nil
	}}
	r := serve(t, s, guardedServer(resilience.Compose()), guarded(retries(t, retry.Config{})))
	return func(ctx context.Context) error {
		st, err := r.FullDuplexCall(ctx)
		for err == nil {
			_, err = st.Recv()
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
}

// Three hops of three attempts do not turn one call into 27.
func TestServer_hopsDoNotMultiply(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		down := func(context.Context) error { return errors.New("down") }
		for name, test := range map[string]struct {
			build func(seen *marks) hop
			want  []string // sorted
		}{
			"gRPC, gRPC, gRPC": {func(m *marks) hop { return overGRPC(t, serve, m, overGRPC(t, serve, m, overGRPC(t, serve, m, down))) }, thrice},
			"gRPC, HTTP, gRPC": {func(m *marks) hop { return overGRPC(t, serve, m, overHTTP(t, m, overGRPC(t, serve, m, down))) }, thrice},
			"HTTP, gRPC, HTTP": {func(m *marks) hop { return overHTTP(t, m, overGRPC(t, serve, m, overHTTP(t, m, down))) }, thrice},
			// The stream is not retried, but carries the mark of the retry that it is part of.
			"HTTP, stream, HTTP": {func(m *marks) hop { return overHTTP(t, m, overStreams(t, serve, m, overHTTP(t, m, down))) },
				[]string{"", "", "", "2", "2", "2", "2", "3", "3", "3", "3"}},
		} {
			seen := &marks{}
			if test.build(seen)(patience(t)) == nil {
				t.Errorf("%s: no error", name)
			}
			slices.Sort(seen.all)
			if !slices.Equal(seen.all, test.want) {
				t.Errorf("%s: %d calls with the marks %q", name, len(seen.all), seen.all)
			}
		}
	})
}

// Metadata retry-attempt of the caller is replaced.
func TestClient_replacesRetryAttempt(t *testing.T) {
	seen := &marks{}
	p := resilience.Compose(stubborn(3))
	s := &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen.add(append(md.Get("retry-attempt"), strconv.Itoa(resilience.Attempt(ctx))))
		return nil, status.Error(codes.Unavailable, "down")
	}}
	c := memory.serve(t, s, unaryServer(grpcmw.Server{Policy: resilience.Compose()}), unary(grpcmw.Client{Policy: p}))
	ctx := metadata.AppendToOutgoingContext(patience(t), "Retry-Attempt", "x", "retry-attempt", "y")
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
	wantStatus(t, err, codes.Unavailable)
	if want := []string{"x+y+1", "2+2", "3+3"}; !slices.Equal(seen.all, want) {
		t.Errorf("marks %q, want %q", seen.all, want)
	}
	if md, _ := metadata.FromOutgoingContext(ctx); !slices.Equal(md["retry-attempt"], []string{"x", "y"}) {
		t.Errorf("the caller's metadata is now %v", md)
	}
}
