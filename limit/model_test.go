package limit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// caller is one who came to a limit, as it sees itself.
type caller struct {
	cancel context.CancelFunc
	end    chan func() error
	came   time.Time
	op     *stream // if it is lasting

	mu      sync.Mutex // guards what follows
	running bool
	over    bool
	err     error // of Apply, if it returned
}

func (c *caller) set(running, over bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.over, c.err = running, over, err
}

func (c *caller) get() (running, over bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running, c.over, c.err
}

// stream is an operation that goes on until its caller ends it.
type stream struct {
	resilience.Tail
	c   *caller
	run uint32
}

func (s *stream) Run(context.Context) error {
	s.run = s.Begin()
	s.c.set(true, false, nil)
	return nil
}

func (s *stream) Discard() { s.End(s.run, context.Canceled) }

// come has a caller come to l.
func come(l *limit.Limit, lasting bool) *caller {
	ctx, cancel := context.WithCancel(context.Background())
	c := &caller{cancel: cancel, end: make(chan func() error), came: time.Now()}
	var op resilience.Operation = resilience.Func(func(context.Context) error {
		c.set(true, false, nil)
		return (<-c.end)()
	})
	if lasting {
		c.op = &stream{c: c}
		op = c.op
	}
	go func() {
		over, err := true, error(nil) // as after a panic or Goexit
		defer func() {
			_ = recover()
			c.set(!over, over, err)
		}()
		err = resilience.RunOperation(ctx, l, op)
		over = err != nil || !lasting
	}()
	return c
}

// leave has c, which is in the handler, end in one of the ways, and says whether that
// was of use to anybody.
func (c *caller) leave(way int) (useful bool) {
	ends := []func() error{
		func() error { return nil },
		func() error { return errDown },
		func() error { return &resilience.Rejection{Policy: "inner"} },
		func() error { panic("boom") },
		func() error { runtime.Goexit(); return nil },
		func() error { c.cancel(); return context.Canceled },
	}
	way %= len(ends)
	useful = way != 5
	if c.op == nil {
		c.end <- ends[way]
		return useful
	}
	switch way {
	case 3:
		c.op.Answer(c.op.run)
	case 4:
		way = 0
		fallthrough
	default:
		c.op.End(c.op.run, ends[way]())
	}
	c.set(false, true, nil)
	return useful
}

// model says slowly what becomes of those who come to one Limit. When a test of another
// limit is on and whether there is an overload it does not know.
type model struct {
	t        *testing.T
	l        *limit.Limit
	queue    int
	shadow   bool
	in, line []*caller
	want     limit.Stats
}

// do does one thing, and looks at what came of it.
func (m *model) do(thing func()) {
	m.t.Helper()
	before := m.l.Stats()
	thing()
	synctest.Wait()
	m.look(before)
}

func (m *model) arrive(lasting bool) {
	m.t.Helper()
	m.do(func() { m.line = append(m.line, come(m.l, lasting)) })
}

func (m *model) finish(i, way int) {
	m.t.Helper()
	if len(m.in) == 0 {
		return
	}
	i %= len(m.in)
	m.do(func() {
		if m.in[i].leave(way) {
			m.want.Useful++
		} else {
			m.want.Abandoned++
		}
		m.in = slices.Delete(m.in, i, i+1)
	})
}

func (m *model) giveUp(i int) {
	m.t.Helper()
	if len(m.line) == 0 {
		return
	}
	i %= len(m.line)
	c := m.line[i]
	m.do(func() {
		c.cancel()
		m.line = slices.Delete(m.line, i, i+1)
		m.want.Canceled++
	})
	if running, over, err := c.get(); running || !over || !errors.Is(err, context.Canceled) {
		m.t.Fatalf("who gave up is not gone: running %v, over %v, %v", running, over, err)
	}
}

// look takes from the line who has left it, and compares.
func (m *model) look(before limit.Stats) {
	m.t.Helper()
	s := m.l.Stats()
	m.refusals(before, s)
	entered := make([]bool, len(m.line))
	n := 0
	for i, c := range m.line {
		running, over, err := c.get()
		if over {
			m.t.Fatalf("number %d of %d in line is told %v", i, len(m.line), err)
		}
		if entered[i] = running; running {
			n++
		}
	}
	if last := len(entered) - 1; n > 0 && m.line[last].came.Equal(time.Now()) && !entered[last] {
		entered = entered[:last] // who comes to a full queue stands in line after all others are served
	}
	first, last := slices.Index(entered, true), len(entered)-n
	if n > 0 {
		for i := range n {
			if !entered[i] && !entered[last+i] || !entered[first+i] {
				m.t.Fatalf("neither the first %d nor the last were let in: %v", n, entered)
			}
		}
		if most := max(before.Limit, s.Limit); s.InFlight > most && !m.shadow {
			m.t.Fatalf("a request was admitted as number %d of %d", s.InFlight, most)
		}
	}
	var stay []*caller
	for i, c := range m.line {
		if i < len(entered) && entered[i] {
			m.in = append(m.in, c)
		} else {
			stay = append(stay, c)
		}
	}
	m.line = stay
	m.compare(s)
}

// refusals takes those from the line who were refused: the one who came last if the
// queue was full, and else those who came first.
func (m *model) refusals(before, s limit.Stats) {
	m.t.Helper()
	told := func(i int) bool {
		_, over, err := m.line[i].get()
		return over && errors.Is(err, limit.ErrLimited)
	}
	if last := len(m.line) - 1; last >= 0 && m.line[last].came.Equal(time.Now()) && told(last) {
		if last < max(0, m.queue) || m.queue == 0 && last < 1000 {
			m.t.Fatalf("the queue is full with %d in it", last)
		}
		m.line = m.line[:last]
		m.want.QueueFull++
	}
	for len(m.line) > 0 && told(0) {
		if waited := time.Since(m.line[0].came); waited <= 5*time.Millisecond || !before.Overload && !s.Overload {
			m.t.Fatalf("refused after %v, overload %v", waited, s.Overload)
		}
		m.line = m.line[1:]
		m.want.Shed++
	}
}

func (m *model) compare(s limit.Stats) {
	m.t.Helper()
	for i, c := range m.in {
		if running, _, err := c.get(); !running {
			m.t.Fatalf("number %d of those in flight is not: %v", i, err)
		}
	}
	want := m.want
	want.InFlight, want.Queued = len(m.in), len(m.line)
	want.Limit, want.Knee, want.Overload, want.Trials, want.Overloads = s.Limit, s.Knee, s.Overload, s.Trials, s.Overloads
	if m.shadow {
		want.Shed, want.QueueFull = s.Shed, s.QueueFull
	}
	if s != want {
		m.t.Fatalf("\n got %+v\nwant %+v", s, want)
	}
	if s.InFlight < s.Limit && s.Queued > 0 || s.Queued > max(0, m.queue) && m.queue != 0 {
		m.t.Fatalf("%d of %d in flight, and %d wait", s.InFlight, s.Limit, s.Queued)
	}
}

// follow has l do what the steps say and compares it with the model after each.
func follow(t *testing.T, c limit.Config, steps []byte) limit.Stats {
	m := &model{t: t, l: newLimit(t, c), queue: c.MaxQueue, shadow: c.Shadow}
	for i := 0; i+1 < len(steps); i += 2 {
		switch what, n := steps[i], int(steps[i+1]); {
		case what < 60:
			for range 1 + n%16 {
				m.arrive(what%8 == 0)
			}
		case what < 130:
			m.finish(n, int(what))
		case what < 150:
			m.giveUp(n)
		case what < 170:
			m.do(func() { time.Sleep(time.Duration(n) * time.Millisecond) })
		case what < 180:
			m.do(func() { time.Sleep(time.Duration(1) << (n % 34)) })
		default: // a handler that is busy
			for k := range 1 + n%64 {
				m.arrive(false)
				if what > 215 && k%2 == 0 {
					m.arrive(false)
				}
				time.Sleep(time.Duration(1+what%8) * time.Millisecond / 2)
				m.finish(0, 0)
			}
		}
	}
	for len(m.in) > 0 {
		m.finish(0, 0)
	}
	if !m.l.Idle() {
		t.Error("at rest, and not idle")
	}
	return m.l.Stats()
}

func TestLimit_model(t *testing.T) {
	var all limit.Stats
	results := 0
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			steps := make([]byte, 400)
			for i := range steps {
				steps[i] = byte(rng.IntN(256))
				if i%2 == 0 && i/100%2 == 1 { // a load that is too much
					steps[i] = byte(216 + rng.IntN(40))
				}
			}
			c := limit.Config{Max: []int{0, 80, 0, 1}[seed%4], MaxQueue: []int{100, -1, 30}[seed%3], Shadow: seed == 5}
			s := follow(t, c, steps)
			all.Shed += s.Shed
			all.QueueFull += s.QueueFull
			all.Overloads += s.Overloads
			results += int(s.Trials.Raised + s.Trials.NotRaised + s.Trials.Lowered + s.Trials.NotLowered)
		})
	}
	if all.Shed < 50 || all.QueueFull < 50 || all.Overloads < 2 || results == 0 {
		t.Errorf("little was compared: %d results of tests, %+v", results, all)
	}
}

func FuzzLimit(f *testing.F) {
	f.Add(uint16(0), int16(0), false, []byte("\x01\x0f\x01\x0f\x3c\x01\xff\x3f\xff\x3f"))
	f.Add(uint16(1), int16(-1), false, []byte("\x01\x03\x3f\x00\x40\x00\x41\x01"))
	f.Add(uint16(5), int16(9), false, []byte("\x08\x0f\x3f\x00\x40\x00\x82\x03\xff\x3f\xfe\x3f\xfd\x3f\x96\xff\x01\x01"))
	f.Add(uint16(3), int16(1), true, []byte("\x00\x0f\xff\x3f\x43\x00\xb0\x21\xff\x10"))
	f.Fuzz(func(t *testing.T, most uint16, queue int16, shadow bool, steps []byte) {
		if len(steps) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			follow(t, limit.Config{Max: int(most), MaxQueue: int(queue), Shadow: shadow}, steps)
		})
	})
}
