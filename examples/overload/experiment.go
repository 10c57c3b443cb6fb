package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// plan has the settings of a run.
type plan struct {
	Work     time.Duration // of the service, for a request
	Patience time.Duration // of a caller
	Callers  int           // that measure the capacity
	Loads    []float64     // in multiples of the capacity; the first is below 1
	Warm     time.Duration // the first part of each load, which is not measured
	Measure  time.Duration // and the rest
	Capacity time.Duration // how long the capacity is measured, after half a second
	Tries    int           // of each load, at most, until one is undisturbed
}

func thePlan() plan {
	return plan{
		Work: time.Millisecond, Patience: 500 * time.Millisecond, Callers: 8,
		Loads: []float64{0.7, 2, 4},
		Warm:  2500 * time.Millisecond, Measure: 5 * time.Second, Capacity: 3 * time.Second,
		Tries: 2,
	}
}

// checked is the load that the verdict is about.
const checked = 2.0

// length is about how long a run takes if nothing is repeated.
func (p plan) length() time.Duration {
	return time.Duration(2*len(p.Loads)+1)*(p.Warm+p.Measure) + 2*p.Capacity
}

// experiment runs the plan and prints its progress on out.
func experiment(ctx context.Context, p plan, out io.Writer) (result, error) {
	alone, restore := leaveCore()
	defer restore()
	r := result{Plan: p, Alone: alone}
	fmt.Fprintf(out, "This takes about %.0f s. What is the capacity of the service?", p.length().Seconds())
	var err error
	if r.Before, err = capacities(ctx, p, &r.Rounds); err != nil {
		return r, err
	}
	fmt.Fprintf(out, " %.0f requests/s.\n", r.Before.Rate)
	for _, load := range p.Loads {
		for _, a := range []arm{bare, limited} {
			ph, err := phaseOf(ctx, p, r, a, load, out)
			if err != nil {
				return r, err
			}
			r.Phases = append(r.Phases, ph)
		}
	}
	if r.Closed, err = phaseOf(ctx, p, r, closed, 1, out); err != nil {
		return r, err
	}
	if r.After, err = capacities(ctx, p, &r.Rounds); err != nil {
		return r, err
	}
	fmt.Fprintf(out, "The capacity at the end: %.0f requests/s.\n\n", r.After.Rate)
	r.conclude()
	return r, nil
}

// phaseOf sends a load to a new service, and again if something disturbed it. What
// counts as a disturbance does not depend on the goodput, so that another try favours
// neither arm.
func phaseOf(ctx context.Context, p plan, r result, a arm, load float64, out io.Writer) (phase, error) {
	for try := 1; ; try++ {
		fmt.Fprintf(out, "%3.1f times that, %s: ", load, armNames[a])
		ph, err := measure(ctx, p, r, a, load)
		if err != nil {
			fmt.Fprintln(out)
			return ph, err
		}
		fmt.Fprintf(out, "%.0f/s answered in time, %.0f/s rejected.\n", ph.Goodput, ph.Rejected)
		if ph.Disturbed == "" || try == p.Tries {
			return ph, nil
		}
		fmt.Fprintf(out, "That was disturbed: %s. Again.\n", ph.Disturbed)
	}
}

func measure(ctx context.Context, p plan, r result, a arm, load float64) (phase, error) {
	s, err := start(ctx, config{Arm: a, Work: p.Work, Rounds: r.Rounds, Life: p.Warm + p.Measure + time.Minute})
	if err != nil {
		return phase{}, err
	}
	defer s.stop()
	g := newGenerator(s.addrs, p.Patience)
	defer g.close()
	begin := time.Now().Add(50 * time.Millisecond)
	before, _ := cpuTime()
	records, err := g.open(ctx, begin, schedule(load*r.Before.Rate, p.Warm+p.Measure))
	if err != nil {
		return phase{}, err
	}
	if err := s.failure(); err != nil {
		return phase{}, err
	}
	after, _ := cpuTime()
	ph := summarize(a, load, records, p)
	ph.Sender = (after - before).Seconds() / time.Since(begin).Seconds()
	ph.watch(s.history(), begin.Add(p.Warm), begin.Add(p.Warm+p.Measure))
	ph.Disturbed = disturbance(ph)
	return ph, nil
}

// speed is the capacity of the service.
type speed struct {
	Rate float64       // answers a second
	CPU  time.Duration // of the service for an answer, 0 if unknown
	Core float64       // of its core, 1 for all; 0 if unknown
	Held bool          // the service was held to one core
}

// capacities measures the capacity, again if the service did not get its core.
func capacities(ctx context.Context, p plan, rounds *int) (speed, error) {
	for try := 1; ; try++ {
		s, err := capacity(ctx, p, rounds)
		if err != nil || try == p.Tries || s.Core == 0 || s.Core >= minCore {
			return s, err
		}
	}
}

// capacity measures a bare service with a few callers who wait for their answers. It
// is the median of short intervals, which a short disturbance does not change.
func capacity(ctx context.Context, p plan, rounds *int) (speed, error) {
	s, err := start(ctx, config{Arm: bare, Work: p.Work, Rounds: *rounds, Life: p.Capacity + time.Minute})
	if err != nil {
		return speed{}, err
	}
	defer s.stop()
	*rounds = s.rounds
	g := newGenerator(s.addrs, 10*time.Second)
	defer g.close()
	var answers atomic.Int64
	begin := time.Now().Add(min(p.Capacity, 500*time.Millisecond))
	end := begin.Add(p.Capacity)
	counted := make(chan []float64, 1)
	go func() { counted <- rates(ctx, &answers, begin, end) }()
	if err := g.closed(ctx, p.Callers, end, &answers); err != nil {
		return speed{}, err
	}
	out := speed{Rate: demo.Median(<-counted), Held: s.held}
	if first, last, ok := ends(within(s.history(), begin, end)); ok && last.Done > first.Done {
		out.CPU = (last.CPU - first.CPU) / time.Duration(last.Done-first.Done)
		out.Core = (last.CPU - first.CPU).Seconds() / last.At.Sub(first.At).Seconds()
	}
	if out.Rate == 0 {
		return out, fmt.Errorf("the service gave no answer within %v", p.Capacity)
	}
	return out, s.failure()
}

// rates counts from begin to end, in twelve parts.
func rates(ctx context.Context, answers *atomic.Int64, begin, end time.Time) []float64 {
	const parts = 12
	var out []float64
	time.Sleep(time.Until(begin))
	n, at := answers.Load(), time.Now()
	for i := 1; i <= parts && ctx.Err() == nil; i++ {
		time.Sleep(time.Until(begin.Add(end.Sub(begin) * time.Duration(i) / parts)))
		m, now := answers.Load(), time.Now()
		out = append(out, float64(m-n)/now.Sub(at).Seconds())
		n, at = m, now
	}
	return out
}
