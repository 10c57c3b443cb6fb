package breaker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// model is the breaker as a sequential program that says what it means, without
// any packing, for quick-like rules: a fixed open time.
type model struct {
	now      time.Duration
	state    breaker.State
	gen      int
	run      int
	runStart time.Duration
	until    time.Duration
	credit   int
	k        int
	places   map[int]time.Duration // call to the end of its lease
}

const (
	modelFailures = 3
	modelSpan     = 20 * time.Millisecond
	modelOpenFor  = 100 * time.Millisecond
	modelClose    = 4
	modelLease    = 300 * time.Millisecond
)

type modelCall struct{ gen int }

func (m *model) enter(s breaker.State) {
	m.gen++
	m.state = s
	m.run, m.k = 0, 0
	m.places = map[int]time.Duration{}
	m.credit = 1
}

func (m *model) open() {
	m.enter(breaker.Open)
	m.until = m.now + modelOpenFor
}

func (m *model) admit(id int) (modelCall, bool) {
	if m.state == breaker.Open {
		if m.now < m.until {
			return modelCall{}, false
		}
		m.enter(breaker.HalfOpen)
	}
	if m.state == breaker.HalfOpen {
		if len(m.places) >= m.credit {
			for id, end := range m.places {
				if end <= m.now {
					delete(m.places, id)
				}
			}
		}
		if len(m.places) >= m.credit {
			return modelCall{}, false
		}
		m.places[id] = m.now + modelLease
	}
	return modelCall{m.gen}, true
}

func (m *model) settle(id int, c modelCall, o resilience.Outcome) {
	if c.gen != m.gen {
		return
	}
	if m.state == breaker.HalfOpen {
		if _, ok := m.places[id]; !ok {
			return
		}
		delete(m.places, id)
		switch o {
		case resilience.Success:
			m.k = 0
			if m.credit++; m.credit > modelClose {
				m.enter(breaker.Closed)
			}
		case resilience.Failure:
			m.k++
			if m.credit -= m.k; m.credit <= 0 {
				m.open()
			}
		}
		return
	}
	switch o {
	case resilience.Success:
		m.run = 0
	case resilience.Failure:
		if m.run == 0 {
			m.runStart = m.now
		}
		if m.run++; m.run >= modelFailures && m.now-m.runStart >= modelSpan {
			m.open()
		}
	}
}

// capture is an operation that goes on until the test settles it.
type capture struct {
	settler resilience.Settler
	token   uint64
}

func (c *capture) Run(context.Context) error { return nil }
func (c *capture) Discard()                  {}
func (c *capture) Hold(_ resilience.Moment, s resilience.Settler, token uint64) bool {
	c.settler, c.token = s, token
	return true
}

// FuzzModel runs calls that overlap in any way against the model. A byte is a
// step: start a call, end one of those in flight in one of three ways, or let
// time pass.
func FuzzModel(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 0, 1, 7, 0, 2})
	f.Add([]byte("\x00\x00\x00\x01\x67\x01\x01\x01\xff\xff\x00\x00\x02\x00\x00"))
	f.Add([]byte{0, 1, 0, 71, 1, 0, 1, 255, 255, 0, 255, 255, 255, 255, 0, 1, 1, 2})
	f.Fuzz(func(t *testing.T, steps []byte) {
		r := newRig(t, breaker.Config{
			Trip: []breaker.Rule{breaker.Silence(modelFailures, modelSpan)}, OpenFor: modelOpenFor,
			CloseAfter: modelClose, ProbeTimeout: modelLease, Judge: resilience.Ended,
		})
		m := &model{}
		type flight struct {
			id   int
			op   *capture
			want modelCall
		}
		var flights []flight
		for i, b := range steps {
			switch kind, arg := b&3, int(b>>2); {
			case kind == 0:
				op := &capture{}
				err := resilience.RunOperation(context.Background(), r.Breaker, op)
				c, ok := m.admit(i)
				if ok != (err == nil) {
					t.Fatalf("step %d: the breaker says %v, the model %v", i, err, ok)
				}
				if ok {
					flights = append(flights, flight{i, op, c})
				}
			case kind == 3:
				d := time.Duration(arg) * 5 * time.Millisecond
				r.clock.add(d)
				m.now += d
			case len(flights) > 0:
				n := arg % len(flights)
				fl := flights[n]
				flights = append(flights[:n:n], flights[n+1:]...)
				o, err := resilience.Success, error(nil)
				switch {
				case kind == 1:
					o, err = resilience.Failure, errors.New("failed")
				case arg%5 == 4:
					o, err = resilience.Ignored, context.Canceled
				}
				fl.op.settler.Settle(fl.op.token, err)
				m.settle(fl.id, fl.want, o)
			}
			check(t, i, r, m)
		}
	})
}

func check(t *testing.T, step int, r *rig, m *model) {
	t.Helper()
	want := m.state
	if want == breaker.Open && m.now >= m.until {
		want = breaker.HalfOpen
	}
	s := r.Stats()
	if s.State != want {
		t.Fatalf("step %d: state %v, model %v", step, s.State, want)
	}
	if m.state == breaker.HalfOpen && (s.Credit != m.credit || s.InFlight != len(m.places) || s.FailuresInARow != m.k) {
		t.Fatalf("step %d: %+v, model credit %d, in flight %d, failures %d", step, s, m.credit, len(m.places), m.k)
	}
	if m.state == breaker.Closed && s.FailuresInARow != m.run {
		t.Fatalf("step %d: run %d, model %d", step, s.FailuresInARow, m.run)
	}
}
