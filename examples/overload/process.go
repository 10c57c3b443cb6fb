package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// process is the service as the load generator sees it.
type process struct {
	addrs  []string
	rounds int
	held   bool // to one core
	cmd    *exec.Cmd
	in     io.WriteCloser
	ended  sync.WaitGroup
	mu     sync.Mutex
	past   []moment // guarded by mu
	err    error    // guarded by mu; why it ended although nobody wanted it to
}

// start runs this program once more, as the service, and returns when that listens.
func start(ctx context.Context, c config) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"=service", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: in}
	if p.held, err = onOneCore(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting the service: %w", err)
	}
	ready := make(chan report, 1)
	p.ended.Go(func() { p.listen(json.NewDecoder(out), ready) })
	if err := json.NewEncoder(in).Encode(c); err != nil {
		p.stop()
		return nil, fmt.Errorf("the service is gone: %w", err)
	}
	select {
	case r, ok := <-ready:
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

// listen keeps what the service writes until it has ended. It closes ready at the
// latest then.
func (p *process) listen(in *json.Decoder, ready chan<- report) {
	err := errors.New("the service ended too early")
	for {
		var r report
		if in.Decode(&r) != nil {
			break
		}
		switch {
		case r.Error != "":
			err = errors.New("the service: " + r.Error)
		case r.Now != nil:
			p.mu.Lock()
			p.past = append(p.past, *r.Now)
			p.mu.Unlock()
		case len(r.Addrs) > 0 && ready != nil:
			ready <- r
			close(ready)
			ready = nil
		}
	}
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	if ready != nil {
		close(ready)
	}
	_ = p.cmd.Wait() // killed, or it has said why
}

// failure is nil while the service runs.
func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// history is what the service has told so far.
func (p *process) history() []moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]moment(nil), p.past...)
}

// stop ends the service, which may be far too busy to do that by itself, and
// returns when it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	p.ended.Wait()
	p.in.Close()
}
