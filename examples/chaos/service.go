package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// service is a server of finite capacity. It has workers, and a queue in front of
// them. When the queue is full, it answers 503. A request whose caller left leaves
// the queue, but a worker finishes a request that it has begun.
type service struct {
	inside  atomic.Int64  // requests waiting or being worked on
	workers chan struct{} // one token for each busy worker; blocked senders are served in order
	mu      sync.Mutex
	now     fault         // guarded by mu
	changed chan struct{} // guarded by mu; closed when now changes
}

func newService() *service {
	return &service{workers: make(chan struct{}, workers), now: noFault, changed: make(chan struct{})}
}

// state returns the fault and a channel that is closed when it is over.
func (s *service) state() (fault, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.changed
}

func (s *service) set(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = f
	close(s.changed)
	s.changed = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.hang(r.Context())
	inside := s.inside.Add(1)
	defer s.inside.Add(-1)
	if inside > workers+queue {
		http.Error(w, "the queue is full", http.StatusServiceUnavailable)
		return
	}
	select {
	case s.workers <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	pause := work
	if f, _ := s.state(); f == slow {
		pause *= slowdown
	}
	time.Sleep(pause)
	<-s.workers
	s.hang(r.Context())
	_, _ = w.Write([]byte("ok\n"))
}

// hang does not return, and drops the connection, if the service hangs.
func (s *service) hang(ctx context.Context) {
	f, over := s.state()
	if f != hanging {
		return
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
	panic(http.ErrAbortHandler)
}
