package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// measured is what an experiment leaves behind.
type measured struct {
	records  []record
	attempts [2][]int // started by each front towards the broken service, by unit
}

// reportEvery is how often a child tells how things stand.
const reportEvery = 100 * time.Millisecond

// experiment starts all processes, lets the script run, shows it on out and
// ends all processes.
func experiment(ctx context.Context, s script, out *screen) (measured, error) {
	c := newCrew()
	defer c.stop()
	systems, err := assemble(ctx, c, s)
	if err != nil {
		return measured{}, err
	}
	start := time.Now().Add(200 * time.Millisecond)
	for _, p := range c.all {
		if err := p.tell(start.UnixNano()); err != nil {
			return measured{}, err
		}
	}
	m := &monitor{script: s, systems: systems}
	defer out.settle()
	tick := time.NewTicker(2 * reportEvery)
	defer tick.Stop()
	late := time.After(time.Until(start) + s.length() + giveUp + 30*time.Second)
	for !m.complete() {
		select {
		case <-ctx.Done():
			return measured{}, ctx.Err()
		case <-late:
			return measured{}, errors.New("the load generator did not come to its end")
		case msg := <-c.messages:
			if msg.err != nil {
				return measured{}, msg.err
			}
			m.add(msg)
		case <-tick.C:
			out.show(m, time.Since(start))
		}
	}
	out.show(m, s.length()+time.Second)
	return m.measured, nil
}

// assemble starts all processes and returns those of the two systems.
func assemble(ctx context.Context, c *crew, s script) (systems [2]*process, err error) {
	var addrs [2]string
	for i, name := range systemNames {
		if systems[i], err = c.start("the "+name+" system", systemRole, config{Script: s, System: i}); err != nil {
			return systems, err
		}
		if addrs[i], err = c.address(ctx, systems[i]); err != nil {
			return systems, err
		}
	}
	load, err := c.start("the load generator", loadRole, config{Script: s, Fronts: addrs})
	if err != nil {
		return systems, err
	}
	_, err = c.address(ctx, load)
	return systems, err
}

// address waits for the first report of p, with which it is ready. Nobody has
// anything else to report before the start.
func (c *crew) address(ctx context.Context, p *process) (string, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(20 * time.Second):
		return "", fmt.Errorf("%s did not start within 20 s", p.name)
	case m := <-c.messages:
		switch {
		case m.err != nil:
			return "", m.err
		case m.from != p || m.Addr == "":
			return "", fmt.Errorf("%s spoke out of turn", m.from.name)
		}
		return m.Addr, nil
	}
}

// monitor gathers what the children report.
type monitor struct {
	measured
	script  script
	systems [2]*process
	last    [2]frontReport
	done    bool
	after   [2]bool // the system has reported since all requests have ended
}

func (m *monitor) add(msg message) {
	m.records = append(m.records, msg.Records...)
	m.done = m.done || msg.Done
	if msg.Front == nil {
		return
	}
	for system, p := range m.systems {
		if p == msg.from {
			m.last[system] = *msg.Front
			m.attempts[system] = msg.Front.Attempts
			m.after[system] = m.done
		}
	}
}

func (m *monitor) complete() bool { return m.done && m.after[0] && m.after[1] }
