package bulkhead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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
	// For the model: its number among the admitted calls, give or take the calls that were
	// admitted with it and woke up in any order; and whether it has answered.
	n, give  int
	answered bool

	mu      sync.Mutex // guards the fields below
	running bool
	err     error // the error of Apply or Acquire, once it has returned
}

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

var errWork = errors.New("work failed")

// model does slowly what a Bulkhead does, with a clock and without concurrency.
type model struct {
	slots, queue   int
	sizes          bool
	in, line, left []*caller // the callers in left must have the error in want
	woken          []*caller // in this step
	want           []error
	avg, high      int
	admitted       int
	stats          bulkhead.Stats
}

func (m *model) leave(c *caller, err error) {
	m.left, m.want = append(m.left, c), append(m.want, err)
}

func (m *model) arrive(c *caller) {
	queue := m.queue
	if queue == 0 {
		queue = (m.slots + 1) / 2
	}
	switch {
	case len(m.in) < m.slots:
		m.admit(c)
	case len(m.line) >= max(0, queue):
		m.leave(c, bulkhead.ErrFull)
		m.stats.QueueFull++
	default:
		m.line = append(m.line, c)
	}
}

func (m *model) admit(c *caller) {
	m.admitted++
	c.n = m.admitted
	m.in = append(m.in, c)
}

func (m *model) fill() {
	for len(m.in) < m.slots && len(m.line) > 0 {
		c := m.line[0]
		m.line, m.woken = m.line[1:], append(m.woken, c)
		m.admit(c)
	}
	for _, c := range m.woken {
		c.give = len(m.woken) - 1
	}
}

// answer marks c as answered, unless it is, and admits queued callers to new slots. Of the
// possible averages it takes the one that was seen.
func (m *model) answer(c *caller, err error, seen float64) {
	if m.sizes && !c.answered {
		ran, goingOn, inFlight := 0, 0, 0
		if err == nil {
			ran, inFlight = m.admitted-c.n+1, len(m.in)
			for _, c := range m.in {
				if c.answered {
					goingOn++
				}
			}
		}
		avg := m.avg + (ran<<12-m.avg)/32
		for d := -c.give; d <= c.give && err == nil; d++ {
			if a := m.avg + (max(1, ran+d)<<12-m.avg)/32; float64(a)/4096 == seen {
				avg = a
			}
		}
		m.avg = avg
		m.high = max(min(m.avg+goingOn<<12, inFlight<<12), m.high-m.high/1024)
		m.slots = max(m.slots, m.wanted())
	}
	c.answered = true
	m.fill()
}

func (m *model) wanted() int { return max(24, 3*m.high>>12) }

func (m *model) finish(i int, err error, seen float64) {
	c := m.in[i]
	m.answer(c, err, seen)
	m.leave(c, err)
	m.in = slices.Delete(m.in, i, i+1)
	if m.sizes && m.wanted() < m.slots {
		m.slots-- // the slot that becomes free is held back
	}
	m.stats.Completed++
	m.fill()
}

func (m *model) cancel(i int) {
	m.leave(m.line[i], context.Canceled)
	m.line = slices.Delete(m.line, i, i+1)
	m.stats.Canceled++
}

func (m *model) expire() {
	for len(m.line) > 0 && time.Since(m.line[0].arrived) >= 100*time.Millisecond {
		m.leave(m.line[0], bulkhead.ErrFull)
		m.line = m.line[1:]
		m.stats.WaitExpired++
	}
}

func (m *model) Stats() bulkhead.Stats {
	s := m.stats
	s.InFlight, s.Queued, s.Slots = len(m.in), len(m.line), m.slots
	s.Average, s.High = float64(m.avg)/4096, float64(m.high)/4096
	return s
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
	kinds
)

// arrive starts a caller of b.
func arrive(b *bulkhead.Bulkhead, kind int) *caller {
	ctx, cancel := context.WithCancel(context.Background())
	c := &caller{cancel: cancel, end: make(chan error), arrived: time.Now()}
	work := func(context.Context) error {
		c.set(true, nil)
		return <-c.end
	}
	if kind == lasting {
		c.op = &testkit.Lasting{Mute: true, Func: func(context.Context) error { c.set(true, nil); return nil }}
	}
	go func() {
		switch kind {
		case call:
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

// follow runs the steps on a bulkhead and on the model and compares them after each step.
func follow(t *testing.T, slots, queue int, steps []byte) (peak int) {
	b := newBulkhead(t, bulkhead.Config{Slots: slots, MaxQueue: queue})
	m := &model{slots: b.Stats().Slots, queue: queue, sizes: slots == 0}
	for i := 0; i+1 < len(steps); i += 2 {
		what, n := steps[i], int(steps[i+1])
		switch {
		case what < 90:
			for range 1 + n%4 {
				c := arrive(b, int(what)%kinds)
				synctest.Wait()
				m.arrive(c)
			}
		case what < 225 && len(m.in) > 0:
			c := n % len(m.in)
			err := error(nil)
			if what < 125 {
				err = errWork
			}
			m.in[c].finish(err)
			synctest.Wait()
			m.finish(c, err, b.Stats().Average)
		case what < 229 && len(m.in) > 0:
			c := m.in[n%len(m.in)]
			if c.op == nil {
				break
			}
			c.op.Reply()
			synctest.Wait()
			m.answer(c, nil, b.Stats().Average)
		case what < 240 && len(m.line) > 0:
			c := n % len(m.line)
			m.line[c].cancel()
			m.cancel(c)
		case what >= 240:
			time.Sleep(30 * time.Millisecond)
			m.expire()
		}
		synctest.Wait()
		compare(t, i/2, b, m)
		peak = max(peak, m.slots)
	}
	for len(m.in) > 0 {
		m.in[0].finish(nil)
		synctest.Wait()
		m.finish(0, nil, b.Stats().Average)
		compare(t, len(steps)/2, b, m)
	}
	compare(t, len(steps)/2, b, m)
	return peak
}

func compare(t *testing.T, step int, b *bulkhead.Bulkhead, m *model) {
	t.Helper()
	if got, want := b.Stats(), m.Stats(); got != want {
		t.Fatalf("step %d:\n got %+v\nwant %+v", step, got, want)
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

// Random steps change the bulkhead as a slow model says.
func TestBulkhead_model(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			steps := make([]byte, 6000)
			for i := range steps {
				steps[i] = byte(rng.IntN(256))
				if i%2 == 0 && i/1000%2 == 1 { // the load falls
					steps[i] = byte(60 + rng.IntN(196))
				}
			}
			slots, queue := []int{0, 5, 0, 1}[seed%4], []int{0, -1, 3}[seed%3]
			if peak := follow(t, slots, queue, steps); slots == 0 && peak < 100 {
				t.Errorf("there were never more than %d slots: little was compared", peak)
			}
		})
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint8(0), int8(0), []byte("\x01\x03\x01\x03\x80\x00\xe8\x00\xff\x00"))
	f.Add(uint8(1), int8(-1), []byte("\x01\x03\x80\x00\x00\x00\x70\x00"))
	f.Add(uint8(2), int8(4), []byte("\x00\x03\x00\x03\xff\x00\xff\x00\xff\x00\xff\x00\xe8\x01"))
	f.Fuzz(func(t *testing.T, slots uint8, queue int8, steps []byte) {
		if len(steps) > 2000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { follow(t, int(slots), int(queue), steps) })
	})
}
