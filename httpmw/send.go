package httpmw

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

// maxEndpoints is how many endpoints one attempt uses at most, if they cannot be connected.
// With half of the replicas down, seven of eight attempts find one that works. More would
// multiply the dials when all are down.
const maxEndpoints = 3

// send sends req to an endpoint that is not in trail, or to base.
func (e *Endpoints) send(req *http.Request, trail *endpoint.Trail) (*http.Response, error) {
	if err := e.setup(); err != nil {
		return nil, closeBody(req, err)
	}
	if !e.chooses(req) {
		return e.base.RoundTrip(req)
	}
	s := e.service(req.URL)
	if err := s.resolved(req); err != nil {
		return nil, closeBody(req, err)
	}
	out, held := hold(req)
	if held != nil {
		defer held.release()
	}
	for n := 1; ; n++ {
		resp, again, err := s.attempt(out, trail, n < maxEndpoints)
		if again {
			if held != nil && held.reopen() {
				continue
			}
			if r, ok := repeat(req); ok {
				out = r
				continue
			}
		}
		if resp != nil {
			resp.Request = req
		}
		return resp, err
	}
}

// chooses reports whether an endpoint is chosen for req. Otherwise base sends it, or returns
// an error for a request that cannot be sent.
func (e *Endpoints) chooses(req *http.Request) bool {
	u := req.URL
	if u == nil || u.Scheme != "http" && u.Scheme != "https" || !plainHost(u) {
		return false
	}
	if e.base.Proxy == nil {
		return true
	}
	proxy, err := e.base.Proxy(req)
	return proxy == nil && err == nil
}

// plainHost reports whether u has a host that net/http looks up as it is written.
func plainHost(u *url.URL) bool {
	if u.Host == "" || u.Host[0] == ':' {
		return false
	}
	return strings.IndexFunc(u.Host, func(r rune) bool { return r >= 0x80 }) < 0
}

func closeBody(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return err
}

// repeat returns req for another endpoint, after its body was closed. ok is false if the body
// cannot be sent again.
func repeat(req *http.Request) (again *http.Request, ok bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	again = req.WithContext(req.Context())
	again.Body = body
	return again, true
}

// sending is an attempt at an endpoint. It is also the body of the response.
type sending struct {
	io.ReadCloser
	pick    endpoint.Pick
	replica *replica
	cancel  context.CancelFunc // of an attempt with a probeTimer, otherwise nil
}

// attempt sends req to an endpoint that is not in trail. again reports whether req should go
// to another endpoint instead of returning resp and err. It is false unless mayRepeat.
func (s *service) attempt(req *http.Request, trail *endpoint.Trail, mayRepeat bool) (_ *http.Response, again bool, _ error) {
	pool := &s.endpoints.sendings
	a, ok := pool.Get().(*sending)
	if !ok {
		a = new(sending)
	}
	if a.pick, ok = s.set.Pick(trail); !ok {
		return nil, false, closeBody(req, s.wrapLookup(errNoAddresses))
	}
	returned := false
	defer func() {
		if !returned { // a hook of the user panicked
			a.end()
		}
	}()
	a.replica = a.pick.Endpoint().Value().(*replica)

	probe := mayRepeat && a.pick.Probe() && repeatable(req)
	resp, late, err := a.roundTrip(req, probe, !mayRepeat)
	result, failure := endpoint.Timeout, error(nil)
	switch {
	case late:
	case err != nil:
		result, failure = resultOf(req, err), asDeadlineCause(req.Context(), err)
		err = a.wrapAddress(err, result)
	default:
		result, failure = resultOfResponse(resp)
	}
	a.pick.Answered(result, failure)
	failed := result == endpoint.Failure || result == endpoint.Timeout
	again = late || mayRepeat && (result == endpoint.Unreachable || wasCut(err) || probe && failed) &&
		req.Context().Err() == nil && s.hasAnother(req, trail, result)
	returned = true
	if resp != nil && again {
		_, _ = drain(resp.Body, resp.ContentLength, false)
		resp = nil
	}
	if resp == nil || resp.Body == nil || resp.Body == http.NoBody {
		a.end()
		*a = sending{}
		pool.Put(a)
		return resp, again, err
	}
	a.ReadCloser = resp.Body
	if w, ok := resp.Body.(io.Writer); ok {
		resp.Body = &duplex{a, w}
	} else {
		resp.Body = a
	}
	return resp, false, err
}

// hasAnother reports whether an endpoint works that is not in trail. If none does, and an
// endpoint could not be connected, the addresses may have changed: then they are resolved again.
func (s *service) hasAnother(req *http.Request, trail *endpoint.Trail, r endpoint.Result) bool {
	return s.set.Working(trail) || r == endpoint.Unreachable && s.renew(req) && s.set.Working(trail)
}

// roundTrip sends req. If bounded is true, a probe is canceled if it takes too long and another
// endpoint works: then late is true, and resp has a body that breaks off. If last is true, no
// other endpoint follows.
func (a *sending) roundTrip(req *http.Request, bounded, last bool) (resp *http.Response, late bool, err error) {
	if a.pick.Probe() {
		// The probe makes a new connection. Over HTTP/2 a connection that was lost, with no
		// sign of it, would make the probe hang too.
		a.replica.closeIdle()
	}
	if last {
		req = req.WithContext(context.WithValue(req.Context(), lastTryKey{}, true))
	}
	patience := a.pick.Patience()
	if !bounded || patience == 0 {
		resp, err = a.replica.transport().RoundTrip(req)
		return resp, false, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	a.cancel = cancel
	timer := startProbeTimer(patience, a.replica.service.set, cancel)
	resp, err = a.replica.transport().RoundTrip(req.WithContext(ctx))
	return resp, timer.ended(), err
}

// wrapAddress returns err with the address, unless err is about the request.
func (a *sending) wrapAddress(err error, r endpoint.Result) error {
	if r == endpoint.Ignored && invalid(err) {
		return err
	}
	if _, ok := err.(tls.RecordHeaderError); ok { // http.Client looks for this very type
		return err
	}
	return &EndpointError{Address: a.replica.address, Err: err}
}

// Read reads the response body. Its end is the end of the attempt.
func (a *sending) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil {
		a.end()
	}
	return n, err
}

// Close closes the response body, which ends the attempt.
func (a *sending) Close() error {
	defer a.end()
	return a.ReadCloser.Close()
}

// end ends the attempt. It may be called several times.
func (a *sending) end() {
	a.pick.End()
	if a.cancel != nil {
		a.cancel()
	}
	if a.replica.leaving() {
		a.replica.ended(a.pick.Endpoint().InFlight())
	}
}

// repeatable reports whether req may be sent to two endpoints.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return (req.Body == nil || req.Body == http.NoBody) && !settingsOf(req.Context()).once
	}
	return false
}

// probeTimer ends an attempt that probes an endpoint, if it takes too long and another endpoint
// works.
type probeTimer struct {
	timer *time.Timer
	over  atomic.Bool // the first of timer and attempt sets it
}

func startProbeTimer(d time.Duration, set *endpoint.Set, cancel context.CancelFunc) *probeTimer {
	p := &probeTimer{}
	p.timer = time.AfterFunc(d, func() {
		if set.Working(nil) && !p.over.Swap(true) {
			cancel()
		}
	})
	return p
}

// ended records that the attempt has a result, and reports whether it was canceled before.
func (p *probeTimer) ended() (late bool) {
	p.timer.Stop()
	return p.over.Swap(true)
}

// wasCut reports whether err is a dial that took too long while another address works. Nothing
// was sent.
func wasCut(err error) bool {
	e, ok := errors.AsType[*dialError](err)
	return ok && e.cut
}

// resultOfResponse returns what a response shows about its endpoint. Another Classify of the Transport
// is about the service and not about one endpoint.
func resultOfResponse(resp *http.Response) (endpoint.Result, error) {
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && isFinal(resp):
		return endpoint.Busy, nil
	case StatusOutcome(code) == resilience.Failure:
		return endpoint.Failure, &StatusError{StatusCode: code, outcome: resilience.Failure}
	default:
		return endpoint.Success, nil
	}
}

// resultOf returns what err, the error of a request, shows about its endpoint. An error of a
// certificate is a Failure: the endpoint was reached.
func resultOf(req *http.Request, err error) endpoint.Result {
	if callerCanceled(req) || invalid(err) || fileCaused(req.Body, err) {
		return endpoint.Ignored
	}
	if u, ok := unheld(req).(*upload); ok {
		if a := u.attempt; a.bodyCaused(err) || a.reading.Load() && req.Context().Err() != nil {
			return endpoint.Ignored
		}
	}
	r := endpoint.ResultOf(req.Context(), err)
	dial, ours := errors.AsType[*dialError](err)
	switch {
	case r == endpoint.Unreachable && ours && dial.cut:
		return endpoint.Timeout // it may be no slower than the others
	case r == endpoint.Unreachable && !ours: // a dial of the caller's body, which reads from elsewhere
		return endpoint.Failure
	case r != endpoint.Failure || !timedOut(err):
		return r
	case unsent(err): // the handshake of TLS timed out
		return endpoint.Unreachable
	default: // a timeout of net/http, such as ResponseHeaderTimeout
		return endpoint.Timeout
	}
}

// EndpointError is the error of an attempt at one address of an Endpoints.
type EndpointError struct {
	Address string // host:port
	Err     error  // what net/http returned
}

// Error returns the text of Err, with the address if it is not part of it.
func (e *EndpointError) Error() string {
	text := e.Err.Error()
	if strings.Contains(text, e.Address) {
		return text
	}
	return fmt.Sprintf("endpoint %s: %s", e.Address, text)
}

// Unwrap returns Err.
func (e *EndpointError) Unwrap() error { return e.Err }

// Timeout reports whether Err is a timeout.
func (e *EndpointError) Timeout() bool { return timedOut(e.Err) }

// Temporary reports whether Err has a method Temporary that returns true. net.Error has it.
func (e *EndpointError) Temporary() bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](e.Err)
	return ok && t.Temporary()
}
