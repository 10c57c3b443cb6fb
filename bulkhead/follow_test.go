package bulkhead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// caller is a caller of the bulkhead: its own state, and its state in the model.
type caller struct {
	cancel  context.CancelFunc
	end     chan error
	arrived time.Time
	op      *testkit.Lasting // nil unless it is lasting
	hasty   bool             // has a deadline
	// For the model: its number among the admitted calls, when it was admitted, and whether it
	// has answered and goes on.
	n        int
	admitted time.Duration
	answered bool

	mu      sync.Mutex // guards the fields below
	running bool
	err     error // the error of Apply or Acquire, once it has returned
}

// deadlinePassed reports whether the deadline of c has passed.
func (c *caller) deadlinePassed() bool { return c.hasty && time.Since(c.arrived) >= deadline }

func (c *caller) set(running bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.err = running, err
}

func (c *caller) get() (running bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running, c.err
}

// finish ends c with err.
func (c *caller) finish(err error) {
	if c.op == nil {
		c.end <- err
		return
	}
	c.op.Finish(err)
	c.set(false, err)
}

const (
	call = iota
	permit
	lasting
	hasty // a call with a deadline
	kinds
)

// deadline is how long hasty calls may take. No call is queued for so long.
const deadline = 2 * time.Second

// arrive starts a caller of b.
func arrive(b *bulkhead.Bulkhead, kind int) *caller {
	ctx, cancel := context.WithCancel(context.Background())
	if kind == hasty {
		ctx, cancel = context.WithTimeout(context.Background(), deadline)
	}
	c := &caller{cancel: cancel, end: make(chan error), arrived: time.Now(), hasty: kind == hasty}
	work := func(context.Context) error {
		c.set(true, nil)
		return <-c.end
	}
	if kind == lasting {
		c.op = &testkit.Lasting{Mute: true, Func: func(context.Context) error { c.set(true, nil); return nil }}
	}
	go func() {
		switch kind {
		case call, hasty:
			c.set(false, resilience.Run(ctx, b, work))
		case permit:
			p, err := b.Acquire(ctx)
			if err == nil {
				err = work(ctx)
				p.Release(err)
			}
			c.set(false, err)
		case lasting:
			if err := resilience.RunOperation(ctx, b, c.op); err != nil {
				c.set(false, err)
			}
		}
	}()
	return c
}

// errIgnored is the error of a call that is no evidence.
var errIgnored = resilience.Ignore(errors.New("bad input"))

// tick is the resolution of the times of admission. Each sleep is a multiple, so that the model
// needs no tolerance.
const tick = 1 << 16 * time.Nanosecond

// follow runs the steps on a bulkhead and on the model and compares them after each step.
func follow(t *testing.T, slots, queue int, steps []byte) (peak, congestions int) {
	b := newBulkhead(t, bulkhead.Config{Slots: slots, MaxQueue: queue})
	m := &model{slots: b.Stats().Slots, queue: queue, sizes: slots == 0, made: time.Now()}
	time.Sleep(tick)
	step := 0
	end := func(i int, err error) {
		m.in[i].finish(err)
		synctest.Wait()
		m.finish(i, err)
	}
	for i := 0; i+1 < len(steps); i += 2 {
		what, n := steps[i], int(steps[i+1])
		step = i / 2
		switch {
		case what < 90:
			for range 1 + n%4 {
				time.Sleep(16 * tick) // more than 4000 calls a second are not all timed
				m.expire()
				c := arrive(b, int(what)%kinds)
				synctest.Wait()
				m.arrive(c)
			}
		case what < 205 && len(m.in) > 0:
			c := n % len(m.in)
			err := error(nil)
			switch took := m.now() - m.in[c].admitted; {
			case what < 95:
				err = errWork
			case what < 98:
				err = errIgnored
			case what < 101, took > time.Second && !m.in[c].answered:
				err = timeout{}
			}
			end(c, err)
		case what < 210 && len(m.in) > 0:
			c := m.in[n%len(m.in)]
			if c.op == nil || c.answered {
				break
			}
			c.op.Reply()
			synctest.Wait()
			m.answer(c, nil)
		case what < 220 && len(m.line) > 0:
			c := n % len(m.line)
			m.line[c].cancel()
			m.cancel(c)
		case what < 254:
			time.Sleep(time.Duration(n) * 16 * tick) // up to 0.3 s
			m.expire()
		default:
			time.Sleep(time.Duration(n*n) * 8 * tick) // up to half a minute
			m.expire()
		}
		synctest.Wait()
		// Calls that wake up at once get their numbers in any order. They end without an effect.
		for len(m.woken) > 1 {
			woken := m.woken
			compare(t, step, b, m)
			if m.congested.checking {
				goto over
			}
			for _, c := range woken {
				for i := range m.in {
					if m.in[i] == c {
						end(i, errIgnored)
						break
					}
				}
			}
			synctest.Wait()
		}
		compare(t, step, b, m)
		peak = max(peak, m.slots)
	}
over:
	for len(m.in) > 0 {
		m.in[0].finish(errIgnored)
		synctest.Wait()
		m.finish(0, errIgnored)
		compare(t, step, b, m)
	}
	for len(m.line) > 0 {
		t.Fatalf("%d callers wait for nothing", len(m.line))
	}
	return peak, m.congested.begun
}

func compare(t *testing.T, step int, b *bulkhead.Bulkhead, m *model) {
	t.Helper()
	if got, want := b.Stats(), m.Stats(); got != want {
		t.Fatalf("step %d:\n got %+v\nwant %+v\n%+v", step, got, want, m.congested)
	}
	for i, c := range m.in {
		if running, _ := c.get(); !running {
			t.Fatalf("step %d: caller %d in flight is not running", step, i)
		}
	}
	for i, c := range m.line {
		if running, err := c.get(); running || err != nil {
			t.Fatalf("step %d: caller %d in the queue is not waiting", step, i)
		}
	}
	for i, c := range m.left {
		if running, err := c.get(); running || !errors.Is(err, m.want[i]) {
			t.Fatalf("step %d: a caller left with %v, want %v", step, err, m.want[i])
		}
		c.cancel()
	}
	m.left, m.want, m.woken = nil, nil, nil
}

// anySteps returns steps of all kinds.
func anySteps(rng *rand.Rand) []byte {
	steps := make([]byte, 3000)
	for i := range steps {
		steps[i] = byte(rng.IntN(256))
		if i%2 == 0 && i/500%3 == 1 { // the load falls
			steps[i] = byte(60 + rng.IntN(196))
		}
		if i%2 == 0 && i/500%3 == 2 && steps[i] > 100 && steps[i] < 150 { // calls take longer
			steps[i] = 230
		}
	}
	return steps
}

// overloads returns steps of which a hundred make quick calls, and the others up to each make more
// calls than end: the oldest one ends after ever longer, until it times out. Some others time out,
// too.
func overloads(rng *rand.Rand, each int) (steps []byte) {
	for i := range max(1500, each) {
		switch p := rng.IntN(100); {
		case i%each < 100:
			steps = append(steps, []byte{byte(rng.IntN(90)), 150}[i%2], 0)
		case p < 2:
			steps = append(steps, byte(rng.IntN(254)), byte(rng.IntN(256)))
		case p < 7:
			steps = append(steps, 99, byte(rng.IntN(256)))
		case p < 48:
			steps = append(steps, byte(rng.IntN(90)), 0)
		case p < 80:
			steps = append(steps, 150, 0)
		default:
			steps = append(steps, 220, byte(rng.IntN(120)))
		}
	}
	return steps
}

// Random steps change the bulkhead as a slow model says.
func TestBulkhead_model(t *testing.T) {
	most, congestions := 0, 0
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			steps := anySteps(rng)
			if seed%3 > 0 {
				steps = overloads(rng, []int{0, 500, 3500}[seed%3])
			}
			slots, queue := []int{0, 5, 0, 1, 0, 0}[seed%6], []int{0, -1, 3}[seed%3]
			peak, begun := follow(t, slots, queue, steps)
			most, congestions = max(most, peak), congestions+begun
		})
	}
	if most < 100 || congestions < 10 {
		t.Errorf("there were never more than %d slots, and %d congestions: little was compared", most, congestions)
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint8(0), int8(0), []byte("\x01\x03\x01\x03\x80\x00\xe8\x00\xff\x00"))
	f.Add(uint8(1), int8(-1), []byte("\x01\x03\x80\x00\x00\x00\x70\x00"))
	f.Add(uint8(2), int8(4), []byte("\x00\x03\x00\x03\xff\x00\xff\x00\xff\x00\xff\x00\xe8\x01"))
	f.Fuzz(func(t *testing.T, slots uint8, queue int8, steps []byte) {
		if len(steps) > 2000 || queue < -1 {
			return
		}
		synctest.Test(t, func(t *testing.T) { follow(t, int(slots), int(queue), steps) })
	})
}
