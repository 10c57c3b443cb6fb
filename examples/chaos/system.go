package main

import (
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// runSystem is one copy: two services and a front, each with a socket of its own
// on a port that the kernel chooses, and in the protected copy the pages if they
// are asked for. It serves until the process ends.
func runSystem(c config, l *link) error {
	var services [2]*demo.Server
	var handlers [2]*service
	var targets [2]string
	for i := range services {
		handlers[i] = newService()
		s, err := demo.Serve(demo.Loopback, handlers[i], l.fail)
		if err != nil {
			return err
		}
		services[i], targets[i] = s, s.Addr.String()
	}
	f, attempts, breaker, err := newFront(c.Script, c.System, targets)
	if err != nil {
		return err
	}
	entrance, err := demo.Serve(demo.Loopback, f, l.fail)
	if err != nil {
		return err
	}
	ready := report{Addr: entrance.Addr.String()}
	if c.Listen != "" {
		if ready.Pages, err = openPages(c.Listen, f.policies, l); err != nil {
			return err
		}
	}
	l.send(ready)
	start := <-l.starts
	attempts.start.Store(&start)
	go func() {
		if err := handlers[broken].follow(c.Script, start, services[broken]); err != nil {
			l.fail(err)
		}
	}()
	for {
		time.Sleep(reportEvery)
		l.send(report{Front: &frontReport{len(f.slots), *breaker.state.Load(), attempts.attempts()}})
	}
}

// follow takes a service, which listens on socket, through the script.
func (s *service) follow(script script, start time.Time, socket *demo.Server) error {
	reopen := func() error { return nil }
	for i, p := range script.Phases {
		time.Sleep(time.Until(start.Add(time.Duration(script.begin(i)) * script.Unit)))
		if err := reopen(); err != nil {
			return err
		}
		reopen = func() error { return nil }
		s.set(p.Fault)
		if p.Fault == refusing {
			reopen = socket.Close()
		}
	}
	return reopen()
}
