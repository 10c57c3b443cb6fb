package metrics_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/timeout"
)

// A Histogram keeps the contract of a policy.
func TestHistogram_policyContract(t *testing.T) {
	for name, until := range map[string]resilience.Moment{"answered": resilience.Answered, "ended": resilience.Ended} {
		t.Run(name, func(t *testing.T) {
			resiliencetest.TestPolicy(t, func() resilience.Policy {
				return resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Until: until}))
			})
		})
	}
}

// stopwatch is a registered Histogram with a mock clock.
type stopwatch struct {
	*metrics.Histogram
	mock  *clock.Mock
	taken func(outcome string) (count int, sum float64)
}

func newStopwatch(t *testing.T, c metrics.HistogramConfig) *stopwatch {
	t.Helper()
	mock := clock.NewMock()
	mock.Add(time.Hour)
	c.Name, c.Clock = "h", mock
	h := resilience.Must(metrics.NewHistogram(c))
	reg, _ := register(t, h)
	return &stopwatch{h, mock, func(outcome string) (int, float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range families[0].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" && l.GetValue() == outcome {
					return int(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetSampleSum()
				}
			}
		}
		panic("no series of the outcome " + outcome)
	}}
}

// saw checks the count and the sum of an outcome. The other outcomes must have no calls.
func (s *stopwatch) saw(t *testing.T, outcome string, count int, sum float64) {
	t.Helper()
	for _, o := range []string{"success", "failure", "ignored", "rejected"} {
		wantCount, wantSum := 0, 0.0
		if o == outcome {
			wantCount, wantSum = count, sum
		}
		if c, took := s.taken(o); c != wantCount || math.Abs(took-wantSum) > 1e-9 {
			t.Errorf("%s: %d calls took %v s, want %d and %v s", o, c, took, wantCount, wantSum)
		}
	}
}

// A call is measured under its outcome.
func TestHistogram_outcomes(t *testing.T) {
	open := newBreaker("open")
	_ = run(open, errDown)
	classify := func(err error) resilience.Outcome {
		if err == io.EOF {
			return resilience.Success
		}
		return resilience.Failure
	}
	for name, test := range map[string]struct {
		inside  resilience.Policy
		err     error
		outcome string
	}{
		"nil":                         {nil, nil, "success"},
		"an error":                    {nil, errDown, "failure"},
		"judged by Classify":          {nil, io.EOF, "success"},
		"with an Outcome method":      {nil, says(resilience.Ignored), "ignored"},
		"canceled by the operation":   {nil, context.Canceled, "failure"},
		"a timeout":                   {nil, &timeout.Error{}, "failure"},
		"an inner rejection":          {open, nil, "rejected"},
		"a joined rejection":          {nil, errors.Join(errDown, &resilience.Rejection{}), "failure"},
		"joined rejections":           {nil, errors.Join(&resilience.Rejection{}, &resilience.Rejection{}), "rejected"},
		"an unknown outcome":          {nil, says(99), "ignored"},
		"a deadline of the operation": {nil, context.DeadlineExceeded, "failure"},
		"the text of an abort":        {nil, errors.New(resilience.ErrAborted.Error()), "failure"},
		"an error that is a success":  {nil, says(resilience.Success), "success"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStopwatch(t, metrics.HistogramConfig{Classify: classify})
			p := resilience.Compose(s, test.inside, &delay{s.mock, 250 * time.Millisecond})
			want := 0.25
			if test.inside != nil {
				want = 0
			}
			if err := run(p, test.err); test.inside == nil && err != test.err {
				t.Errorf("it returns %v", err)
			}
			s.saw(t, test.outcome, 1, want)
		})
	}
}

// delay is a policy that advances the clock before the operation runs.
type delay struct {
	mock *clock.Mock
	d    time.Duration
}

func (d *delay) Apply(ctx context.Context, next resilience.Next) error {
	d.mock.Add(d.d)
	return next.Run(ctx)
}

type says resilience.Outcome

func (s says) Error() string               { return "an error with an Outcome method" }
func (s says) Outcome() resilience.Outcome { return resilience.Outcome(s) }

// The caller's context decides what a failure is; a done context is not measured.
func TestHistogram_callerContext(t *testing.T) {
	for name, test := range map[string]struct {
		deadline time.Duration
		outcome  string
	}{"canceled": {time.Hour, "ignored"}, "its deadline passed": {time.Millisecond, "failure"}} {
		t.Run(name, func(t *testing.T) {
			s := newStopwatch(t, metrics.HistogramConfig{})
			ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
			defer cancel()
			_ = resilience.Run(ctx, s, func(ctx context.Context) error {
				s.mock.Add(time.Second)
				if test.deadline == time.Hour {
					cancel()
				}
				<-ctx.Done()
				return ctx.Err()
			})
			s.saw(t, test.outcome, 1, 1)
			if err := resilience.Run(ctx, s, func(context.Context) error { t.Error("it ran"); return nil }); !errors.Is(err, ctx.Err()) {
				t.Errorf("error %v", err)
			}
			done := testkit.Policy(func(_ context.Context, next resilience.Next) error { return next.Run(ctx) })
			_ = resilience.Run(t.Context(), resilience.Compose(done, s), func(context.Context) error { t.Error("it ran"); return nil })
			s.saw(t, test.outcome, 1, 1) // a call that does not start is not measured
		})
	}
}

// A panic and runtime.Goexit are failures.
func TestHistogram_panicAndGoexit(t *testing.T) {
	for name, how := range testkit.Aborts(errDown) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			t.Run(name+" until "+until.String(), func(t *testing.T) {
				s := newStopwatch(t, metrics.HistogramConfig{Until: until})
				ctx, cancel := context.WithCancel(t.Context())
				got := testkit.Unwind(func() error {
					return resilience.Run(ctx, s, func(context.Context) error {
						s.mock.Add(time.Second)
						cancel() // the call is a failure anyway
						how.Abort()
						return nil
					})
				})
				if got != how {
					t.Errorf("the call ended with %+v", got)
				}
				s.saw(t, "failure", 1, 1)
			})
		}
	}
}

// A call is a failure if Classify panics.
func TestHistogram_classifyPanics(t *testing.T) {
	s := newStopwatch(t, metrics.HistogramConfig{Classify: func(error) resilience.Outcome { panic(errDown) }})
	if got := testkit.Unwind(func() error { return run(s, errDown) }); got.Panic != errDown {
		t.Errorf("the call ended with %+v", got)
	}
	s.saw(t, "failure", 1, 0)
}

// A lasting operation is measured until the moment Until, once.
func TestHistogram_lastingOperation(t *testing.T) {
	for name, test := range map[string]struct {
		until   resilience.Moment
		mute    bool // Run returns before the answer
		end     error
		outcome string
		seconds float64
	}{
		"answered by default":             {until: 0, outcome: "success", seconds: 1},
		"answered at once":                {until: resilience.Answered, end: errDown, outcome: "success", seconds: 1},
		"answered later":                  {until: resilience.Answered, mute: true, outcome: "success", seconds: 3},
		"failed before an answer":         {until: resilience.Answered, mute: true, end: errDown, outcome: "failure", seconds: 3},
		"ended":                           {until: resilience.Ended, outcome: "success", seconds: 3},
		"ended with an error":             {until: resilience.Ended, end: errDown, outcome: "failure", seconds: 3},
		"ended because the caller left":   {until: resilience.Ended, end: context.Canceled, outcome: "ignored", seconds: 3},
		"ended by a deadline":             {until: resilience.Ended, end: context.DeadlineExceeded, outcome: "failure", seconds: 3},
		"ended by a timeout and canceled": {until: resilience.Ended, end: errors.Join(context.Canceled, context.DeadlineExceeded), outcome: "failure", seconds: 3},
		"ended with a rejection":          {until: resilience.Ended, end: &resilience.Rejection{}, outcome: "rejected", seconds: 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStopwatch(t, metrics.HistogramConfig{Until: test.until})
			op := &testkit.Lasting{Mute: test.mute, Func: func(context.Context) error { s.mock.Add(time.Second); return nil }}
			if err := resilience.RunOperation(t.Context(), s, op); err != nil {
				t.Fatal(err)
			}
			s.mock.Add(2 * time.Second)
			op.Finish(test.end)
			op.Finish(errDown) // too late
			s.saw(t, test.outcome, 1, test.seconds)
		})
	}
}

// A lasting operation whose Run fails is measured at once.
func TestHistogram_lastingFailure(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		s := newStopwatch(t, metrics.HistogramConfig{Until: until})
		op := &testkit.Lasting{Func: func(context.Context) error { s.mock.Add(time.Second); return errDown }}
		_ = resilience.RunOperation(t.Context(), s, op)
		s.saw(t, "failure", 1, 1)
		s.mock.Add(time.Second)
		op.Finish(nil)
		s.saw(t, "failure", 1, 1)
	}
}

// body is a response body. Read takes a second and returns err, or io.EOF if err is nil.
type body struct {
	s   *stopwatch
	err error
}

func (b *body) Read([]byte) (int, error) {
	b.s.mock.Add(time.Second)
	if b.err != nil {
		return 0, b.err
	}
	return 0, io.EOF
}
func (*body) Close() error { return nil }

// Over HTTP, Ended includes the body and Answered does not.
func TestHistogram_httpBody(t *testing.T) {
	for name, test := range map[string]struct {
		until   resilience.Moment
		status  int
		read    error
		outcome string
		seconds float64
	}{
		"until the headers":               {resilience.Answered, 200, nil, "success", 1},
		"until the headers, body broken":  {resilience.Answered, 200, errDown, "success", 1},
		"to the end":                      {resilience.Ended, 200, nil, "success", 2},
		"to the end, body broken":         {resilience.Ended, 200, errDown, "failure", 2},
		"to the end, the caller gives up": {resilience.Ended, 200, context.Canceled, "ignored", 2},
		"a failure, to the end":           {resilience.Ended, 503, nil, "failure", 1},
		"a failure, until the headers":    {resilience.Answered, 503, nil, "failure", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStopwatch(t, metrics.HistogramConfig{Until: test.until})
			client := &http.Client{Transport: &httpmw.Transport{Policy: s, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				s.mock.Add(time.Second)
				return &http.Response{StatusCode: test.status, Request: r, Header: http.Header{}, Body: &body{s, test.read}}, nil
			})}}
			resp, err := client.Get("http://h.example")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, _ := s.taken("success"); n != 0 && test.until == resilience.Ended {
				t.Error("the call is measured before its end")
			}
			_, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
			s.mock.Add(time.Minute)
			s.saw(t, test.outcome, 1, test.seconds)
		})
	}
}

// A clock that is set back gives a duration of 0.
func TestHistogram_clockSetBack(t *testing.T) {
	s := newStopwatch(t, metrics.HistogramConfig{})
	s.mock.Add(time.Hour)
	_ = resilience.Run(t.Context(), s, func(context.Context) error {
		s.mock.Set(s.mock.Now().Add(-time.Minute))
		return nil
	})
	s.saw(t, "success", 1, 0)
}

// All keys of a group share one Histogram, which does not keep them from eviction.
func TestHistogram_sharedByKeys(t *testing.T) {
	s := newStopwatch(t, metrics.HistogramConfig{})
	g := newGroup(t, resilience.Compose(s.Histogram, newBreaker("b")), keyed.Config{Max: 2})
	touch(t, g, 20)
	s.saw(t, "success", 20, 0)
	if g.Stats().Keys > 2 {
		t.Error("a histogram keeps keys from eviction")
	}
	if s.Name() != "h" || s.String() != `histogram "h": measures calls until answered` {
		t.Errorf("%q, %q", s.Name(), s.String())
	}
}

// An invalid HistogramConfig is an error that says what to change.
func TestNewHistogram_errors(t *testing.T) {
	for name, test := range map[string]struct {
		c    metrics.HistogramConfig
		says string
	}{
		"falling bounds":        {metrics.HistogramConfig{Buckets: []float64{1, 3, 2}}, "HistogramConfig.Buckets[2] is 2, after 3: bounds must rise"},
		"a bound twice":         {metrics.HistogramConfig{Buckets: []float64{1, 1}}, "HistogramConfig.Buckets[1] is 1, after 1: bounds must rise"},
		"infinity twice":        {metrics.HistogramConfig{Buckets: []float64{1, math.Inf(1), math.Inf(1)}}, "HistogramConfig.Buckets[2] is +Inf, after +Inf"},
		"no number first":       {metrics.HistogramConfig{Buckets: []float64{math.NaN(), 1}}, "HistogramConfig.Buckets[0] is not a number: leave it out"},
		"no number last":        {metrics.HistogramConfig{Buckets: []float64{1, math.NaN()}}, "HistogramConfig.Buckets[1] is not a number: leave it out"},
		"nothing but no number": {metrics.HistogramConfig{Buckets: []float64{math.NaN()}}, "HistogramConfig.Buckets[0] is not a number: leave it out"},
		"no moment":             {metrics.HistogramConfig{Until: 3}, "HistogramConfig.Until is 3: must be resilience.Answered or resilience.Ended"},
		"no text":               {metrics.HistogramConfig{Name: "h\xff"}, "HistogramConfig.Name is not valid UTF-8: change it"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := metrics.NewHistogram(test.c)
			if h != nil || err == nil || !strings.HasPrefix(err.Error(), "histogram ") || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, %v, want %s", h, err, test.says)
			}
		})
	}
}

// bounds returns the bounds of the classic buckets, and whether there is a native histogram.
func bounds(t *testing.T, c metrics.HistogramConfig) (classic []float64, native bool) {
	t.Helper()
	h := resilience.Must(metrics.NewHistogram(c))
	for i := range c.Buckets {
		c.Buckets[i] = -1 // NewHistogram has copied them
	}
	_ = run(h, nil)
	reg, _ := register(t, h)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetHistogram().GetSampleCount() != 1 {
			continue
		}
		for _, b := range m.GetHistogram().GetBucket() {
			classic = append(classic, b.GetUpperBound())
		}
		native = m.GetHistogram().Schema != nil && len(m.GetHistogram().GetPositiveSpan()) > 0
	}
	return classic, native
}

// A Histogram has classic buckets and is also a native histogram.
func TestHistogram_nativeAndClassicBuckets(t *testing.T) {
	for name, test := range map[string]struct{ buckets, want []float64 }{
		"by default":         {nil, []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}},
		"own bounds":         {[]float64{.5, 30}, []float64{.5, 30}},
		"infinity, as usual": {[]float64{1, math.Inf(1)}, []float64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			classic, native := bounds(t, metrics.HistogramConfig{Buckets: test.buckets})
			if !slices.Equal(classic, test.want) || !native {
				t.Errorf("bounds %v (native: %t), want %v", classic, native, test.want)
			}
		})
	}
}

// A native histogram has at most 100 buckets.
func TestHistogram_boundedNativeBuckets(t *testing.T) {
	mock := clock.NewMock()
	h := resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Clock: mock}))
	for d := time.Nanosecond; d < 100*time.Hour; d += 1 + d/20 {
		_ = resilience.Run(t.Context(), h, func(context.Context) error { mock.Add(d); return nil })
	}
	reg, _ := register(t, h)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, m := range families[0].GetMetric() {
		most = max(most, len(m.GetHistogram().GetPositiveDelta()))
	}
	if most < 20 || most > 100 {
		t.Errorf("%d native buckets, want at most 100", most)
	}
}

// A Histogram never starts again at 0, even with more magnitudes than buckets.
func TestHistogram_neverResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStopwatch(t, metrics.HistogramConfig{})
		calls := 0
		for range 3 {
			time.Sleep(24 * time.Hour)
			for d := time.Microsecond; d < time.Hour; d += d / 10 {
				_ = resilience.Run(t.Context(), w, func(context.Context) error { w.mock.Add(d); return nil })
				calls++
			}
			if n, _ := w.taken("success"); n != calls {
				t.Errorf("%d of %d calls are counted", n, calls)
			}
		}
	})
}

// A measured call allocates nothing.
func TestHistogram_allocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h := resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{}))
	open := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour}))
	_ = run(open, errDown)
	ctx, op := context.Background(), resilience.Func(func(context.Context) error { return nil })
	for name, p := range map[string]resilience.Policy{"success": h, "rejected": resilience.Compose(h, open)} {
		// A native histogram allocates new buckets now and then, so the mean is checked.
		const calls = 10_000
		got := testing.AllocsPerRun(3, func() {
			for range calls {
				_ = resilience.RunOperation(ctx, p, op)
			}
		}) / calls
		if got > 0.01 {
			t.Errorf("%s: %.2f allocations a call, want none", name, got)
		}
	}
}
