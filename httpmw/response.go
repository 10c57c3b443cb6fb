package httpmw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/resilience-go/resilience"
)

// accept stores resp as the attempt's response and returns its error for the policies, nil
// if it is a success that needs no retry.
func (c *call) accept(resp *http.Response) error {
	c.resp = resp
	if resp.Body != nil && resp.Body != http.NoBody {
		c.body = resp.Body
	}
	if resp.StatusCode < 400 && c.t.Classify == nil && c.t.Retryable == nil {
		return nil // a shortcut: the lines below would return nil, too
	}
	c.final = isFinal(resp)
	outcome := c.t.outcome(resp)
	retryable := c.unrepeatable() == "" && c.t.retryable(c.req, resp, nil)
	if outcome == resilience.Success && !retryable && !retriedStatus(resp.StatusCode) {
		return nil
	}
	return newStatusError(resp.StatusCode, resp.Header, outcome, retryable)
}

// result returns what the caller gets after the policies returned err.
func (c *call) result(err error) (*http.Response, error) {
	if status, ok := c.err.(*StatusError); c.resp != nil && (err == nil || ok && isOnly(err, status)) {
		return c.handOver(), nil
	}
	c.abandon(nil)
	if err == nil {
		err = c.err // a policy dropped the error, but there is no response to return
	}
	if err == nil {
		err = errors.New("httpmw: the policy returned neither an error nor a response")
	}
	return nil, publicError(err)
}

// fallBack calls Transport.Fallback if err is a failure or a rejection. Otherwise, or if
// Fallback returns nil, the caller gets the call's own result.
func (c *call) fallBack(err error) (*http.Response, error) {
	ctx := c.req.Context()
	outcome := resilience.OutcomeOf(ctx, err, nil)
	noAnswer := outcome == resilience.Ignored && (expired(ctx) || ctx.Err() == nil && resilience.Rejected(err))
	if outcome != resilience.Failure && !noAnswer {
		return c.result(err)
	}
	c.Discard()
	resp := c.t.Fallback(c.req, publicError(err))
	if resp == nil {
		return c.result(err)
	}
	resp.Request = c.req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return resp, nil
}

// isOnly reports whether err carries no information beyond s. The end of a context is more
// information, and so is any error joined with s.
func isOnly(err error, s *StatusError) bool {
	return leadsOnlyTo(err, s) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// leadsOnlyTo reports whether each branch of err's tree ends in s.
func leadsOnlyTo(err error, s *StatusError) bool {
	for err != nil && err != error(s) {
		switch e := err.(type) { // a walk of the tree has to look at each error itself
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			for _, branch := range all {
				if !leadsOnlyTo(branch, s) {
					return false
				}
			}
			return len(all) > 0
		default:
			return false
		}
	}
	return err != nil
}

// handOver returns the response for the caller. Its body is replaced only if a policy
// waits for the end of the body.
func (c *call) handOver() *http.Response {
	c.handed = true
	c.resp.Request = c.req
	if c.held && c.body != nil {
		c.resp.Body = c
		if c.resp.StatusCode == http.StatusSwitchingProtocols {
			if w, ok := c.body.(io.Writer); ok {
				c.resp.Body = &duplex{c, w}
			}
		}
	}
	return c.resp
}

// Read reads the response body. The end of the body is the end of the operation.
func (c *call) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	switch err {
	case nil:
	case io.EOF:
		c.End(c.run, nil)
	default:
		err = asDeadlineCause(c.ctx, err)
		c.End(c.run, c.ending(err))
		err = publicError(err)
	}
	return n, err
}

// Close closes the response body, which ends the operation.
func (c *call) Close() error {
	defer c.End(c.run, nil)
	return c.body.Close()
}

// duplex is the body of a response that switched protocols.
type duplex struct {
	io.ReadCloser
	io.Writer
}

// CloseWrite has the signature and the errors of net/http's body.
func (d *duplex) CloseWrite() error {
	if w, ok := d.Writer.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", http.ErrNotSupported)
}
