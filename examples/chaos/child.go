package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"
)

// roleVariable tells a process of this program that it is a child, and which.
const roleVariable = "RESILIENCE_CHAOS_ROLE"

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
	// Stay has the child stay until it is told to end, however long that is.
	Stay bool `json:"stay,omitempty"`
}

// report is what a child writes, one a line: first where it listens.
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
		os.Exit(1) // nobody reads any more
	}
}

// fail ends the child and says why.
func (l *link) fail(err error) {
	l.send(report{Error: err.Error()})
	os.Exit(1)
}

// watch passes the start on and then waits for the end of the input. The other
// end of that pipe is closed when the coordinator ends, however it ends, so that
// no child outlives it.
func (l *link) watch(in *json.Decoder) {
	for {
		var at int64
		if err := in.Decode(&at); err != nil {
			os.Exit(0)
		}
		// Carries a monotonic reading, unlike what time.Unix returns.
		l.starts <- time.Now().Add(time.Until(time.Unix(0, at)))
	}
}

// child is the main function of every process but the first. It ends with the
// process.
func child(role string) int {
	// Ctrl-C reaches every process of the terminal's group; the coordinator is
	// the one that acts on it.
	signal.Ignore(os.Interrupt)
	in := json.NewDecoder(os.Stdin)
	var c config
	if err := in.Decode(&c); err != nil {
		if !errors.Is(err, io.EOF) {
			fmt.Fprintf(os.Stderr, "chaos: %s is set, but there is no configuration: %v\n", roleVariable, err)
		}
		return 1
	}
	if !c.Stay {
		time.AfterFunc(c.Script.length()+time.Minute, func() { os.Exit(1) })
	}
	l := &link{starts: make(chan time.Time, 1), out: json.NewEncoder(os.Stdout)}
	go l.watch(in)

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
	select {} // until watch sees the end of the input
}

// crew is the coordinator's view of its children.
type crew struct {
	messages chan message
	stopped  chan struct{} // closed when children are meant to end
	ended    sync.WaitGroup
	all      []*process
}

type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
}

type message struct {
	from *process
	report
	err error // the process has ended, which it should not
}

func newCrew() *crew {
	return &crew{messages: make(chan message, 64), stopped: make(chan struct{})}
}

// start runs this program once more, in another role.
func (c *crew) start(name, role string, cfg config) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name, cmd, in}
	c.all = append(c.all, p)
	c.ended.Go(func() { c.listen(p, out) })
	if err := p.tell(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) tell(what any) error {
	if err := json.NewEncoder(p.in).Encode(what); err != nil {
		return fmt.Errorf("%s is gone: %w", p.name, err)
	}
	return nil
}

// listen hands on what p writes until p has ended.
func (c *crew) listen(p *process, out io.Reader) {
	in := json.NewDecoder(out)
	for {
		var r report
		if err := in.Decode(&r); err != nil {
			break
		}
		if r.Error != "" {
			c.hand(message{from: p, err: fmt.Errorf("%s: %s", p.name, r.Error)})
			continue
		}
		c.hand(message{from: p, report: r})
	}
	err := p.cmd.Wait()
	c.hand(message{from: p, err: fmt.Errorf("%s ended too early (%v)", p.name, err)})
}

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

// stop ends all children and returns when none is left.
func (c *crew) stop() {
	close(c.stopped)
	for _, p := range c.all {
		p.in.Close()
	}
	kill := time.AfterFunc(2*time.Second, func() {
		for _, p := range c.all {
			_ = p.cmd.Process.Kill()
		}
	})
	c.ended.Wait()
	kill.Stop()
}
