package endpoint

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// The kinds of events of a Set.
const (
	EventEjected  = "endpoint ejected"
	EventReturned = "endpoint returned"
)

// The states of an endpoint in events and reports.
const (
	In        = "IN"        // gets work
	Ejected   = "EJECTED"   // gets probes only
	Returning = "RETURNING" // starts slowly
	Suspended = "SUSPENDED" // gets nothing, see Set.Suspend
)

const (
	// leastOut is the least time before a probe, after an ejection or a failed probe.
	leastOut = time.Second
	// outShare is the part of an ejection's duration that comes before its next probe, so
	// that probes become rarer in a long outage.
	outShare = 8
	// outPicks is how many picks of the set come before the next probe of an endpoint, so
	// that an endpoint that is down gets half a percent of the attempts.
	outPicks = 200
	// mostOut is the time after which a probe is due even before outPicks picks, ±20 % at
	// random so that clients do not return together. There must have been as many picks as
	// endpoints: otherwise each call of a client that calls less often than mostOut would be
	// a probe.
	mostOut = 30 * time.Second
	// probeGap is the time between two probes of the ejected endpoints together, unless
	// outPicks/2 picks come before. Without it the probes of a set that is half down would
	// be most of its attempts.
	probeGap = 5 * time.Second
	// probeLease is how long a probe keeps others away from its endpoint, unless it is
	// answered before.
	probeLease = policykit.DefaultProbeTimeout
)

// ejection is why and since when an endpoint is ejected. Its times are in ns. Set.mu guards
// it.
type ejection struct {
	failure
	began  int64
	failed int64 // when it began, or when the last probe failed
	lease  int64 // until this time a probe holds the endpoint

	// A probe is due from soon and the pick soonPick on, and from late and the pick
	// latePick on.
	soon, late         int64
	soonPick, latePick uint64
}

// failure is a failed attempt.
type failure struct {
	result     Result
	unanswered bool // there was no answer, and no other since the attempt began
	took       int64
	run        int64 // failures in a row
	err        error
	text       string // of err
}

// past is before any other time.
const past = math.MinInt64

// ahead reports whether t, which was at most d after the time at which it was set, is still
// to come. If it is further away, the clock was set back.
func ahead(t, now int64, d time.Duration) bool {
	const slack = int64(time.Second) // between two goroutines that have read the clock
	return t > now && t-now <= int64(d)+slack
}

// dueProbe returns an ejected endpoint that a probe is due for, and leases it to the caller.
// It returns nil if there is none. Only one goroutine looks at a time; the others go on.
func (s *Set) dueProbe(v *view, t *Trail, now int64) *Endpoint {
	picks := s.picks.Add(1)
	if ahead(s.probeAt.Load(), now, probeGap) && picks < s.probePick.Load() || !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	var due *Endpoint
	for _, e := range v.ejected {
		if e.leasable(t, now) && e.out.due(picks, now) && (due == nil || e.out.failed < due.out.failed) {
			due = e
		}
	}
	if due != nil {
		due.out.lease = now + int64(probeLease)
		s.probeAt.Store(now + int64(probeGap))
		s.probePick.Store(picks + outPicks/2)
	}
	return due
}

// due reports whether a probe is due.
func (o *ejection) due(picks uint64, now int64) bool {
	return picks >= o.soonPick && !ahead(o.soon, now, 2*mostOut) ||
		picks >= o.latePick && !ahead(o.late, now, 2*mostOut)
}

// leasable reports whether e may get a probe of a call with the trail t. mu is held.
func (e *Endpoint) leasable(t *Trail, now int64) bool {
	return e.out != nil && !ahead(e.out.lease, now, probeLease) && !t.has(e)
}

// holds reports whether p is the probe that has leased its endpoint. mu is held.
func (p *Pick) holds() bool {
	o := p.endpoint.out
	return p.probe && o != nil && o.lease == p.at+int64(probeLease)
}

// probeUntried leases an ejected endpoint that is not in t, whether or not a probe is due.
// It returns nil if there is none.
func (s *Set) probeUntried(v *view, t *Trail, now int64) *Endpoint {
	if len(v.ejected) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range v.ejected {
		if e.leasable(t, now) {
			e.out.lease = now + int64(probeLease)
			return e
		}
	}
	return nil
}

// release ends the lease of a probe that has shown nothing.
func (s *Set) release(p *Pick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.holds() {
		p.endpoint.out.lease = past
	}
}

// current reports whether p started in the present generation of its endpoint. mu is held.
func (p *Pick) current() bool {
	return !p.endpoint.dropped && p.generation == p.endpoint.generation()
}

// succeeded ends the ejection of the endpoint, or goes on with its slow start.
func (s *Set) succeeded(p *Pick, now int64) {
	s.mu.Lock()
	defer s.unlock()
	e := p.endpoint
	switch credit := e.credit.Load(); {
	case !p.current():
	case e.out != nil:
		s.admit(e, now)
		s.install(s.view.Load().all, now)
		s.probeNow(now) // others may have recovered with it
	case credit == slowStart:
		e.credit.Store(0)
		e.since = now
	case credit > 0:
		e.credit.Store(credit + 1)
	}
}

// admit ends the ejection of e. mu is held.
func (s *Set) admit(e *Endpoint, now int64) {
	e.why = fmt.Sprintf("was ejected for %v: it %s", policykit.Round(time.Duration(now-e.out.began)), e.out)
	s.announce(e, now, resilience.Event{Kind: EventReturned, From: Ejected, To: Returning, Reason: e.why})
	e.out = nil
	e.ejected.Store(false)
	e.forget()
	e.credit.Store(2) // one, and one more for the success of the probe
}

// failed ejects the endpoint after f, if that is enough and another one is left. If f is the
// result of the endpoint's probe, the ejection goes on.
func (s *Set) failed(p *Pick, f failure, now int64) {
	e := p.endpoint
	enough := !e.ejected.Load() && f.run >= s.enough(e, f, now)
	if !enough && !p.probe {
		return
	}
	if enough && f.err != nil && s.spares(e) {
		f.text = (&resilience.Rejection{Cause: f.err}).CauseText() // calls user code, so mu is not held
	}
	s.mu.Lock()
	defer s.unlock()
	switch {
	case !p.current():
	case p.holds():
		e.out.failed = now
		s.schedule(e.out, now)
		e.out.lease = past
	case enough:
		s.probeNow(now) // in a rolling restart another endpoint is back
		if s.spares(e) {
			s.eject(e, f, now)
		}
	}
}

// spares reports whether e, which is not ejected, is not the last endpoint that is in.
func (s *Set) spares(e *Endpoint) bool {
	in := s.view.Load().in
	return len(in) != 1 || in[0] != e
}

// eject ejects e after f. mu is held.
func (s *Set) eject(e *Endpoint, f failure, now int64) {
	o := &ejection{failure: f, began: now, failed: now, lease: past}
	o.err = nil // the text is kept instead
	s.schedule(o, now)
	e.out = o
	e.ejected.Store(true)
	e.renew()
	s.install(s.view.Load().all, now)
	s.counters.Add(ejections[f.result])
	s.announce(e, now, resilience.Event{
		Kind: EventEjected, Level: slog.LevelWarn, From: In, To: Ejected, Reason: o.String(), Failures: int(f.run), Err: f.err,
	})
}

// schedule sets when the next probe is due. mu is held.
func (s *Set) schedule(o *ejection, now int64) {
	random := float64(s.rand()>>11) / (1 << 53)
	late := int64(float64(mostOut) * (.8 + .4*random))
	picks := s.picks.Load()
	o.late, o.latePick = now+late, picks+uint64(len(s.view.Load().all))
	o.soon, o.soonPick = now+min(late, max(int64(leastOut), (now-o.began)/outShare)), picks+outPicks
}

// probeNow makes a probe due for the endpoint that has been ejected for the longest time. mu
// is held.
func (s *Set) probeNow(now int64) {
	var oldest *Endpoint
	for _, e := range s.view.Load().ejected {
		if now-e.out.failed > int64(leastOut) && (oldest == nil || e.out.failed < oldest.out.failed) {
			oldest = e
		}
	}
	if oldest != nil {
		oldest.out.late, oldest.out.latePick = past, 0
		s.probeAt.Store(now)
	}
}

// String returns why the endpoint is ejected, as in "could not be connected: connection
// refused".
func (o *ejection) String() string {
	var why string
	switch {
	case o.result == Unreachable:
		why = "could not be connected"
	case o.result == Timeout && o.unanswered:
		why = fmt.Sprintf("gave no answer in %v", policykit.Round(time.Duration(o.took)))
	default:
		why = fmt.Sprintf("failed %d times in a row", o.run)
	}
	if o.text != "" {
		why += ": " + o.text
	}
	return why
}

// queued is an event for the observer.
type queued struct {
	resilience.Event
	at int64 // Event.Time, in ns
}

// announce queues an event for the observer, and notes the time of the change. mu is held.
func (s *Set) announce(e *Endpoint, now int64, event resilience.Event) {
	e.since = now
	if s.cfg.Observer == nil {
		return
	}
	event.Policy, event.Name, event.Key, event.Endpoint = policy, s.cfg.Name, s.key, e.address
	s.events = append(s.events, queued{event, now})
}

// unlock unlocks mu and then calls the observer with the queued events, the oldest first,
// unless another goroutine is doing so.
func (s *Set) unlock() {
	deliver := len(s.events) > 0 && !s.delivering
	s.delivering = s.delivering || deliver
	s.mu.Unlock()
	if deliver {
		s.deliver()
	}
}

// deliver calls the observer with all queued events. The observer may use the set.
func (s *Set) deliver() {
	for s.deliverOne() {
	}
}

// deliverOne calls the observer with the oldest event. It returns false if there is none.
func (s *Set) deliverOne() bool {
	s.mu.Lock()
	if len(s.events) == 0 {
		s.events, s.delivering = nil, false
		s.mu.Unlock()
		return false
	}
	event := s.events[0]
	s.events = s.events[1:]
	s.mu.Unlock()
	returned := false
	defer func() {
		if !returned {
			s.deliver() // the observer called runtime.Goexit, which ends the loop
		}
	}()
	event.Time = s.timeAt(event.at)
	policykit.Observe(context.Background(), s.cfg.Observer, event.Event)
	returned = true
	return true
}
