package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Process is a child process, as its parent sees it.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended sync.WaitGroup
}

// Spawn describes a child that writes reports of type R.
type Spawn[R any] struct {
	Name   string // for error texts: "the service"
	Role   string
	Config any                      // what the child reads first
	Env    []string                 // added to the parent's environment
	Start  func(func() error) error // calls its argument, which starts the process; nil: directly
	Report func(*Process, R)        // is called for each report, one after another
	Ended  func(*Process, error)    // is called once, after the last report, with the result of exec.Cmd.Wait
}

// Start starts a child of p.
func Start[R any](p Program, s Spawn[R]) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), p.variable()+"="+s.Role), s.Env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := s.Start
	if start == nil {
		start = func(run func() error) error { return run() }
	}
	if err := start(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Name, err)
	}
	child := &Process{Name: s.Name, cmd: cmd, in: in}
	child.ended.Go(func() {
		reports := json.NewDecoder(out)
		for {
			var r R
			if reports.Decode(&r) != nil {
				break
			}
			s.Report(child, r)
		}
		s.Ended(child, cmd.Wait())
	})
	if err := child.Send(s.Config); err != nil {
		Stop(0, child)
		return nil, err
	}
	return child, nil
}

// Send writes a value to the input of the child.
func (p *Process) Send(value any) error {
	if err := json.NewEncoder(p.in).Encode(value); err != nil {
		return fmt.Errorf("%s is gone: %w", p.Name, err)
	}
	return nil
}

// ID returns the process ID.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// State returns how the process ended, nil before Stop has returned.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// Stop ends all processes by the end of their input, kills those that still run after
// grace, and returns when all have ended.
func Stop(grace time.Duration, all ...*Process) {
	for _, p := range all {
		p.in.Close()
	}
	kill := time.AfterFunc(grace, func() {
		for _, p := range all {
			_ = p.cmd.Process.Kill()
		}
	})
	for _, p := range all {
		p.ended.Wait()
	}
	kill.Stop()
}
