package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// measured has the data of an experiment.
type measured struct {
	records  []record
	attempts [2][]int // started by each front towards the broken service, by unit
}

// reportEvery is the time between two reports of a child.
const reportEvery = 100 * time.Millisecond

// experiment runs the script and shows it on out.
func experiment(ctx context.Context, c *crew, systems [2]*demo.Process, s script, out *screen) (measured, error) {
	start := time.Now().Add(200 * time.Millisecond)
	for _, p := range c.all {
		if err := p.Send(start.UnixNano()); err != nil {
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

// assemble starts all processes. It returns the processes of the two systems, and the
// address of the pages of the protected one.
func assemble(ctx context.Context, c *crew, s script, o options) (systems [2]*demo.Process, pages string, err error) {
	var addrs [2]string
	for i, name := range systemNames {
		cfg := config{Script: s, System: i, Stay: o.wait}
		if i == protected {
			cfg.Listen = o.listen
		}
		if systems[i], err = c.start("the "+name+" system", systemRole, cfg); err != nil {
			return systems, "", err
		}
		ready, err := c.ready(ctx, systems[i])
		if err != nil {
			return systems, "", err
		}
		addrs[i], pages = ready.Addr, ready.Pages
	}
	load, err := c.start("the load generator", loadRole, config{Script: s, Fronts: addrs, Stay: o.wait})
	if err != nil {
		return systems, "", err
	}
	_, err = c.ready(ctx, load)
	return systems, pages, err
}

// ready waits for the first report of p. Before the start a child reports nothing
// else.
func (c *crew) ready(ctx context.Context, p *demo.Process) (report, error) {
	select {
	case <-ctx.Done():
		return report{}, ctx.Err()
	case <-time.After(20 * time.Second):
		return report{}, fmt.Errorf("%s did not start within 20 s", p.Name)
	case m := <-c.messages:
		switch {
		case m.err != nil:
			return report{}, m.err
		case m.from != p || m.Addr == "":
			return report{}, fmt.Errorf("%s reported out of turn", m.from.Name)
		}
		return m.report, nil
	}
}

// monitor collects the reports of the children.
type monitor struct {
	measured
	script  script
	systems [2]*demo.Process
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
