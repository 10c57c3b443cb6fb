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
	Loads    []load        // in this order
	Warm     time.Duration // the first part of each load, which is not measured
	Measure  time.Duration // and the rest
	Capacity time.Duration // how long the capacity is measured, after half a second
	Tries    int           // of each load, at most, until one is undisturbed

	// The cost of a rejection is measured in turns of rejections and of answers.
	Turns     int
	Turn      time.Duration
	Rejecting int // callers that are rejected
}

// load is what a service is sent.
type load struct {
	Arm      arm
	Times    float64 // the capacity
	Critical float64 // the part of Times that is critical
	Uploads  int     // slow ones, open besides the requests
}

func (l load) String() string {
	s := fmt.Sprintf("%.1fx, %s", l.Times, armNames[l.Arm])
	if l.Critical > 0 {
		s += fmt.Sprintf(", %.1fx of it critical", l.Critical)
	}
	if l.Uploads > 0 {
		s += fmt.Sprintf(", %d slow uploads", l.Uploads)
	}
	return s
}

// The loads that the verdict is about.
var (
	calm       = load{Arm: bare, Times: 0.7}
	fallen     = load{Arm: bare, Times: 2}
	overloaded = load{Arm: limited, Times: 2}
	flooded    = load{Arm: limited, Times: 4}
	attacked   = load{Arm: limited, Times: 2, Uploads: 20}
	ranked     = load{Arm: limited, Times: 4, Critical: 0.3}
)

func thePlan() plan {
	return plan{
		Work: time.Millisecond, Patience: 500 * time.Millisecond, Callers: 8,
		Loads: []load{
			calm, {Arm: limited, Times: 0.7},
			fallen, overloaded, {Arm: fixed, Times: 2},
			{Arm: bare, Times: 4}, flooded, {Arm: fixed, Times: 4},
			attacked, ranked,
		},
		Warm: 2500 * time.Millisecond, Measure: 5 * time.Second, Capacity: 3 * time.Second,
		Tries: 2,
		Turns: 8, Turn: 400 * time.Millisecond, Rejecting: 32,
	}
}

// length is about how long a run takes if nothing is repeated.
func (p plan) length() time.Duration {
	return time.Duration(len(p.Loads))*(p.Warm+p.Measure) + 2*p.Capacity + 2*time.Duration(p.Turns)*p.Turn
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
	for _, l := range p.Loads {
		ph, err := phaseOf(ctx, p, r, l, out)
		if err != nil {
			return r, err
		}
		r.Phases = append(r.Phases, ph)
	}
	if r.Rejection, err = rejection(ctx, p, r.Rounds); err != nil {
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
func phaseOf(ctx context.Context, p plan, r result, l load, out io.Writer) (phase, error) {
	for try := 1; ; try++ {
		fmt.Fprintf(out, "%v: ", l)
		ph, err := measure(ctx, p, r, l)
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

func measure(ctx context.Context, p plan, r result, l load) (phase, error) {
	s, err := start(ctx, config{Arm: l.Arm, Work: p.Work, Rounds: r.Rounds, Life: p.Warm + p.Measure + time.Minute})
	if err != nil {
		return phase{}, err
	}
	defer s.stop()
	g := newGenerator(s.addrs, p.Patience)
	defer g.close()
	slow := upload(ctx, s.addrs, l.Uploads)
	defer slow.stop()
	begin := time.Now().Add(50 * time.Millisecond)
	stolen := make(chan float64, 1)
	go func() { stolen <- s.stolen(begin.Add(p.Warm), begin.Add(p.Warm+p.Measure)) }()
	before, _ := cpuTime()
	records, err := g.open(ctx, begin, schedule(l.Times*r.Before.Rate, p.Warm+p.Measure), l.Critical/l.Times)
	if err != nil {
		s.stop() // ends the measurement of stolen
		return phase{}, err
	}
	after, _ := cpuTime()
	ph := summarize(l, records, p)
	ph.Open, ph.Stolen = slow.stop(), <-stolen
	ph.Sender = (after - before).Seconds() / time.Since(begin).Seconds()
	ph.watch(s.history(), begin.Add(p.Warm), begin.Add(p.Warm+p.Measure))
	ph.Disturbed = disturbance(ph)
	return ph, s.failure()
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

// capacity measures a bare service with a few callers that wait for their answers. Rate
// and CPU are medians of short intervals, which a short disturbance does not change.
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
	if err := g.closed(ctx, p.Callers, end, answered, &answers); err != nil {
		return speed{}, err
	}
	out := speed{Rate: demo.Median(<-counted), Held: s.held}
	past := within(s.history(), begin, end)
	if first, last, ok := ends(past); ok {
		out.CPU = demo.Percentile(costsOf(past), 50)
		out.Core = (last.CPU - first.CPU).Seconds() / last.At.Sub(first.At).Seconds()
	}
	if out.Rate == 0 {
		return out, fmt.Errorf("the service gave no answer within %v", p.Capacity)
	}
	return out, s.failure()
}

// leastCosts is the percentile of the costs of a service that counts as the least.
const leastCosts = 10

// rejection returns the CPU time of a rejection as a share of that of an answer, 0 if it is
// unknown. Two services answer and reject by turns, so that a core that becomes slower does
// so for both. Enough callers wait for each to keep it busy: a service that falls asleep
// between two requests needs several times as much for each. Of each service the least
// cost counts, because another process on the core only adds to it.
func rejection(ctx context.Context, p plan, rounds int) (float64, error) {
	sides := []struct {
		arm     arm
		callers int
		want    ending
	}{{bare, p.Callers, answered}, {closed, p.Rejecting, rejected}}
	services, generators := make([]*process, len(sides)), make([]*generator, len(sides))
	for i, side := range sides {
		s, err := start(ctx, config{Arm: side.arm, Work: p.Work, Rounds: rounds, Life: time.Minute})
		if err != nil {
			return 0, err
		}
		defer s.stop()
		services[i], generators[i] = s, newGenerator(s.addrs, 10*time.Second)
		defer generators[i].close()
	}
	var costs [2][]time.Duration
	for range p.Turns {
		for i, side := range sides {
			begin := time.Now()
			var n atomic.Int64
			if err := generators[i].closed(ctx, side.callers, begin.Add(p.Turn), side.want, &n); err != nil {
				return 0, err
			}
			costs[i] = append(costs[i], costsOf(within(services[i].history(), begin.Add(p.Turn/8), time.Now()))...)
		}
	}
	answer, rejection := demo.Percentile(costs[0], leastCosts), demo.Percentile(costs[1], leastCosts)
	if answer == 0 {
		return 0, nil
	}
	return rejection.Seconds() / answer.Seconds(), nil
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
