package limit

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit/internal/rank"
	"github.com/resilience-go/resilience/limit/internal/search"
)

// A chaos drives a gate with anything that callers, a handler and a clock can do. After each
// step it checks what must always be true.
type chaos struct {
	t    testing.TB
	gate *gate
	max  int

	now, clock, seen int64   // clock is by how much the gate's clock is wrong
	looked           int64   // when the gate was last ticked
	inside           []int64 // when the requests in the handler entered
	waiting          map[*waiter]bool
	order            []*waiter // waiting, and others that were

	checks             int
	phase              uint64 // of the trial
	useful, left, free int64  // when a useful one left, any one left, and no request had to be queued
	results            search.Trials
}

func newChaos(t testing.TB, max int) *chaos {
	c, err := Config{Max: max}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(c.settings())
	return &chaos{t: t, gate: &g, max: c.Max, now: sec, waiting: map[*waiter]bool{}}
}

// lock is what Limit.lock does.
func (c *chaos) lock() int64 {
	now := c.now + c.clock
	if now < c.seen-sec {
		c.seen = now
		c.gate.restart(now)
		c.useful, c.left, c.free = now, now, now
	}
	if now > c.seen+3*sec { // the clock was set forward
		c.useful, c.left, c.free = now, now, now
	}
	c.seen = max(c.seen, now)
	return c.seen
}

// pass lets time pass. It ticks the gate as Limit.look does.
func (c *chaos) pass(d int64) {
	for d > 0 {
		part := min(d, sec)
		c.now += part
		d -= part
		if c.now-c.looked >= sec {
			c.looked = c.now
			now := c.lock()
			c.gate.tick(now)
			c.check(now, true)
		}
	}
}

func (c *chaos) arrive(class rank.Class, deadline int64) {
	now := c.lock()
	if g := c.gate; !g.watched && g.inFlight < g.search.WatchFrom() {
		g.inFlight++ // without the lock
		c.inside = append(c.inside, c.now+c.clock)
		return
	}
	if deadline > 0 {
		deadline += now
	}
	w, d := c.gate.arrive(now, class, deadline)
	switch {
	case w != nil:
		c.waiting[w] = true
		c.order = append(c.order, w)
	case d == admitted:
		c.inside = append(c.inside, now)
	case d != displaced:
		c.t.Fatalf("a request that arrives is decided as %d", d)
	}
	c.check(now, true)
}

// take removes a request from the handler. It returns when that entered.
func (c *chaos) take(i int) (entered int64) {
	i %= len(c.inside)
	entered, c.inside[i] = c.inside[i], c.inside[0]
	c.inside = c.inside[1:]
	return entered
}

func (c *chaos) leave(i int, useful bool) {
	if len(c.inside) == 0 {
		return
	}
	now := c.lock()
	entered := c.take(i)
	c.left = now
	if useful {
		c.useful = now
	}
	c.gate.leave(now, entered, useful, i%2)
	c.check(now, true)
}

func (c *chaos) forget(i int) {
	if len(c.inside) == 0 {
		return
	}
	now := c.lock()
	entered := c.take(i)
	c.left = now
	c.gate.forget(now, entered)
	c.check(now, false)
}

func (c *chaos) quit(i int) {
	if len(c.order) == 0 {
		return
	}
	i %= len(c.order)
	w := c.order[i]
	c.order = append(c.order[:i], c.order[i+1:]...)
	if !c.waiting[w] {
		return
	}
	now := c.lock()
	delete(c.waiting, w)
	c.gate.quit(now, w)
	c.check(now, false)
}

// load lets requests arrive and leave in turns, so many arrivals for each two that leave.
func (c *chaos) load(arrivals, steps int, period int64) {
	for range steps {
		for range arrivals {
			c.arrive(rank.Of(resilience.Normal, ""), 0)
			c.pass(period)
		}
		c.leave(0, true)
		c.leave(0, true)
	}
}

// check fails if something is not as it must be. The search has seen the present time if
// ticked is true.
func (c *chaos) check(now int64, ticked bool) {
	g := c.gate
	s := &g.search
	for _, w := range g.decided {
		if !c.waiting[w] {
			c.t.Fatal("a request is decided that is not queued")
		}
		delete(c.waiting, w)
		switch w.Value.decision {
		case admitted:
			c.inside = append(c.inside, w.Value.entered)
		case overdue, hopeless:
			if !s.Overload() {
				c.t.Fatal("a request is rejected without an overload")
			}
		case undecided:
			c.t.Fatal("a request is decided without a decision")
		}
	}
	g.decided = nil
	if len(c.order) > 2*len(c.waiting)+100 {
		c.order = c.order[:0]
		for w := range c.waiting {
			c.order = append(c.order, w)
		}
	}
	if g.inFlight != len(c.inside) || g.queue.Len() != len(c.waiting) {
		c.t.Fatalf("%d in flight, %d entered; %d queued, %d waiting", g.inFlight, len(c.inside), g.queue.Len(), len(c.waiting))
	}
	if level := s.Level(); level > c.max || level < min(4, c.max) {
		c.t.Fatalf("level %d", level)
	}
	if g.queue.Len() > 0 && g.inFlight < s.Level() {
		c.t.Fatalf("%d queued with %d in flight and a level of %d", g.queue.Len(), g.inFlight, s.Level())
	}
	fields := reflect.ValueOf(s).Elem()
	if c.checks++; c.checks%32 == 0 {
		finite(c.t, "search", fields)
	}
	const bound = 2 // as in package search
	state := fields.FieldByName("state").Uint()
	if s.Overload() && state != bound {
		c.t.Fatal("an overload without a proof")
	}
	if n := fields.FieldByName("lasting").FieldByName("count").Int(); ticked && g.watched && (n < 0 || n > int64(g.inFlight)) {
		c.t.Fatalf("%d requests last, %d are in flight", n, g.inFlight)
	}

	// The requests that a trial measures were in the queue before it began.
	phase, measuring := fields.FieldByName("trial").FieldByName("phase").Uint(), uint64(3) // as in package search
	if phase == measuring && c.phase != measuring {
		c.free = now
	}
	c.phase = phase
	if g.queue.Len() == 0 || !s.Limited() || s.Level() == c.max || len(c.inside) == 0 {
		c.free = now
	}
	last, quiet := max(c.left, c.free), max(sec, 2*s.ServiceTime())
	if state == bound {
		last = max(c.useful, c.free)
	}
	if ticked && now-last > quiet {
		c.t.Fatalf("in state %d, %d requests are queued although nothing has left for %d ms; service time %d ms", state, g.queue.Len(), (now-last)/ms, s.ServiceTime()/ms)
	}
	r := s.Results()
	c.results.Raised += r.Raised
	c.results.NotRaised += r.NotRaised
	c.results.Lowered += r.Lowered
	c.results.NotLowered += r.NotLowered
	c.results.Inconclusive += r.Inconclusive
}

// finite fails if a number in a struct is not finite, or so large that it has overflowed.
func finite(t testing.TB, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			finite(t, v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			finite(t, name, v.Index(i))
		}
	case reflect.Float64:
		if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
			t.Fatalf("%s is %v", name, x)
		}
	case reflect.Int, reflect.Int64:
		if x := v.Int(); name != "laps" && (x > math.MaxInt64/2 || x < -math.MaxInt64/2) {
			t.Fatalf("%s is %d", name, x)
		}
	}
}

// step does what three bytes ask for.
func (c *chaos) step(op, a, b byte) {
	switch op % 16 {
	case 0, 1:
		c.arrive(rank.Of(resilience.Priority(int(a%5)-2), string(rune('a'+a%7))), int64(b)*10*ms)
	case 2, 3:
		c.leave(int(a)*int(b), true)
	case 4:
		c.leave(int(a)*int(b), false)
	case 5:
		c.forget(int(a) * int(b))
	case 6:
		c.quit(int(a) * int(b))
	case 7:
		c.pass(int64(a) * int64(b) * 1000)
	case 8:
		c.pass(int64(a) * int64(b) * ms / 4)
	case 9: // a crowd
		for range int(a) * 4 {
			c.arrive(rank.Of(resilience.Normal, ""), int64(b)*10*ms)
		}
	case 10: // callers leave
		for range int(a) {
			c.leave(int(b), false)
			c.pass(int64(b) * 10000)
		}
	case 11:
		for range int(a) {
			c.quit(int(b))
		}
	case 12:
		c.clock += (int64(a) - 128) * int64(b) * sec
	case 13, 14, 15:
		c.load(1+int(a%5), 2*int(b), 100000<<(a>>5))
	}
}

func (c *chaos) steps(data []byte) {
	for len(data) >= 3 && len(c.inside) < 1<<14 {
		c.step(data[0], data[1], data[2])
		data = data[3:]
	}
}

// Whatever happens, no slot and no request is lost, nothing is rejected without a proof, and a
// limit that helps nobody ends.
func FuzzGate(f *testing.F) {
	f.Add(uint16(0), []byte{13, 1, 100, 13, 4, 255, 13, 4, 255, 8, 255, 255, 13, 4, 255})
	f.Add(uint16(3), []byte{9, 10, 0, 12, 200, 9, 13, 4, 255, 12, 1, 9, 10, 20, 3, 13, 4, 200})
	f.Add(uint16(0), []byte(".Y\x17.\x8d89A0000.\xd4\x15Z\xf6\xffZ\xc5\xf9")) // a stall as a trial begins to measure
	f.Fuzz(func(t *testing.T, max uint16, data []byte) {
		if len(data) > 600 {
			data = data[:600]
		}
		newChaos(t, int(max)).steps(data)
	})
}

// FuzzGate, with long random inputs.
func TestGate_isSafeInChaos(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() || raceEnabled {
		seeds = 6
	}
	var all search.Trials
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 3))
		c := newChaos(t, []int{0, 0, 1, 3, 50}[seed%5])
		data := make([]byte, 3*300)
		for i := range data {
			data[i] = byte(random.Uint32())
			if i%3 == 0 && seed%2 == 0 && random.IntN(3) > 0 { // long overloads
				data[i] = 13
			}
		}
		for len(data) > 0 {
			c.steps(data[:60])
			data = data[60:]
		}
		for range min(1000, len(c.waiting)) { // all are decided once
			c.pass(sec)
			for range 100 {
				c.leave(0, true)
			}
		}
		if len(c.waiting) > 0 {
			t.Errorf("%d requests are still queued", len(c.waiting))
		}
		all.Raised += c.results.Raised
		all.NotRaised += c.results.NotRaised
		all.Lowered += c.results.Lowered
		all.NotLowered += c.results.NotLowered
		all.Inconclusive += c.results.Inconclusive
	}
	t.Logf("%+v", all)
	if seeds == 20 && (all.Raised == 0 || all.NotRaised == 0 || all.Lowered == 0 || all.Inconclusive == 0) {
		t.Errorf("a kind of trial is missing: %+v", all)
	}
}
