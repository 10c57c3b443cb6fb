package interop_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// faultLimit is the timeout of an attempt under faults, callTime the timeout of a call
// with its body.
const (
	faultLimit = 200 * time.Millisecond
	callTime   = 2 * time.Second
)

// tally counts the results of a client's calls as the callers saw them.
type tally struct {
	started, ended atomic.Int64
	// Answered with 2xx, and then the body was complete, broke off, or was not read.
	ok, broken, left atomic.Int64
	// Answered with a failure.
	refused atomic.Int64
	// Not answered.
	rejected, timedOut, failed atomic.Int64
	// Calls that their caller gave up, which are also counted above.
	canceled atomic.Int64
}

// answered is the number of calls that were answered with 2xx.
func (t *tally) answered() int64 { return t.ok.Load() + t.broken.Load() + t.left.Load() }

// faulty is a client behind a faulty network.
type faulty struct {
	*http.Client
	name   string
	policy resilience.Policy
	audit  *audit
	upload upload
	tally  tally
}

func newFaulty(kind string, n *network) *faulty {
	base := &http.Transport{DialContext: n.dial}
	if kind == "h2c" {
		base.Protocols = new(http.Protocols)
		base.Protocols.SetUnencryptedHTTP2(true)
	}
	config := stack.DefaultClient(kind)
	config.Attempt.Timeout = faultLimit
	c := &faulty{name: kind, policy: resilience.Must(config.New()), audit: &audit{RoundTripper: base, idle: base.CloseIdleConnections}}
	c.Client = &http.Client{Transport: &httpmw.Transport{Base: c.audit, Policy: c.policy}}
	return c
}

// call makes the nth call. They differ in method and size, some callers leave in the
// middle of the body, and some cancel.
func (c *faulty) call(ctx context.Context, n int) {
	c.tally.started.Add(1)
	defer c.tally.ended.Add(1)
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	method, path := http.MethodGet, "/small"
	switch n % 8 {
	case 1, 2:
		path = "/large"
	case 3:
		method = http.MethodPut
	case 4:
		method = http.MethodPost
	case 5:
		method = http.MethodHead
	case 6:
		path = "/large"
		defer time.AfterFunc(time.Duration(n%50)*time.Millisecond, cancel).Stop()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://dependency.test"+path, nil)
	if err != nil {
		panic(err)
	}
	if n%8 == 3 || n%8 == 4 {
		c.upload.give(req)
	}
	defer func() {
		if ctx.Err() != nil {
			c.tally.canceled.Add(1)
		}
	}()
	resp, err := c.Do(req)
	if err != nil {
		c.lost(err)
		return
	}
	defer resp.Body.Close()
	c.read(resp, n%8 == 7)
}

// lost counts a call without an answer.
func (c *faulty) lost(err error) {
	switch {
	case errors.Is(err, resilience.ErrRejected):
		c.tally.rejected.Add(1)
	case timedOut(err):
		c.tally.timedOut.Add(1)
	default:
		c.tally.failed.Add(1)
	}
}

// read reads the body of an answer, unless the caller leaves.
func (c *faulty) read(resp *http.Response, leave bool) {
	if resp.StatusCode >= 300 {
		c.tally.refused.Add(1)
		return
	}
	if leave {
		c.tally.left.Add(1)
		return
	}
	if _, err := readAll(resp.Body); err != nil {
		c.tally.broken.Add(1)
		return
	}
	c.tally.ok.Add(1)
}

func readAll(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// account checks that every body was closed, and checks the counters of the layers
// against each other: the calls that one layer admits are the calls that the next one
// counts.
func (c *faulty) account(t *testing.T) {
	t.Helper()
	eventually(t, "all request bodies are closed", func() bool { return c.upload.closed.Load() == c.upload.opened.Load() })
	if opened, closed := c.audit.opened.Load(), c.audit.closed.Load(); opened != closed {
		t.Errorf("%s: %d response bodies were handed out and %d closed", c.name, opened, closed)
	}
	re, br, bu, ti := find[*retry.Retry](c.policy).Stats(), find[*breaker.Breaker](c.policy).Stats(),
		find[*bulkhead.Bulkhead](c.policy).Stats(), find[*timeout.Timeout](c.policy).Stats()
	ta := &c.tally
	calls, canceled := ta.started.Load(), ta.canceled.Load()
	answered := ta.answered()
	same := func(what string, got, want, less int64) {
		t.Helper()
		if got > want || got < want-less {
			t.Errorf("%s: %s: %d, want %d (or up to %d less)", c.name, what, got, want, less)
		}
	}
	same("calls ended", ta.ended.Load(), calls, 0)
	same("calls with an outcome", answered+ta.refused.Load()+ta.rejected.Load()+ta.timedOut.Load()+ta.failed.Load(), calls, 0)
	stopped := re.Aborted
	for _, n := range re.Stopped {
		stopped += n
	}
	// A call that is canceled between two layers is counted by the outer one only.
	succeeded := int64(re.FirstTry + re.Recovered)
	same("calls in the retry", succeeded+int64(stopped), calls, canceled)
	same("answers", succeeded, answered, 0)
	attempts := succeeded + int64(stopped+re.Retries)
	ran := int64(br.Successes + br.Failures + br.Ignored)
	same("attempts in the breaker", ran+int64(br.Rejected), attempts, canceled)
	same("attempts in the bulkhead", int64(bu.Completed+bu.QueueFull+bu.WaitExpired+bu.Canceled), ran, canceled)
	same("attempts in the timeout", int64(ti.Calls), int64(bu.Completed), canceled)
	same("attempts that were sent", c.audit.trips.Load(), int64(ti.Calls), canceled)
	if bu.InFlight != 0 || bu.Queued != 0 || re.Aborted != 0 || br.ProbesLate != 0 {
		t.Errorf("%s: %+v\n%+v\n%+v", c.name, bu, re, br)
	}
	if c.audit.failed.Load() == 0 || c.audit.broken.Load() == 0 || ti.Exceeded == 0 || re.Retries == 0 || answered == 0 {
		t.Errorf("%s: the faults were none", c.name)
	}
	t.Logf("%s: %d calls: %d answered (%d broke off, %d left), %d refused, %d rejected, %d timed out, %d failed; %d were canceled", c.name,
		calls, answered, ta.broken.Load(), ta.left.Load(), ta.refused.Load(), ta.rejected.Load(), ta.timedOut.Load(), ta.failed.Load(), canceled)
	t.Logf("%d attempts failed of %d sent, %d bodies broke; %d retries; %+v; %+v; %+v", c.audit.failed.Load(), c.audit.trips.Load(), c.audit.broken.Load(), re.Retries, br, bu, ti)
}
