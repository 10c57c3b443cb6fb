package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/examples/internal/demo"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/stack"
)

// arm is what stands in front of the handler.
type arm int

const (
	bare    arm = iota // nothing
	limited            // the default stack for servers
	fixed              // a limit of the requests that keep the core busy, set by hand
	closed             // a policy that rejects every request, to measure what that costs
)

var armNames = [...]string{bare: "bare", limited: "with limit", fixed: "limit of 4 by hand", closed: "closed"}

// config is what the service reads.
type config struct {
	Arm    arm           `json:"arm"`
	Work   time.Duration `json:"work"`
	Rounds int           `json:"rounds,omitempty"` // that Work takes; 0: the service measures it
	Life   time.Duration `json:"life"`             // after which it ends by itself
}

// report is a line that the service writes. The first one has its addresses.
type report struct {
	Addrs  []string `json:"addrs,omitempty"`
	Rounds int      `json:"rounds,omitempty"`
	Now    *moment  `json:"now,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// moment has the counters of the service since its start.
type moment struct {
	At    time.Time     `json:"at"`
	CPU   time.Duration `json:"cpu"`  // 0 if unknown
	Done  int64         `json:"done"` // requests that the handler finished, or that the closed arm rejected
	Most  int64         `json:"most"` // requests that were in the handler at once
	Limit *limit.Stats  `json:"limit,omitempty"`
}

const (
	// reportEvery is the time between two reports of the service.
	reportEvery = 100 * time.Millisecond
	// ports is the number of sockets on which the service listens. An abandoned
	// connection keeps a port of the client busy until the service reads from it, so
	// that one socket could not get four times the capacity.
	ports = 4
)

// child is the main function of the service. It ends with the process.
func child() int {
	runtime.GOMAXPROCS(1)
	out := json.NewEncoder(directOut{})
	var c config
	in, ok := program.Configure(&c)
	if !ok {
		return 1
	}
	time.AfterFunc(c.Life, func() { os.Exit(1) })
	go demo.ExitAtEnd(in, func(json.RawMessage) {}) // nothing follows the configuration
	if err := serve(c, out); err != nil {
		_ = out.Encode(report{Error: err.Error()})
	}
	return 1
}

// serve returns only with an error.
func serve(c config, out *json.Encoder) error {
	if c.Rounds == 0 {
		c.Rounds = calibrate(c.Work)
	}
	load := &workload{rounds: c.Rounds}
	handler, stats, err := guard(c.Arm, load)
	if err != nil {
		return err
	}
	ready := report{Rounds: c.Rounds}
	failed := make(chan error, ports)
	for range ports {
		s, err := demo.Serve(demo.Loopback, handler, func(err error) { failed <- err })
		if err != nil {
			return err
		}
		ready.Addrs = append(ready.Addrs, s.Addr.String())
	}
	if err := out.Encode(ready); err != nil {
		return err
	}
	// A goroutine that has slept runs next. A goroutine that waits for the network runs
	// after all others that can run, which in an overload takes seconds.
	for {
		time.Sleep(reportEvery)
		select {
		case err := <-failed:
			return err
		default:
		}
		now := moment{At: time.Now(), Done: load.done.Load(), Most: load.most.Load(), Limit: stats()}
		now.CPU, _ = cpuTime()
		if err := out.Encode(report{Now: &now}); err != nil {
			return err
		}
	}
}

// guard puts an arm in front of h. The function returns the counters of its limit,
// nil if it has no limit.
func guard(a arm, h *workload) (http.Handler, func() *limit.Stats, error) {
	none := func() *limit.Stats { return nil }
	switch a {
	case bare:
		return h, none, nil
	case closed:
		return httpmw.Server{Policy: &rejectAll{&h.done}}.Wrap(h), none, nil
	case limited:
		p := stack.Server("overload")
		return httpmw.Server{Policy: p, Priority: priority}.Wrap(h), func() *limit.Stats { return limitOf(p) }, nil
	case fixed:
		l, err := limit.New(limit.Config{Name: "overload", Max: 4})
		return httpmw.Server{Policy: l}.Wrap(h), none, err
	}
	return nil, nil, fmt.Errorf("no such arm: %d", a)
}

// The routes of the service.
const (
	bulkRoute     = "/"
	criticalRoute = "/critical"
)

// priority is decided by the server's own routes. A header would be for the client to set.
func priority(r *http.Request) resilience.Priority {
	if r.URL.Path == criticalRoute {
		return resilience.Critical
	}
	return resilience.Normal
}

// limitOf returns the counters of the limit in p, nil if there is no limit.
func limitOf(p resilience.Policy) *limit.Stats {
	for n := range resilience.Walk(p) {
		p := n.Policy
		if l, ok := p.(*limit.Limit); ok {
			s := l.Stats()
			return &s
		}
	}
	return nil
}

// rejectAll is a Policy that rejects every call, and counts them.
type rejectAll struct{ done *atomic.Int64 }

// errClosed is like the error of a limit.
var errClosed = &resilience.Rejection{Policy: "closed", Reason: resilience.Limited, Detail: "overload"}

// Apply implements resilience.Policy.
func (r *rejectAll) Apply(context.Context, resilience.Next) error {
	r.done.Add(1)
	return errClosed
}
