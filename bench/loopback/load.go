package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bench/internal/pairs"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/stack"
	"golang.org/x/sync/errgroup"
)

// The paths of the server. They are of one length, for the same number of bytes.
const (
	barePath    = "/bare"
	guardedPath = "/ours"
)

var answer = []byte(`{"id":"7","name":"Ada","email":"ada@example.com"}`)

func answers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // a client that misses any of it says so
}

// service is an HTTP/1 server on the loopback interface, with one handler at two
// paths. Connections serve both.
type service struct {
	url    string
	server *http.Server
}

func listen() (*service, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var mux http.ServeMux
	mux.HandleFunc(barePath, answers)
	mux.Handle(guardedPath, httpmw.Server{Policy: stack.Server("loopback")}.Wrap(http.HandlerFunc(answers)))
	s := &service{"http://" + listener.Addr().String(), &http.Server{Handler: &mux}}
	go func() { _ = s.server.Serve(listener) }() // ends with close
	return s, nil
}

// close closes the connections too, for both sides.
func (s *service) close() { _ = s.server.Close() }

// load makes requests, many at a time, over the connections of one transport.
type load struct {
	concurrency int
	transport   *http.Transport
	dialed      atomic.Int64 // connections
}

// newLoad has the transport that most programs have, with one change: the original
// keeps two connections to a host and dials again for all others.
func newLoad(concurrency int) *load {
	l := &load{concurrency: concurrency, transport: http.DefaultTransport.(*http.Transport).Clone()}
	l.transport.MaxIdleConnsPerHost = concurrency
	dial := l.transport.DialContext
	l.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		l.dialed.Add(1)
		return dial(ctx, network, addr)
	}
	return l
}

// goal is what a request with the default stack may take, in requests without.
const goal = 1.02

func rowsFor(l *load, s *service) []pairs.Row {
	c := stack.DefaultClient("loopback")
	c.Without |= stack.Attempt
	var (
		bare    = &http.Client{Transport: l.transport}
		limited = &http.Client{Transport: l.transport, Timeout: policykit.DefaultTimeout}
		guarded = &http.Client{Transport: &httpmw.Transport{Base: l.transport, Policy: stack.Client("loopback")}}
		untimed = &http.Client{Transport: &httpmw.Transport{Base: l.transport, Policy: resilience.Must(c.New())}}
	)
	base := pairs.Arm{Name: "bare", Do: get(bare, s.url+barePath)}
	timeout := pairs.Arm{Name: "http.Client.Timeout", Do: get(limited, s.url+barePath)}
	client := pairs.Arm{Name: "stack.Client", Do: get(guarded, s.url+barePath)}
	return []pairs.Row{
		{Name: "null", Base: base, Ours: pairs.Arm{Name: "bare again", Do: get(bare, s.url+barePath)}},
		{Name: "client", Base: base, Ours: client, Goal: goal},
		{Name: "server", Base: base, Ours: pairs.Arm{Name: "stack.Server", Do: get(bare, s.url+guardedPath)}, Goal: goal},
		{Name: "both", Base: base, Ours: pairs.Arm{Name: "both stacks", Do: get(guarded, s.url+guardedPath)}, Goal: goal},
		{Name: "client without its timeout", Base: base, Ours: pairs.Arm{Name: "stack.Client without Attempt", Do: get(untimed, s.url+barePath)}},
		{Name: "http.Client.Timeout", Base: base, Ours: timeout},
		{Name: "client over http.Client.Timeout", Base: timeout, Ours: client},
	}
}

// get returns a request that must be answered, to the last byte.
func get(client *http.Client, url string) func() error {
	return func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || n != int64(len(answer)) {
			return fmt.Errorf("status %d and %d bytes, not 200 and %d", resp.StatusCode, n, len(answer))
		}
		return nil
	}
}

// half makes n requests with a and returns what one took in nanoseconds: the time of
// all, divided by n. Garbage from before is
// collected first and not measured.
func (l *load) half(a pairs.Arm, n int) (nanos float64, err error) {
	runtime.GC()
	begun := time.Now()
	if err := l.requests(a, n, l.concurrency); err != nil {
		return 0, err
	}
	return float64(time.Since(begun)) / float64(n), nil
}

// requests makes n requests with a on so many goroutines, which take the next one as
// they come, so that all are busy to the end.
func (l *load) requests(a pairs.Arm, n, concurrency int) error {
	var left atomic.Int64
	left.Store(int64(n))
	var all errgroup.Group
	for range concurrency {
		all.Go(func() error {
			for left.Add(-1) >= 0 {
				if err := a.Do(); err != nil {
					left.Store(0)
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// warmUp makes at least n requests with what is to be measured in each row, first a
// few at a time and then more: a bulkhead that sizes itself begins with room for 24.
func (l *load) warmUp(rows []pairs.Row, n int) error {
	n = max(n, 10*l.concurrency) // for that to have an effect
	for _, r := range rows {
		for _, few := range []int{l.concurrency / 4, l.concurrency / 2, l.concurrency} {
			if err := l.requests(r.Ours, n/3+1, max(1, few)); err != nil {
				return fmt.Errorf("warming up with %s: %w", r.Ours.Name, err)
			}
		}
	}
	return nil
}
