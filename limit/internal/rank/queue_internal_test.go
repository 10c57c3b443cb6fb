package rank

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/resilience-go/resilience"
)

// model is a slow and obvious queue: a slice in the order of Push.
type model struct {
	requests []*Request[int]
	edge     int
}

// of returns the requests of a rank, the oldest first.
func (m *model) of(rank uint8) (of []*Request[int]) {
	for _, r := range m.requests {
		if r.rank == rank {
			of = append(of, r)
		}
	}
	return of
}

func (m *model) ranks() []uint8 {
	all := make([]uint8, 0, len(m.requests))
	for _, r := range m.requests {
		all = append(all, r.rank)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (m *model) next(newestFirst bool) *Request[int] {
	if len(m.requests) == 0 {
		return nil
	}
	first := m.ranks()[0]
	return m.order(first, newestFirst)[0]
}

// order returns the requests of a rank in the order in which Next returns them.
func (m *model) order(rank uint8, newestFirst bool) []*Request[int] {
	of := m.of(rank)
	if newestFirst && int(rank) >= m.edge {
		slices.Reverse(of)
	}
	return of
}

func (m *model) displaced(rank uint8, newestFirst bool) *Request[int] {
	all := m.ranks()
	if len(all) == 0 || all[len(all)-1] <= rank {
		return nil
	}
	of := m.order(all[len(all)-1], newestFirst)
	return of[len(of)-1]
}

// overdue returns the overdue requests. A list ends at the first request that is not overdue.
func (m *model) overdue(now, patience, before int64) (overdue []*Request[int]) {
	for _, rank := range m.ranks() {
		most := patience
		if int(rank) < m.edge {
			most = before
		}
		for _, r := range m.of(rank) {
			if now-r.Since <= most {
				break
			}
			overdue = append(overdue, r)
		}
	}
	return overdue
}

func (m *model) remove(r *Request[int]) {
	m.requests = slices.DeleteFunc(m.requests, func(other *Request[int]) bool { return other == r })
}

// compared is a queue and its model, which get the same calls.
type compared struct {
	t     *testing.T
	queue Queue[int]
	model model
	now   int64
	count int
}

func (c *compared) remove(r *Request[int]) {
	c.queue.Remove(r)
	c.model.remove(r)
	if r.older != nil || r.newer != nil {
		c.t.Fatal("a removed request holds others")
	}
}

func (c *compared) same(what string, got, want *Request[int]) *Request[int] {
	if got != want {
		c.t.Fatalf("%s is %v, want %v", what, got, want)
	}
	return got
}

// step makes one call, as the two bytes say.
func (c *compared) step(op, arg byte) {
	q, flag := &c.queue, arg&1 != 0
	switch op % 8 {
	case 0, 1: // a request is queued
		caller := ""
		if name := arg >> 2 % 16; name > 0 {
			caller = fmt.Sprint("caller ", name)
		}
		p := resilience.Lowest + resilience.Priority(arg%4)
		if op%8 == 0 && q.table == nil { // a request that does not differ
			p, caller = resilience.Normal, ""
		}
		ticket := q.Arrive(c.now, Of(p, caller))
		c.check() // the edge is another one if Arrive has made the table
		if ticket.Priority() != p {
			c.t.Fatalf("rank %d is of priority %v, want %v", ticket.rank, ticket.Priority(), p)
		}
		c.same("Displaced", q.Displaced(ticket, flag), c.model.displaced(ticket.rank, flag))
		c.count++
		r := &Request[int]{Ticket: ticket, Since: c.now, Value: c.count}
		q.Push(r)
		c.model.requests = append(c.model.requests, r)
	case 2: // a slot is free
		if r := c.same("Next", q.Next(flag), c.model.next(flag)); r != nil {
			c.remove(r)
		}
	case 3: // a caller leaves
		if n := len(c.model.requests); n > 0 {
			r := c.model.requests[int(arg)%n]
			c.remove(r)
			q.Undo(r.Ticket)
		}
	case 4: // an overload
		patience := int64(arg) * int64(time.Millisecond)
		want := c.model.overdue(c.now, patience, 4*patience)
		var got []*Request[int]
		for r := range q.Overdue(c.now, patience, 4*patience) {
			got = append(got, r)
			if flag {
				c.remove(r)
				q.Undo(r.Ticket)
			}
			if len(got) == 20 {
				break
			}
		}
		if want = want[:min(len(want), 20)]; !slices.Equal(got, want) {
			c.t.Fatalf("Overdue yields %v, want %v", got, want)
		}
	case 5: // time passes
		c.now += int64(arg) * int64(time.Millisecond)
		switch arg {
		case 254:
			c.now += int64(time.Hour)
		case 255:
			c.now -= int64(time.Hour)
		}
	case 6:
		q.Measure(float64(arg % 4))
	case 7:
		q.Skip()
	}
	c.check()
}

func (c *compared) check() {
	q := &c.queue
	if q.Len() != len(c.model.requests) {
		c.t.Fatalf("Len is %d, want %d", q.Len(), len(c.model.requests))
	}
	if q.table == nil {
		return
	}
	d := &q.table.demand
	c.model.edge = d.edge
	if q.same != (list[int]{}) {
		c.t.Fatal("requests are in the list for a queue without a table")
	}
	for r := range ranks {
		if of, bit := q.table.lists[r].oldest != nil, q.table.occupied[r/64]>>(r%64)&1 != 0; of != bit {
			c.t.Fatalf("rank %d: the list has requests: %t, the bit is set: %t", r, of, bit)
		}
		if !(d.arrived[r] >= 0 && d.arrived[r] < 1e9) {
			c.t.Fatalf("%v requests of rank %d arrived", d.arrived[r], r)
		}
	}
	checkSketch(c.t, &q.table.callers)
}

// A Queue does what the model does.
func TestQueue_model(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := &compared{t: t, now: int64(random.Uint32())}
		for range 1000 {
			op := byte(random.Uint32())
			if seed%4 > 0 && c.count < int(seed) {
				op = 0 // a queue in which no request differs at first
			}
			c.step(op, byte(random.Uint32()))
		}
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1, 7, 2, 0, 1, 255, 6, 1, 5, 254, 4, 9, 3, 1})
	f.Add([]byte{1, 4, 1, 8, 1, 12, 6, 0, 1, 3, 1, 0, 5, 255, 4, 1, 7, 0, 2, 1, 2, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		c := &compared{t: t}
		for ; len(steps) >= 2; steps = steps[2:] {
			c.step(steps[0], steps[1])
		}
	})
}

// While no request differs, a queue has no table. The first request with another priority
// allocates it, and the first one with a caller the sketch. Requests that are queued by then
// keep their order.
func TestQueue_tables(t *testing.T) {
	var q Queue[int]
	if size := unsafe.Sizeof(q); size > 32 {
		t.Errorf("a queue takes %d bytes", size)
	}
	push := func(value int, p resilience.Priority, caller string) {
		q.Push(&Request[int]{Ticket: q.Arrive(0, Of(p, caller)), Value: value})
	}
	push(2, resilience.Normal, "")
	push(3, resilience.Normal, "")
	q.Measure(0)
	q.Skip()
	if q.table != nil {
		t.Fatal("there is a table although no request differs")
	}
	push(1, resilience.Critical, "")
	push(5, resilience.Low, "")
	push(4, resilience.Normal, "")
	if q.table == nil || q.table.callers.counters != nil {
		t.Fatal("there is no table, or a sketch although no request has a caller")
	}
	if size := unsafe.Sizeof(*q.table); size > 8<<10 {
		t.Errorf("a table takes %d bytes", size)
	}
	push(6, resilience.Lowest, "a")
	if size := unsafe.Sizeof(*q.table.callers.counters); size != 8<<10 {
		t.Errorf("a sketch takes %d bytes", size)
	}
	for want := 1; want <= 6; want++ {
		r := q.Next(false)
		if r.Value != want {
			t.Errorf("request %d is served as number %d", r.Value, want)
		}
		q.Remove(r)
	}
	if q.Next(false) != nil || q.Len() != 0 {
		t.Error("the queue is not empty")
	}
}

// A priority out of range counts as the nearest one.
func TestOf_outOfRange(t *testing.T) {
	if Of(math.MaxInt8, "") != Of(resilience.Critical, "") || Of(math.MinInt8, "") != Of(resilience.Lowest, "") {
		t.Error("a priority out of range is not the nearest one")
	}
}

// No call of a queue allocates once it has its tables.
func TestQueue_allocations(t *testing.T) {
	var q Queue[int]
	requests := make([]*Request[int], 64)
	for i := range requests {
		requests[i] = &Request[int]{}
	}
	classes := []Class{Of(resilience.Normal, "a"), Of(resilience.Critical, "b"), Of(resilience.Low, "")}
	now := int64(0)
	got := testing.AllocsPerRun(1000, func() {
		for i, r := range requests {
			now += 1e6
			r.Ticket, r.Since = q.Arrive(now, classes[i%len(classes)]), now
			q.Push(r)
		}
		q.Measure(10)
		for r := range q.Overdue(now, 30e6, 60e6) {
			q.Remove(r)
			q.Undo(r.Ticket)
		}
		for r := q.Next(true); r != nil; r = q.Next(true) {
			q.Remove(r)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
	if got := testing.AllocsPerRun(100, func() { classes[0] = Of(resilience.Low, "caller") }); got > 0 {
		t.Errorf("Of: %v allocations", got)
	}
}

// BenchmarkQueue is one request of an overload: it arrives, one is served, one is rejected.
func BenchmarkQueue(b *testing.B) {
	for _, callers := range []int{0, 1, 100} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			var q Queue[int]
			classes := []Class{Of(resilience.Normal, "")}
			for i := range callers {
				classes = append(classes, Of(resilience.Priority(i%4-2), fmt.Sprint(i)))
			}
			requests := make([]*Request[int], 256)
			for i := range requests {
				requests[i] = &Request[int]{}
			}
			free := requests[64:]
			for i := range b.N {
				now := int64(i) * 1e6
				r := free[len(free)-1]
				free = free[:len(free)-1]
				r.Ticket, r.Since = q.Arrive(now, classes[i%len(classes)]), now
				q.Push(r)
				for r := range q.Overdue(now, 40e6, 80e6) {
					q.Remove(r)
					q.Undo(r.Ticket)
					free = append(free, r)
				}
				if i%2 == 0 {
					r := q.Next(true)
					q.Remove(r)
					free = append(free, r)
				}
				if i%32 == 0 {
					q.Measure(16)
				}
			}
		})
	}
}
