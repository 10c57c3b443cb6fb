package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const (
	systemRole = "system"
	loadRole   = "load"
)

// config is the first thing that a child reads. The second is the instant of
// the start, in nanoseconds since 1970; nothing follows.
type config struct {
	Script script `json:"script"`
	System int    `json:"system"`
	// Fronts are the addresses of the fronts, for the load generator.
	Fronts [2]string `json:"fronts"`
	// Listen is where a system serves its pages, "" for nowhere.
	Listen string `json:"listen,omitempty"`
	// Stay keeps the child running until its input ends, however long that is.
	Stay bool `json:"stay,omitempty"`
}

// report is a line that a child writes. The first one has the address at which it listens.
type report struct {
	Addr    string       `json:"addr,omitempty"`
	Pages   string       `json:"pages,omitempty"` // where its pages are, with the first report
	Records []record     `json:"records,omitempty"`
	Front   *frontReport `json:"front,omitempty"`
	Done    bool         `json:"done,omitempty"` // the load generator has sent all
	Error   string       `json:"error,omitempty"`
}

// link is a child's connection to the coordinator.
type link struct {
	starts chan time.Time
	mu     sync.Mutex // guards out
	out    *json.Encoder
}

func (l *link) send(r report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out.Encode(r) != nil {
		os.Exit(1) // the coordinator has ended
	}
}

// fail reports an error and ends the child.
func (l *link) fail(err error) {
	l.send(report{Error: err.Error()})
	os.Exit(1)
}

// begin passes the start on.
func (l *link) begin(at int64) {
	// Carries a monotonic reading, unlike the result of time.Unix.
	l.starts <- time.Now().Add(time.Until(time.Unix(0, at)))
}

// child is the main function of every process but the first. It ends with the
// process.
func child(role string) int {
	var c config
	in, ok := program.Configure(&c)
	if !ok {
		return 1
	}
	if !c.Stay {
		time.AfterFunc(c.Script.length()+time.Minute, func() { os.Exit(1) })
	}
	l := &link{starts: make(chan time.Time, 1), out: json.NewEncoder(os.Stdout)}
	go demo.ExitAtEnd(in, l.begin)

	var err error
	switch role {
	case systemRole:
		err = runSystem(c, l)
	case loadRole:
		err = runLoad(c, l)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		l.fail(err)
	}
	select {} // until ExitAtEnd sees the end of the input
}

// crew is the coordinator's view of its children.
type crew struct {
	messages chan message
	stopped  chan struct{} // closed when children are meant to end
	all      []*demo.Process
}

type message struct {
	from *demo.Process
	report
	err error // the process has ended, which it should not
}

func newCrew() *crew {
	return &crew{messages: make(chan message, 64), stopped: make(chan struct{})}
}

// start runs this program again, in another role.
func (c *crew) start(name, role string, cfg config) (*demo.Process, error) {
	p, err := demo.Start(program, demo.Spawn[report]{
		Name: name, Role: role, Config: cfg,
		Report: func(p *demo.Process, r report) {
			if r.Error != "" {
				c.hand(message{from: p, err: fmt.Errorf("%s: %s", p.Name, r.Error)})
				return
			}
			c.hand(message{from: p, report: r})
		},
		Ended: func(p *demo.Process, err error) {
			c.hand(message{from: p, err: fmt.Errorf("%s ended too early (%v)", p.Name, err)})
		},
	})
	if err == nil {
		c.all = append(c.all, p)
	}
	return p, err
}

// hand passes a message to the coordinator, unless that has stopped.
func (c *crew) hand(m message) {
	select {
	case c.messages <- m:
	case <-c.stopped:
	}
}

// wait returns nil when ctx is done, or an error if a child has ended before.
func (c *crew) wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-c.messages:
			if m.err != nil {
				return m.err
			}
		}
	}
}

// stop ends all children and returns when all have ended.
func (c *crew) stop() {
	close(c.stopped)
	demo.Stop(2*time.Second, c.all...)
}
