package metrics

import (
	"context"
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

// HistogramConfig configures a Histogram. The zero value is a good default.
type HistogramConfig struct {
	// Name is the value of the label "name". Histograms in one Collector need different
	// Names.
	Name string
	// Buckets are the upper bounds of the classic buckets in seconds, in rising order.
	// The default is prometheus.DefBuckets. A Prometheus that asks for native histograms
	// gets one, whose bounds grow by a tenth from bucket to bucket.
	Buckets []float64
	// Until is the moment up to which a call is measured. The default is
	// resilience.Answered, for HTTP the moment the headers exist. A failure is measured as
	// soon as it is known.
	Until resilience.Moment
	// Classify returns the outcome of an error that has no outcome of its own, see
	// resilience.OutcomeOf. If Classify is nil, such an error is a failure.
	Classify func(error) resilience.Outcome
	// Clock is the source of time, nil for real time.
	Clock clock.Clock
}

// Histogram is a Policy that measures how long calls take, by outcome: success, failure,
// ignored, and rejected if an inner policy rejected the call. It changes no results.
// Outside a retry it measures whole calls, inside a retry single attempts.
//
// A call costs two reads of the clock and one observation of a prometheus.Histogram; see
// bench/README.md. Do not register a Histogram: a Collector finds it. All keys of a
// keyed.Group share one Histogram. It is safe for concurrent use.
type Histogram struct {
	cfg   HistogramConfig
	clock vclock.Clock
	calls *prometheus.HistogramVec
	took  [4]prometheus.Observer // by resilience.Outcome, and then rejected
}

// histogramKind is the kind of a Histogram in error texts and in its String.
const histogramKind = "histogram"

// rejected is the index in Histogram.took of calls that an inner policy rejected.
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
	var err error
	if c.Until, err = policykit.Until(histogramKind, c.Name, "HistogramConfig.Until", c.Until, resilience.Answered); err != nil {
		return nil, err
	}
	if c.Buckets = slices.Clone(c.Buckets); len(c.Buckets) == 0 {
		c.Buckets = prometheus.DefBuckets
	}
	m := series.CallDuration
	h := &Histogram{cfg: c, clock: vclock.New(c.Clock), calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: m.Name, Help: m.Help, Buckets: c.Buckets,
		NativeHistogramBucketFactor: 1.1,
		// With more buckets than this, the buckets become wider. There is no
		// MinResetDuration, which would set the classic buckets and the count back to 0.
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

// settler is a Histogram as the resilience.Settler of operations whose Run returned no
// error.
type settler Histogram

func (s *settler) Settle(start uint64, err error) {
	h := (*Histogram)(s)
	if err == nil {
		h.took[resilience.Success].Observe(h.since(int64(start)))
	} else {
		h.failed(context.Background(), int64(start), err, true)
	}
}

// failed observes a call that began at start and ended with err. If user code that judges
// err panics, the call is a failure. late is whether the call ended after Run returned.
// Then ctx is not the caller's, and only err can show that the caller gave up.
func (h *Histogram) failed(ctx context.Context, start int64, err error, late bool) {
	took, outcome := h.since(start), int(resilience.Failure)
	defer func() { h.took[outcome].Observe(took) }()
	switch {
	case resilience.Rejected(err):
		outcome = rejected
	case late:
		outcome = int(policykit.LateOutcome(err, h.cfg.Classify))
	default:
		outcome = int(resilience.OutcomeOf(ctx, err, h.cfg.Classify))
	}
}

// since returns the seconds since start, at least 0 even if the clock was set back.
func (h *Histogram) since(start int64) float64 {
	return time.Duration(max(0, h.clock.Nanos()-start)).Seconds()
}

// Name returns the name from the HistogramConfig.
func (h *Histogram) Name() string { return h.cfg.Name }

// Fork implements resilience.Forker. A Histogram has no state, so the fork is h.
func (h *Histogram) Fork(string) resilience.Policy { return h }

// Idle always returns true: a Histogram does not keep a key from eviction.
func (h *Histogram) Idle() bool { return true }

// String describes the histogram for people. The text may change.
func (h *Histogram) String() string {
	return fmt.Sprintf("%smeasures calls until %v", policykit.Describe(histogramKind, h.cfg.Name, ""), h.cfg.Until)
}
