package debug

import (
	"fmt"
	"slices"
	"time"

	"github.com/resilience-go/resilience/internal/describe"
)

// shown is how many keys of a group, and breakers that are not CLOSED, the HTML has.
const shown = 100

// page is all that there is to show. The JSON is made of it as it is; what the HTML
// alone needs are its methods.
type page struct {
	Time      stamp           `json:"time"`
	Summary   summary         `json:"summary"`
	Faults    []string        `json:"faults,omitempty"` // policies that could not be asked
	Breakers  []*breakerView  `json:"breakers"`
	Groups    []*group        `json:"groups"`
	Retries   []*retryView    `json:"retries"`
	Bulkheads []*bulkheadView `json:"bulkheads"`
	Limits    []*limitView    `json:"limits"`
	Timeouts  []*timeoutView  `json:"timeouts"`
	Fallbacks []*fallbackView `json:"fallbacks"`
	Others    []*otherView    `json:"others"` // a metrics.Histogram, and policies that are not of this module
}

// summary counts the breakers and limits that have calls of their own: not those that
// keys are forked from, unless a breaker among these has been set to something.
type summary struct {
	Text      string `json:"text"`
	Breakers  int    `json:"breakers"`
	NotClosed int    `json:"not_closed"`
	NotAuto   int    `json:"not_auto"` // in a mode other than Auto
	states
	Limits     int `json:"limits"`
	Overloaded int `json:"overloaded"` // of the limits
}

// states counts by state.
type states struct {
	Closed   int `json:"closed"`
	Open     int `json:"open"`
	HalfOpen int `json:"half_open"`
}

// common is what policies of all kinds have.
type common struct {
	Name string `json:"name"`
	// Key is that of a policy which stands for one key of a group.
	Key string `json:"key,omitempty"`
	// Group is the name of the group for whose keys, all together, a policy counts.
	Group *string `json:"group,omitempty"`
	// Settings are the numbers that it works with, for people.
	Settings string `json:"settings,omitempty"`

	Kind string `json:"-"`
}

// Title names the policy.
func (c *common) Title() string {
	switch {
	case c.Key != "":
		return c.Key
	case c.Name != "":
		return c.Name
	default:
		return c.Kind + " without a name"
	}
}

// ID tells a policy from the others on the page, as far as names do.
func (c *common) ID() string { return fmt.Sprintf("%s/%s/%s", c.Kind, c.Name, c.Key) }

// breakerView is what is shown of a breaker. One that keys are forked from has no
// State, and one of a key no Calls.
type breakerView struct {
	common
	*standing
	Calls *breakerCalls `json:"calls,omitempty"`
}

// standing is how a breaker stands.
type standing struct {
	State   string  `json:"state"`
	Mode    string  `json:"mode,omitempty"` // unless it is Auto
	Since   stamp   `json:"since"`
	Ago     seconds `json:"since_seconds"`
	Why     string  `json:"why"`
	Next    string  `json:"next"`
	RetryAt stamp   `json:"retry_at,omitzero"` // in OPEN, but for ForcedOpen
	// RetryIn is from now until RetryAt.
	RetryIn        seconds  `json:"retry_in_seconds,omitempty"`
	FailuresInARow int      `json:"failures_in_a_row"`
	Probing        *probing `json:"probing,omitempty"` // in HALF_OPEN
	OpenNow        seconds  `json:"open_now_seconds,omitempty"`
	Rules          []rule   `json:"rules,omitempty"` // in CLOSED
	History        []step   `json:"history"`         // the oldest first
	// Began is the transition by which a rule opened it, if it has not closed since.
	Began *step `json:"began,omitempty"`

	now time.Time // by the clock of the breaker
}

// probing says how many calls HALF_OPEN admits, and how many of them run.
type probing struct {
	Credit   int `json:"credit"`
	InFlight int `json:"in_flight"`
}

// rule is what a rule has counted. Calls is 0 for failures in a row.
type rule struct {
	Rule  string `json:"rule"`
	Hits  int    `json:"hits"`
	Calls int    `json:"calls,omitempty"`
}

// step is a transition.
type step struct {
	Time     stamp   `json:"time"`
	From     string  `json:"from"`
	To       string  `json:"to"`
	Mode     string  `json:"mode,omitempty"` // unless it is Auto
	Rule     string  `json:"rule"`
	Failures int     `json:"failures,omitempty"`
	Calls    int     `json:"calls,omitempty"`
	Slow     bool    `json:"slow,omitempty"`
	Reason   string  `json:"reason"`
	OpenFor  seconds `json:"open_for_seconds,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// breakerCalls is what a breaker has counted, with its forks.
type breakerCalls struct {
	Successes       uint64  `json:"successes"`
	Failures        uint64  `json:"failures"`
	Ignored         uint64  `json:"ignored"`
	Rejected        uint64  `json:"rejected"`
	WouldReject     uint64  `json:"would_reject"`
	ProbesSucceeded uint64  `json:"probes_succeeded"`
	ProbesFailed    uint64  `json:"probes_failed"`
	ProbesIgnored   uint64  `json:"probes_ignored"`
	ProbesLate      uint64  `json:"probes_late"`
	Opened          uint64  `json:"opened"`
	HalfOpened      uint64  `json:"half_opened"`
	Closed          uint64  `json:"closed"`
	OpenTime        seconds `json:"open_seconds"` // without the present OPEN of forks
}

// HasState reports whether it has a state.
func (b *breakerView) HasState() bool { return b.standing != nil }

// Opened says how often it has opened, with its forks, and for how long.
func (b *breakerView) Opened() string {
	times := describe.Count(int(b.Calls.Opened), "time")
	if !b.HasState() {
		return fmt.Sprintf("%s, for %v without what is OPEN now", times, b.Calls.OpenTime)
	}
	return fmt.Sprintf("%s, for %v in all", times, b.Calls.OpenTime)
}

// Probed reports whether there have been probes.
func (c *breakerCalls) Probed() bool {
	return c.ProbesSucceeded+c.ProbesFailed+c.ProbesIgnored+c.ProbesLate > 0
}

// Remembered says how many transitions there are to see.
func (s *standing) Remembered() string {
	if n := len(s.History); n > 1 {
		return fmt.Sprintf("Last %d transitions", n)
	}
	return "Last transition"
}

// NotClosed reports whether it has a state that is not CLOSED.
func (b *breakerView) NotClosed() bool { return b.HasState() && b.State != closed }

// group is a keyed.Group.
type group struct {
	common
	States     states `json:"states"`     // of keys with a breaker, by the worst that a key has
	Overloaded int    `json:"overloaded"` // keys with a limit that is
	Evicted    uint64 `json:"evicted"`
	Keys       []*key `json:"keys"` // those that are not CLOSED first, then by name
}

// key is what the policies of a key have of their own.
type key struct {
	Key       string          `json:"key"`
	Breakers  []*breakerView  `json:"breakers,omitempty"`
	Retries   []*retryView    `json:"retries,omitempty"`
	Bulkheads []*bulkheadView `json:"bulkheads,omitempty"`
	Limits    []*limitView    `json:"limits,omitempty"`
}

// Overloaded reports whether one of its limits is.
func (k *key) Overloaded() bool { return slices.ContainsFunc(k.Limits, (*limitView).Overloaded) }

// State is the worst state of its breakers, "" if there is none.
func (k *key) State() (worst string) {
	for _, b := range k.Breakers {
		if rank[b.State] > rank[worst] {
			worst = b.State
		}
	}
	return worst
}

var rank = map[string]int{"": 0, closed: 1, halfOpen: 2, open: 3}

// Count says how many keys there are.
func (g *group) Count() string { return describe.Count(len(g.Keys), "key") }

// Shown are the keys that the HTML has.
func (g *group) Shown() []*key { return head(g.Keys) }

// More says what it does not have, "" if that is nothing.
func (g *group) More() string {
	var more states
	hidden := g.Keys[len(g.Shown()):]
	for _, k := range hidden {
		more.add(k.State())
	}
	return andMore(hidden, "key", more)
}

func andMore[T any](hidden []T, noun string, of states) string {
	if len(hidden) == 0 {
		return ""
	}
	s := "and " + describe.Count(len(hidden), "more "+noun)
	if of != (states{}) {
		s += ": " + of.String()
	}
	return s + ". The JSON has all of them."
}

// String says how many there are in each state that has any.
func (s states) String() (text string) {
	for _, c := range []struct {
		n     int
		state string
	}{{s.Open, open}, {s.HalfOpen, halfOpen}, {s.Closed, closed}} {
		if c.n == 0 {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", c.n, c.state)
	}
	return text
}

func (s *states) add(state string) {
	switch state {
	case closed:
		s.Closed++
	case open:
		s.Open++
	case halfOpen:
		s.HalfOpen++
	}
}

// retryView is what is shown of a retry. One that keys are forked from has no Budget,
// and one of a key no Calls.
type retryView struct {
	common
	Calls  *retryCalls `json:"calls,omitempty"`
	Budget *budget     `json:"budget,omitempty"`
}

type retryCalls struct {
	Attempts   uint64  `json:"attempts"` // of all calls that have ended
	FirstTry   uint64  `json:"first_try"`
	Recovered  uint64  `json:"recovered"`
	Aborted    uint64  `json:"aborted"`
	Retries    uint64  `json:"retries"`
	Suppressed reasons `json:"suppressed"`
}

// budget is in units.
type budget struct {
	Level    int64 `json:"level"`
	Capacity int64 `json:"capacity"`
}

// bulkheadView is what is shown of a bulkhead. One that keys are forked from has no
// Limit, and one of a key no Calls.
type bulkheadView struct {
	common
	InFlight int            `json:"in_flight"`
	Limit    int            `json:"limit,omitempty"`
	Waiting  int            `json:"waiting"`
	Calls    *bulkheadCalls `json:"calls,omitempty"`
}

type bulkheadCalls struct {
	Completed uint64  `json:"completed"`
	Rejected  reasons `json:"rejected"`
	Canceled  uint64  `json:"canceled"`
}

// timeoutView is what is shown of a timeout.
type timeoutView struct {
	common
	Calls    uint64 `json:"calls"`
	Exceeded uint64 `json:"exceeded"`
	Late     uint64 `json:"late"`
}

// fallbackView is what is shown of a fallback.
type fallbackView struct {
	common
	Unused uint64 `json:"unused"`
	Passed uint64 `json:"passed"`
	Used   uint64 `json:"used"`
	Failed uint64 `json:"failed"`
}

// otherView is what is shown of a policy that only describes itself.
type otherView struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// High is the number in flight from which on the bulkhead is nearly full.
func (h *bulkheadView) High() int { return h.Limit * 4 / 5 }
