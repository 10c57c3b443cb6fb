package grpc_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/resilience-go/resilience/httpmw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// marks are those that came to the last hop.
type marks struct {
	mu  sync.Mutex
	all []string
}

func (m *marks) add(values []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, first(values))
}

// thrice are the marks of three hops with three attempts each, where the last one
// always fails: three, and one for each further attempt of a hop before.
var thrice = []string{"-", "2", "3", "2", "3", "2", "3"}

// front is a server of HTTP that answers with what f says.
func front(t *testing.T, f func(context.Context) error) (url string) {
	s := httptest.NewServer(httpmw.Server{}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(r.Context()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})))
	t.Cleanup(s.Close)
	return s.URL
}

// get returns what calls a server of HTTP, with three attempts.
func get(t *testing.T, url string) func(context.Context) error {
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: newOut().Policy}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return status.Error(codes.Unavailable, resp.Status)
		}
		return nil
	}
}

// rpc returns what calls a server of gRPC that answers with what f says, with three
// attempts.
func rpc(t *testing.T, call func(context.Context, *grpc.ClientConn) error, f func(context.Context) error) func(context.Context) error {
	n, o := inMemory(t), newOut()
	n.serve(t, answering(f).register, newIn(10).options()...)
	conn := n.dial(t, o.options()...)
	return func(ctx context.Context) error { return call(ctx, conn) }
}

func TestTheMarkOfARetryGoesFromHTTPOverGRPCToHTTP(t *testing.T) {
	var seen marks
	last := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add(r.Header.Values("Retry-Attempt"))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(last.Close)
	gateway := rpc(t, unary, get(t, last.URL))
	wantCode(t, get(t, front(t, gateway))(limit(t)), codes.Unavailable)
	if !slices.Equal(seen.all, thrice) {
		t.Errorf("marks at the last hop: %q, want %q", seen.all, thrice)
	}
}

func TestTheMarkOfARetryGoesFromGRPCOverHTTPToGRPC(t *testing.T) {
	var seen marks
	last := rpc(t, unary, func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		seen.add(md.Get("retry-attempt"))
		return status.Error(codes.Unavailable, "busy")
	})
	wantCode(t, rpc(t, unary, get(t, front(t, last)))(limit(t)), codes.Unavailable)
	if !slices.Equal(seen.all, thrice) {
		t.Errorf("marks at the last hop: %q, want %q", seen.all, thrice)
	}
}

// A stream is not retried, but what its handler calls knows that it is one of a
// retry, and a stream that is made in a retry is marked.
func TestTheMarkOfARetryGoesThroughStreams(t *testing.T) {
	var seen marks
	last := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add(r.Header.Values("Retry-Attempt"))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(last.Close)
	gateway := rpc(t, stream, get(t, last.URL))
	wantCode(t, get(t, front(t, gateway))(limit(t)), codes.Unavailable)
	if want := []string{"-", "2", "3", "2", "3"}; !slices.Equal(seen.all, want) {
		t.Errorf("marks at the last hop: %q, want %q", seen.all, want)
	}
}
