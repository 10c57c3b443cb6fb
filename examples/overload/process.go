package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// process is the service, as the load generator sees it.
type process struct {
	*demo.Process
	addrs  []string
	rounds int
	held   bool        // to one core
	ready  chan report // gets the report with the addresses; is closed when the service has ended
	mu     sync.Mutex
	past   []moment // guarded by mu
	fault  error    // guarded by mu; the error that the service has reported
	err    error    // guarded by mu; the reason for which the service has ended
}

// start runs this program again, as the service, and returns when that listens.
func start(ctx context.Context, c config) (*process, error) {
	p := &process{ready: make(chan report, 1)}
	var err error
	p.Process, err = demo.Start(program, demo.Spawn[report]{
		Name: "the service", Role: "service", Config: c, Env: []string{"GOMAXPROCS=1"},
		Start: func(run func() error) (err error) {
			p.held, err = onOneCore(run)
			return err
		},
		Report: p.report,
		Ended:  p.end,
	})
	if err != nil {
		return nil, err
	}
	select {
	case r, ok := <-p.ready:
		if !ok {
			p.stop()
			return nil, p.failure()
		}
		p.addrs, p.rounds = r.Addrs, r.Rounds
		return p, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(20 * time.Second):
		err = errors.New("the service did not start within 20 s")
	}
	p.stop()
	return nil, err
}

// report keeps a report of the service.
func (p *process) report(_ *demo.Process, r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.Error != "":
		p.fault = fmt.Errorf("the service: %s", r.Error)
	case r.Now != nil:
		p.past = append(p.past, *r.Now)
	case len(r.Addrs) > 0:
		p.ready <- r
	}
}

// end is called when the service has ended.
func (p *process) end(*demo.Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = p.fault; p.err == nil {
		p.err = errors.New("the service ended too early")
	}
	close(p.ready)
}

// failure is nil while the service runs.
func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// history returns the moments that the service has reported so far.
func (p *process) history() []moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]moment(nil), p.past...)
}

// stolen returns the share of a time span for which the service waited for its core, 0 if
// it is unknown. It returns at the end of that span.
func (p *process) stolen(begin, end time.Time) float64 {
	time.Sleep(time.Until(begin))
	before, _ := coreWait(p.ID())
	time.Sleep(time.Until(end))
	after, _ := coreWait(p.ID())
	return max(0, (after-before).Seconds()/end.Sub(begin).Seconds())
}

// stop kills the service, which may be too busy to end by itself, and returns when it
// has ended.
func (p *process) stop() { demo.Stop(0, p.Process) }
