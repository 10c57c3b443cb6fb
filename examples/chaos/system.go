package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// runSystem is one copy: two services and a front, each with a socket of its own
// on a port that the kernel chooses, and in the protected copy the pages if they
// are asked for. It serves until the process ends.
func runSystem(c config, l *link) error {
	var services [2]*server
	var targets [2]string
	for i := range services {
		s, err := open(somePort, newService(), l)
		if err != nil {
			return err
		}
		services[i], targets[i] = s, s.addr.String()
	}
	f, attempts, breaker, err := newFront(c.Script, c.System, targets)
	if err != nil {
		return err
	}
	entrance, err := open(somePort, f, l)
	if err != nil {
		return err
	}
	ready := report{Addr: entrance.addr.String()}
	if c.Listen != "" {
		if ready.Pages, err = openPages(c.Listen, f.policies, l); err != nil {
			return err
		}
	}
	l.send(ready)
	start := <-l.starts
	attempts.start.Store(&start)
	go func() {
		if err := services[broken].follow(c.Script, start); err != nil {
			l.fail(err)
		}
	}()
	for {
		time.Sleep(reportEvery)
		l.send(report{Front: &frontReport{len(f.slots), *breaker.state.Load(), attempts.attempts()}})
	}
}

// server is a handler on a socket that can be closed and opened again.
type server struct {
	link    *link
	handler http.Handler
	addr    *net.TCPAddr
	http    *http.Server
}

// somePort has the kernel choose a port.
const somePort = "127.0.0.1:0"

func open(addr string, h http.Handler, l *link) (*server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &server{link: l, handler: h, addr: listener.Addr().(*net.TCPAddr)}
	s.serve(listener)
	return s, nil
}

func (s *server) serve(listener net.Listener) {
	h := &http.Server{Handler: s.handler}
	s.http = h
	go func() {
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.link.fail(err)
		}
	}()
}

// close refuses connections, those that exist included, until reopen is called.
func (s *server) close() (reopen func() error) {
	s.http.Close()
	release := reserve(s.addr.Port)
	return func() error {
		release()
		listener, err := relisten(s.addr.String())
		if err == nil {
			s.serve(listener)
		}
		return err
	}
}

// relisten tries for a moment: where reserve cannot hold a port, a stranger's
// outgoing connection may have it for as long as it lasts.
func relisten(addr string) (listener net.Listener, err error) {
	for range 50 {
		if listener, err = net.Listen("tcp4", addr); err == nil {
			return listener, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, fmt.Errorf("somebody took the port while the service refused connections, run again: %w", err)
}

// follow has a service go through the script.
func (s *server) follow(script script, start time.Time) error {
	svc := s.handler.(*service)
	reopen := func() error { return nil }
	for i, p := range script.Phases {
		time.Sleep(time.Until(start.Add(time.Duration(script.begin(i)) * script.Unit)))
		if err := reopen(); err != nil {
			return err
		}
		reopen = func() error { return nil }
		svc.set(p.Fault)
		if p.Fault == refusing {
			reopen = s.close()
		}
	}
	return reopen()
}
