package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/benbjohnson/clock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
	"github.com/resilience-go/resilience/metrics/internal/series"
)

// HistogramConfig says how a Histogram works. The zero value is a good default.
type HistogramConfig struct {
	// Name is the label name of the metric.
	Name string
	// Buckets are the upper bounds of the classic buckets in seconds, in rising order.
	// The default is prometheus.DefBuckets. The native histogram, which a server that
	// asks for it gets, has a bucket for each tenth of the time on top of the one below.
	Buckets []float64
	// Until is the moment up to which a call is measured, by default
	// resilience.Answered: for HTTP until the headers have come, as others measure it.
	// A failure is measured as soon as it is known.
	Until resilience.Moment
	// Classify judges errors that do not say themselves what they are. It is asked
	// last, as resilience.OutcomeOf describes; nil judges them as failures.
	Classify func(error) resilience.Outcome
	// Clock is the time to use, nil for real time.
	Clock clock.Clock
}

// Histogram is a Policy that measures how long calls take, by outcome: success,
// failure, ignored, and rejected if a policy inside refused the call. It changes
// nothing. Outside of a retry it measures whole calls, inside single attempts.
//
// It costs a call two looks at the clock and an observation of prometheus.Histogram,
// which bench/README.md has in numbers. It is for a Collector to find, not to be
// registered itself. All keys of a keyed.Group share one. It is safe for concurrent
// use.
type Histogram struct {
	cfg   HistogramConfig
	clock vclock.Clock
	calls *prometheus.HistogramVec
	took  [4]prometheus.Observer // by outcome, and then of those rejected
}

// histogramKind is the kind of a Histogram in texts.
const histogramKind = "histogram"

const rejected = 3

// NewHistogram returns a Histogram, or an error that says what to change in c.
func NewHistogram(c HistogramConfig) (*Histogram, error) {
	bad := func(what string, args ...any) (*Histogram, error) {
		return nil, fmt.Errorf("histogram %q: "+what, append([]any{c.Name}, args...)...)
	}
	if !utf8.ValidString(c.Name) {
		return bad("HistogramConfig.Name is not valid UTF-8: change it")
	}
	for i, b := range c.Buckets {
		if math.IsNaN(b) {
			return bad("HistogramConfig.Buckets[%d] is not a number: leave it out", i)
		}
		if i > 0 && b <= c.Buckets[i-1] {
			return bad("HistogramConfig.Buckets[%d] is %v, after %v: bounds must rise", i, b, c.Buckets[i-1])
		}
	}
	switch c.Until {
	case 0:
		c.Until = resilience.Answered
	case resilience.Answered, resilience.Ended:
	default:
		return bad("HistogramConfig.Until is %d: must be resilience.Answered or resilience.Ended, or 0 for the default", uint8(c.Until))
	}
	if c.Buckets = slices.Clone(c.Buckets); len(c.Buckets) == 0 {
		c.Buckets = prometheus.DefBuckets
	}
	m := series.CallDuration
	h := &Histogram{cfg: c, clock: vclock.New(c.Clock), calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: m.Name, Help: m.Help, Buckets: c.Buckets,
		NativeHistogramBucketFactor: 1.1,
		// Beyond these buckets become wider. Without a MinResetDuration, after which
		// all would begin at 0 again, the classic ones and the count too.
		NativeHistogramMaxBucketNumber: 100,
	}, m.LabelNames())}
	for i, outcome := range m.Labels[0].Values {
		h.took[i] = h.calls.WithLabelValues(c.Name, outcome)
	}
	return h, nil
}

// Apply implements resilience.Policy.
func (h *Histogram) Apply(ctx context.Context, next resilience.Next) (err error) {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	start := h.clock.Nanos()
	err = resilience.ErrAborted
	defer func() {
		if err != nil {
			h.failed(ctx, start, err, false)
		} else {
			next.Settle(h.cfg.Until, nil, (*settler)(h), uint64(start))
		}
	}()
	err = next.Run(ctx)
	return err
}

// settler is a Histogram that hears of operations that have come to their moment
// after Run returned without an error.
type settler Histogram

func (s *settler) Settle(start uint64, err error) {
	h := (*Histogram)(s)
	if err == nil {
		h.took[resilience.Success].Observe(h.since(int64(start)))
	} else {
		h.failed(context.Background(), int64(start), err, true)
	}
}

// failed observes a call that began at start and ended with err. It is a failure if
// code of the user panics that is asked about it. Of a late one the context may be
// gone, and only the error can tell that its caller gave up.
func (h *Histogram) failed(ctx context.Context, start int64, err error, late bool) {
	took, outcome := h.since(start), int(resilience.Failure)
	defer func() { h.took[outcome].Observe(took) }()
	switch {
	case errors.Is(err, resilience.ErrRejected):
		outcome = rejected
	case late && errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		outcome = int(resilience.Ignored)
	default:
		outcome = int(resilience.OutcomeOf(ctx, err, h.cfg.Classify))
	}
}

// since returns the seconds since start; a clock that was set back gives none.
func (h *Histogram) since(start int64) float64 {
	return time.Duration(max(0, h.clock.Nanos()-start)).Seconds()
}

// Name returns the name from the HistogramConfig.
func (h *Histogram) Name() string { return h.cfg.Name }

// Fork implements resilience.Forker. A Histogram has no state, so the fork is h.
func (h *Histogram) Fork(string) resilience.Policy { return h }

// Idle implements resilience.Forker; it is always true.
func (h *Histogram) Idle() bool { return true }

// String describes the histogram, for people: the text may change.
func (h *Histogram) String() string {
	return fmt.Sprintf("%smeasures calls until %v", policykit.Describe(histogramKind, h.cfg.Name, ""), h.cfg.Until)
}
