package endpoint

import (
	"context"
	"fmt"
	"log/slog"
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
)

const (
	// leastOut is how long an endpoint is ejected at least, unless it was down for longer
	// than outShare times that.
	leastOut = time.Second
	// outShare: after a long outage the first probe comes after this share of it.
	outShare = 8
	// outPicks is how many picks of the set come before the next probe of an endpoint, so
	// that an endpoint that is down gets half a percent of the attempts.
	outPicks = 200
	// mostOut is the time after which a probe is due whatever the picks, ±20 % at random so
	// that the clients of an endpoint do not return together.
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
	run   int64 // failures in a row before it
	at    int64 // when it began, or when the last probe failed
	first int64 // when it began
	picks uint64
	least int64  // a probe is due after this time and outPicks picks
	most  int64  // or after this time
	lease int64  // until this time a probe holds the endpoint
	text  string // of failure.err
}

// failure is a failed attempt.
type failure struct {
	result     Result
	unanswered bool // there was no answer, and no other since the attempt began
	took       int64
	err        error
}

// dueProbe returns an ejected endpoint that a probe is due for, and leases it to the caller.
// It returns nil if there is none. Only one goroutine looks at a time; the others go on.
func (s *Set) dueProbe(v *view, t *Trail, now int64) *Endpoint {
	picks := s.picks.Add(1)
	if now < s.probeAt.Load() && picks < s.probePick.Load() || !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	var due *Endpoint
	for _, e := range v.ejected {
		if e.leasable(t, now) && e.out.due(picks, now) && (due == nil || e.out.at < due.out.at) {
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
	out := now - o.at
	return out >= o.most || out >= o.least && picks-o.picks >= outPicks
}

// leasable reports whether e may get a probe of a call with the trail t. mu is held.
func (e *Endpoint) leasable(t *Trail, now int64) bool {
	return e.out != nil && e.out.lease <= now && !t.has(e)
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
func (s *Set) release(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.out != nil {
		e.out.lease = 0
	}
}

// succeeded ends the ejection of e, or goes on with its slow start.
func (s *Set) succeeded(e *Endpoint, p *Pick) {
	s.mu.Lock()
	defer s.unlock()
	switch {
	case e.out == nil:
		if credit := e.credit.Load() + 1; credit <= slowStart {
			e.credit.Store(credit)
		} else {
			e.credit.Store(0)
		}
	case e.out.at <= p.at && !e.dropped: // otherwise it has failed since the attempt began
		s.admit(e)
		s.install(s.view.Load().all)
		s.probeNow(s.clock.Nanos()) // others may have recovered with it
	}
}

// admit ends the ejection of e, if it is ejected. mu is held.
func (s *Set) admit(e *Endpoint) {
	if e.out == nil {
		return
	}
	now := s.clock.Nanos()
	e.why = fmt.Sprintf("was ejected for %v: it %s", rounded(now-e.out.first), e.out)
	s.announce(e, now, resilience.Event{Kind: EventReturned, From: Ejected, To: Returning, Reason: e.why})
	e.out = nil
	e.ejected.Store(false)
	e.latency.reset()
	e.failures.reset()
	e.run.Store(0)
	e.credit.Store(2) // one, and one more for the success of the probe
}

// failed ejects e after f, if that is enough and another endpoint is left. If e is ejected
// and f is the result of its probe, the ejection goes on.
func (s *Set) failed(e *Endpoint, p *Pick, f failure, now int64) {
	s.mu.Lock()
	defer s.unlock()
	if e.dropped || e.out != nil && !p.probe {
		return // the attempt began before the ejection
	}
	if e.out != nil {
		e.out.at = now
		s.schedule(e, now)
		return
	}
	run := e.run.Load()
	if run < s.enough(e, f, now) {
		return
	}
	s.probeNow(now) // in a rolling restart another endpoint is back
	v := s.view.Load()
	if len(v.in) == 1 {
		return
	}
	e.out = &ejection{failure: f, run: run, first: now, at: now}
	if f.err != nil {
		e.out.text = (&resilience.Rejection{Cause: f.err}).CauseText()
	}
	e.ejected.Store(true)
	s.schedule(e, now)
	s.install(v.all)
	s.counters.Add(ejections[f.result])
	s.announce(e, now, resilience.Event{
		Kind: EventEjected, Level: slog.LevelWarn, From: In, To: Ejected, Reason: e.out.String(), Failures: int(run), Err: f.err,
	})
	e.out.err = nil // e.out.text is kept instead
}

// schedule sets when the next probe of e is due. mu is held.
func (s *Set) schedule(e *Endpoint, now int64) {
	o := e.out
	o.lease = 0
	o.picks = s.picks.Load()
	o.least = max(int64(leastOut), (now-e.runStart.Load())/outShare)
	random := float64(s.rand()>>11) / (1 << 53)
	o.most = max(o.least, int64(float64(mostOut)*(.8+.4*random)))
}

// probeNow makes a probe due for the endpoint that has been ejected for the longest time. mu
// is held.
func (s *Set) probeNow(now int64) {
	var oldest *Endpoint
	for _, e := range s.view.Load().ejected {
		if e.out != nil && now-e.out.at > int64(leastOut) && (oldest == nil || e.out.at < oldest.out.at) {
			oldest = e
		}
	}
	if oldest != nil {
		oldest.out.most = 0
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
		why = fmt.Sprintf("gave no answer in %v", rounded(o.took))
	default:
		why = fmt.Sprintf("failed %d times in a row", o.run)
	}
	if o.text != "" {
		why += ": " + o.text
	}
	return why
}

// announce queues an event for the observer, and notes the time of the change. mu is held.
func (s *Set) announce(e *Endpoint, now int64, event resilience.Event) {
	e.since = now
	if s.cfg.Observer == nil {
		return
	}
	event.Time, event.Policy, event.Name, event.Key, event.Endpoint = s.clock.At(now), policy, s.cfg.Name, s.key, e.address
	s.events = append(s.events, event)
}

// unlock unlocks mu and then calls the observer with the queued events, the oldest first.
func (s *Set) unlock() {
	deliver := len(s.events) > 0 && !s.busy
	s.busy = s.busy || deliver
	s.mu.Unlock()
	if deliver {
		s.deliver()
	}
}

// deliver calls the observer with the queued events. The observer may use the set, panic or
// end the goroutine. After runtime.Goexit the next change delivers the rest.
func (s *Set) deliver() {
	returned := false
	defer func() {
		if !returned {
			s.mu.Lock()
			s.busy = false
			s.mu.Unlock()
		}
	}()
	for {
		s.mu.Lock()
		if len(s.events) == 0 {
			s.busy = false
			s.mu.Unlock()
			returned = true
			return
		}
		event := s.events[0]
		s.events = s.events[1:]
		s.mu.Unlock()
		policykit.Observe(context.Background(), s.cfg.Observer, event)
	}
}
