package breaker_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// The model is the breaker as a sequential program that states its rules,
// without packing, windows or atomics: each stay in a state is a frame with a
// number, and keeps a list of all its calls.

const (
	modelOpenFor = 100 * time.Millisecond
	modelMaxOpen = 400 * time.Millisecond
	modelClose   = 4
	modelLease   = 300 * time.Millisecond
	modelSlower  = 40 * time.Millisecond
	modelWindow  = 200 * time.Millisecond
)

// A modelRule is a rule of the breaker with what it means.
type modelRule struct {
	rule    breaker.Rule
	failed  int // failures in a row, or
	span    time.Duration
	percent int // of at least calls in the window, or of the last calls if last
	calls   int
	last    bool
	slow    bool
}

var modelRules = []modelRule{
	{rule: breaker.Silence{Failures: 3, Span: 20 * time.Millisecond}, failed: 3, span: 20 * time.Millisecond},
	{rule: breaker.Rate{Failures: 3, Of: 5}, percent: 50, calls: 5, last: true},
	{rule: breaker.Rate{Failures: 60, Of: 100, Over: modelWindow, AtLeast: 4}, percent: 60, calls: 4},
	{rule: breaker.Slow{LongerThan: modelSlower, Calls: 2, Of: 4, Over: modelWindow}, percent: 50, calls: 4, slow: true},
	{rule: breaker.Consecutive{Failures: 5}, failed: 5},
}

func modelConfig(rules []modelRule) breaker.Config {
	c := breaker.Config{
		OpenFor: modelOpenFor, MaxOpenFor: modelMaxOpen, CloseAfter: modelClose, ProbeTimeout: modelLease, Until: resilience.Ended,
	}
	for _, r := range rules {
		c.Trip = append(c.Trip, r.rule)
	}
	return c
}

type modelCall struct {
	gen, id int
	start   time.Duration
}

type modelResult struct {
	part         int64
	failed, slow bool
}

type frame struct {
	state        breaker.State
	since, until time.Duration
	run          int
	runStart     time.Duration
	during       map[int]bool  // calls in flight that began during the run
	young        time.Duration // when the run had the age 0, if there are no such calls
	age          time.Duration // of the run, if there are
	rounds       int
	credit       int
	won          bool
	fresh        map[int]bool          // calls admitted since the last success
	slots        map[int]time.Duration // call to the end of its lease
	results      []modelResult
	latest       int64 // part of the window
}

func (f frame) clone() frame {
	f.slots, f.fresh = maps.Clone(f.slots), maps.Clone(f.fresh)
	f.results, f.during = slices.Clone(f.results), maps.Clone(f.during)
	return f
}

type model struct {
	rules []modelRule
	now   time.Duration
	gen   int
	mode  breaker.Mode
	cur   frame
	under *frame // in ForcedOpen and Disabled

	open   time.Duration // spent in OPEN before cur
	probes [3]int        // by outcome
	leaked int
	past   []string // the last transitions
}

func newModel(rules []modelRule) *model {
	m := &model{rules: rules}
	m.enter(breaker.Closed, "", 0, 0)
	return m
}

func (m *model) clone() *model {
	c := *m
	c.cur = m.cur.clone()
	if m.under != nil {
		u := m.under.clone()
		c.under = &u
	}
	return &c
}

func part(at time.Duration) int64 { return int64(at / (modelWindow / 10)) }

func (m *model) frame(s breaker.State) frame {
	return frame{state: s, since: m.now, credit: 1, fresh: map[int]bool{}, slots: map[int]time.Duration{}, latest: part(m.now), during: map[int]bool{}}
}

// old reports whether the run of failures is too old.
func (m *model) old() bool { return len(m.cur.during) == 0 && m.now-m.cur.young >= 10*time.Second }

// inARow reports whether every rule counts failures in a row.
func (m *model) inARow() bool {
	return !slices.ContainsFunc(m.rules, func(r modelRule) bool { return r.failed == 0 })
}

// run returns the failures in a row, up to now.
func (m *model) run() int {
	if m.old() && (m.cur.state == breaker.Closed || m.inARow()) {
		return 0
	}
	return m.cur.run
}

// begin has a call begin during the run of failures. A run that is too old ends.
func (m *model) begin(id int) {
	f := &m.cur
	if m.run() == 0 {
		f.run = 0
	}
	if len(f.during) == 0 {
		f.age = max(0, m.now-f.young)
	}
	f.during[id] = true
}

// end ends such a call.
func (m *model) end(id int) {
	if m.cur.during[id] {
		delete(m.cur.during, id)
		m.cur.young = max(0, m.now-m.cur.age)
	}
}

// fail adds a failure to the run.
func (m *model) fail() {
	f := &m.cur
	if f.run++; f.run == 1 || m.now < f.runStart {
		f.runStart = m.now
	}
	f.young, f.age = m.now, 0
}

// enter leads to s because of a rule that counted so many hits of calls.
func (m *model) enter(s breaker.State, rule string, hits, calls int) {
	from := m.leave()
	m.cur = m.frame(s)
	m.remember(from, rule, hits, calls)
}

func (m *model) trip(rounds int, rule string, hits, calls int) {
	from := m.leave()
	m.cur = m.frame(breaker.Open)
	m.cur.rounds = rounds
	m.cur.until = m.now + min(modelMaxOpen, modelOpenFor<<rounds)
	m.remember(from, rule, hits, calls)
}

// leave ends the stay in cur and returns its state.
func (m *model) leave() breaker.State {
	m.gen++
	m.open += m.openNow()
	return m.cur.state
}

// openNow is how long cur has lasted, if it is OPEN, up to the end of its time.
func (m *model) openNow() time.Duration {
	end := m.now
	switch {
	case m.cur.state != breaker.Open:
		return 0
	case m.mode != breaker.ForcedOpen:
		end = min(end, m.cur.until)
	}
	return max(0, end-m.cur.since)
}

func (m *model) remember(from breaker.State, rule string, hits, calls int) {
	f := &m.cur
	if from == f.state {
		return
	}
	var length time.Duration
	if f.state == breaker.Open && m.mode != breaker.ForcedOpen {
		length = max(0, f.until-m.now)
	}
	m.past = append(slices.Clip(m.past), fmt.Sprint(m.now, m.mode, from, f.state, rule, hits, calls, length))
	m.past = m.past[max(0, len(m.past)-16):]
}

func (m *model) over() bool {
	return m.mode != breaker.ForcedOpen && (m.now >= m.cur.until || m.now < m.cur.since)
}

// admit reports whether the call runs.
func (m *model) admit(id int) (modelCall, bool) {
	if m.cur.state == breaker.Open && m.over() {
		rounds := m.cur.rounds
		m.enter(breaker.HalfOpen, breaker.CauseOpenTimeOver, 0, 0)
		m.cur.rounds = rounds
	}
	ok := m.cur.state == breaker.Closed
	if ok && m.cur.run > 0 {
		m.begin(id)
	}
	if m.cur.state == breaker.HalfOpen {
		if ok = m.takeSlot(id); !ok {
			for held, end := range m.cur.slots {
				if end <= m.now || end > m.now+modelLease {
					delete(m.cur.slots, held)
					m.end(held)
					m.leaked++
				}
			}
			ok = m.takeSlot(id)
		}
	}
	return modelCall{m.gen, id, m.now}, ok || m.mode == breaker.MetricsOnly
}

func (m *model) takeSlot(id int) bool {
	if len(m.cur.slots) >= m.cur.credit {
		return false
	}
	m.cur.slots[id] = m.now + modelLease
	m.cur.fresh[id] = true
	m.begin(id)
	return true
}

func (m *model) settle(c modelCall, r result) {
	o := r.outcome
	if c.gen == m.gen {
		m.end(c.id)
	}
	if c.gen != m.gen || m.mode == breaker.Disabled || o == resilience.Ignored && m.cur.state == breaker.Closed {
		return
	}
	slow := m.slow() && m.now-c.start > modelSlower
	switch m.cur.state {
	case breaker.HalfOpen:
		if end, ok := m.cur.slots[c.id]; ok {
			delete(m.cur.slots, c.id)
			if end > m.now && end <= m.now+modelLease {
				m.probed(c.id, o, slow, r.timeout)
			} else {
				m.leaked++
			}
		}
	case breaker.Closed:
		m.count(o == resilience.Failure, slow)
	}
}

func (m *model) slow() bool {
	return slices.ContainsFunc(m.rules, func(r modelRule) bool { return r.slow })
}

func (m *model) probed(id int, o resilience.Outcome, slow, timeout bool) {
	if o == resilience.Success && slow {
		o = resilience.Failure
	}
	m.probes[o]++
	switch f := &m.cur; {
	case o == resilience.Ignored:
	case o == resilience.Failure && f.won && m.inARow() && !f.fresh[id]:
		f.young, f.age = m.now, 0
	case o == resilience.Failure:
		m.fail()
		if f.won && m.inARow() {
			m.tripped(true, timeout && f.run >= f.credit)
			return
		}
		if f.credit -= f.run; f.credit > 0 {
			break
		}
		rounds := f.rounds + 1
		if f.won {
			rounds = 0
		}
		m.trip(rounds, breaker.CauseProbeFailed, f.run, 0)
	default:
		f.run, f.won, f.fresh = 0, true, map[int]bool{}
		if f.credit++; f.credit > modelClose {
			m.enter(breaker.Closed, breaker.CauseEnoughSuccesses, 0, 0)
		}
	}
}

func (m *model) count(failed, slow bool) {
	f := &m.cur
	if failed {
		m.fail()
	} else {
		f.run = 0
	}
	if p := part(m.now); p <= f.latest-10 { // the clock was set back: the window starts again
		f.latest = p
		for i := range f.results {
			f.results[i].part = -100
		}
	}
	f.latest = max(f.latest, part(m.now))
	f.results = append(f.results, modelResult{part(m.now), failed, slow})
	f.results = f.results[max(0, len(f.results)-200):] // more than any rule sees
	m.tripped(failed, false)
}

// tripped opens the breaker if a rule holds after a call that has failed or not. anySpan has a
// rule that counts failures in a row hold however quickly they came.
func (m *model) tripped(failed, anySpan bool) {
	f := &m.cur
	for _, r := range m.rules {
		hits, calls := m.counted(r)
		holds := hits > 0 && calls >= r.calls && 100*hits >= r.percent*calls
		switch {
		case r.last:
			holds = failed && 100*hits >= r.percent*r.calls
		case r.failed > 0:
			holds = f.run >= r.failed && (anySpan || m.now-f.runStart >= r.span)
		}
		if holds {
			m.trip(0, r.rule.String(), hits, calls)
			return
		}
	}
}

// counted returns what a rule has counted by now.
func (m *model) counted(r modelRule) (hits, calls int) {
	f := &m.cur
	if r.failed > 0 {
		return m.run(), 0
	}
	results, from := f.results, max(part(m.now), f.latest)-10
	if r.last {
		results, from = results[max(0, len(results)-r.calls):], -1000
	} else if part(m.now) <= f.latest-10 {
		return 0, 0
	}
	for _, c := range results {
		if c.part > from {
			calls++
			if c.failed && !r.slow || c.slow && r.slow {
				hits++
			}
		}
	}
	if r.last { // a breaker counts no more than it takes
		hits = min(hits, (r.percent*r.calls+99)/100)
	}
	return hits, calls
}

func (m *model) setMode(to breaker.Mode) {
	if to == m.mode {
		return
	}
	base := m.cur
	if m.under != nil {
		base = *m.under
	}
	if m.now < base.since { // the clock was set back, which ends OPEN
		base.until = m.now
	}
	base.since = m.now
	from := m.leave()
	m.mode, m.under = to, nil
	switch to {
	case breaker.ForcedOpen:
		m.under, m.cur = &base, m.frame(breaker.Open)
	case breaker.Disabled:
		m.under, m.cur = &base, m.frame(breaker.Closed)
	default:
		m.cur = m.frame(base.state)
		m.cur.until, m.cur.rounds = base.until, base.rounds
		if base.state == breaker.HalfOpen {
			m.cur.credit, m.cur.won = base.credit, base.won
		}
	}
	m.remember(from, breaker.CauseSetMode, 0, 0)
}

func (m *model) reset() {
	from := m.leave()
	fresh := m.frame(breaker.Closed)
	if m.under == nil {
		m.cur = fresh
		m.remember(from, breaker.CauseReset, 0, 0)
		return
	}
	m.cur, m.under = m.frame(m.cur.state), &fresh
}

// describe returns everything that a caller can see of a model.
func (m *model) describe() string {
	f := &m.cur
	state := f.state
	if state == breaker.Open && m.over() {
		state = breaker.HalfOpen
	}
	s := fmt.Sprintf("%v %v open %v+%v", m.mode, state, m.open, m.openNow())
	switch f.state {
	case breaker.Closed:
		for _, r := range m.rules {
			hits, calls := m.counted(r)
			s += fmt.Sprintf(" %v %d/%d", r.rule, hits, calls)
		}
	case breaker.HalfOpen:
		s += fmt.Sprintf(" credit %d in flight %d failures %d", f.credit, len(f.slots), m.run())
		for _, r := range m.rules {
			if f.won && m.inARow() {
				s += fmt.Sprintf(" %v %d/0", r.rule, m.run())
			}
		}
	case breaker.Open:
		switch {
		case state == breaker.HalfOpen:
			s += " credit 1 in flight 0 failures 0"
		case m.mode != breaker.ForcedOpen:
			s += fmt.Sprintf(" until %v", f.until)
		}
	}
	return s
}

// describe returns the same of a breaker.
func (r *rig) describe() string {
	st := r.Stats()
	s := fmt.Sprintf("%v %v open %v+%v", st.Mode, st.State, st.OpenTime-r.PresentOpen(), r.PresentOpen())
	switch {
	case st.State == breaker.Closed:
		for _, c := range r.Rules() {
			s += fmt.Sprintf(" %v %d/%d", c.Rule, c.Hits, c.Calls)
		}
	case st.State == breaker.Open && st.Mode != breaker.ForcedOpen:
		s += fmt.Sprintf(" until %v", st.RetryAt.Sub(time.Unix(1e9, 0)))
	case st.State == breaker.HalfOpen:
		s += fmt.Sprintf(" credit %d in flight %d failures %d", st.Credit, st.InFlight, st.FailuresInARow)
		for _, c := range r.Rules() {
			s += fmt.Sprintf(" %v %d/%d", c.Rule, c.Hits, c.Calls)
		}
	}
	return s
}

// counts returns the counts of probes and the last transitions. A goroutine that settles
// a probe while another changes the mode may count it although it moved no credit, so
// only sequential tests compare them.
func (m *model) counts() string {
	return fmt.Sprint(m.probes, m.leaked, m.past)
}

// counts returns the same of a breaker.
func (r *rig) counts() string {
	x := r.Explain()
	var past []string
	for _, t := range x.History {
		past = append(past, fmt.Sprint(t.Time.Sub(time.Unix(1e9, 0)), t.Mode, t.From, t.To, t.Rule, t.Failures, t.Calls, t.OpenFor))
	}
	s := x.Stats
	return fmt.Sprint([]uint64{s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored}, s.ProbesLate, past)
}
