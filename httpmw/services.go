package httpmw

import (
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// services are the origins that an Endpoints remembers.
type services struct {
	byKey    sync.Map // string to *service
	max      int64
	len      atomic.Int64
	sweepAt  atomic.Int64 // sweep runs when len is greater than this and than max
	sweeping sync.Mutex   // held during a sweep
}

// all returns the services, in no order.
func (m *services) all() iter.Seq[*service] {
	return func(yield func(*service) bool) {
		m.byKey.Range(func(_, v any) bool { return yield(v.(*service)) })
	}
}

// get returns the service of key, which add makes if there is none.
func (m *services) get(key string, add func() *service) *service {
	if v, ok := m.byKey.Load(key); ok {
		s := v.(*service)
		if !s.used.Load() {
			s.used.Store(true)
		}
		return s
	}
	s := add()
	s.used.Store(true)
	if v, lost := m.byKey.LoadOrStore(key, s); lost {
		return v.(*service)
	}
	if n := m.len.Add(1); n > m.max && n > m.sweepAt.Load() {
		m.sweep(s)
	}
	return s
}

// sweep drops services that have no request in flight, except added, until max less an
// eighth are left, so that the next sweep is not due soon. It drops those first that were not
// used since the last sweep and have no ejected endpoint, because an ejection is forgotten
// with its service. If it cannot drop enough, the next sweep waits until there are an eighth
// more.
func (m *services) sweep(added *service) {
	if !m.sweeping.TryLock() {
		return // another goroutine sweeps
	}
	defer m.sweeping.Unlock()
	want := m.max - m.max/8
	defer func() {
		kept := m.len.Load()
		if kept <= want {
			kept = 0
		}
		m.sweepAt.Store(kept + kept/8)
	}()
	for _, droppable := range [...]func(*service) bool{
		func(s *service) bool { return !s.used.Swap(false) && s.set.Idle() },
		func(s *service) bool { return !s.used.Load() && s.set.Idle() },
		func(*service) bool { return true },
	} {
		var idle []*service
		for s := range m.all() {
			if s != added && droppable(s) && !s.inUse() {
				idle = append(idle, s)
			}
		}
		// The order of the map is fixed, so without Shuffle the same keys would be dropped.
		rand.Shuffle(len(idle), func(i, j int) { idle[i], idle[j] = idle[j], idle[i] })
		for _, s := range idle {
			if m.len.Load() <= want {
				return
			}
			if m.byKey.CompareAndDelete(s.key, s) {
				m.len.Add(-1)
				s.drop()
			}
		}
	}
}
