package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// fleet is the replicas.
type fleet struct {
	plan     plan
	replicas []*remote
}

// remote is a replica as its parent sees it.
type remote struct {
	*demo.Process
	config config // with the addresses, once known
	ready  chan report
	ended  chan struct{}
}

// startFleet starts the replicas on 127.0.0.2 and the addresses after it.
func startFleet(ctx context.Context, p plan) (*fleet, error) {
	f := &fleet{plan: p}
	for i := range p.replicas {
		host := fmt.Sprintf("127.0.0.%d:0", i+2)
		r, err := start(ctx, config{HTTP: host, GRPC: host, Work: p.work})
		if err != nil { // some systems have only one loopback address
			r, err = start(ctx, config{HTTP: demo.Loopback, GRPC: demo.Loopback, Work: p.work})
		}
		if err != nil {
			f.stop()
			return nil, err
		}
		f.replicas = append(f.replicas, r)
	}
	return f, nil
}

// start starts a replica and waits until it listens.
func start(ctx context.Context, c config) (*remote, error) {
	r := &remote{config: c, ready: make(chan report, 2), ended: make(chan struct{})}
	var err error
	r.Process, err = demo.Start(program, demo.Spawn[report]{
		Name: "a replica", Role: "replica", Config: c,
		Report: func(_ *demo.Process, got report) { r.ready <- got },
		Ended:  func(*demo.Process, error) { close(r.ended) },
	})
	if err != nil {
		return nil, err
	}
	select {
	case got := <-r.ready:
		if got.Error == "" {
			r.config.HTTP, r.config.GRPC = got.HTTP, got.GRPC
			return r, nil
		}
		err = fmt.Errorf("a replica: %s", got.Error)
	case <-r.ended:
		err = errors.New("a replica ended before it listened")
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(20 * time.Second):
		err = errors.New("a replica did not listen within 20 s")
	}
	demo.Stop(0, r.Process)
	return nil, err
}

// kill ends a replica as kill -9 does.
func (f *fleet) kill(i int) error {
	r := f.replicas[i]
	p, err := os.FindProcess(r.ID())
	if err == nil {
		err = p.Kill()
	}
	demo.Stop(0, r.Process)
	return err
}

// restart starts a replica that was killed, on its old addresses.
func (f *fleet) restart(ctx context.Context, i int) error {
	var err error
	for range 50 { // until the kernel has released the addresses
		var r *remote
		if r, err = start(ctx, f.replicas[i].config); err == nil {
			f.replicas[i] = r
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// addresses returns the addresses of HTTP or gRPC.
func (f *fleet) addresses(of func(config) string) []string {
	var all []string
	for _, r := range f.replicas {
		all = append(all, of(r.config))
	}
	return all
}

func (f *fleet) stop() {
	for _, r := range f.replicas {
		demo.Stop(time.Second, r.Process)
	}
}
