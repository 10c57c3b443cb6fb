package interop_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// audit is an http.RoundTripper that counts the calls through it and the response bodies
// that are closed.
type audit struct {
	http.RoundTripper
	idle           func() // closes idle connections
	trips, failed  atomic.Int64
	opened, closed atomic.Int64
	broken         atomic.Int64 // bodies that ended in an error
}

func (a *audit) RoundTrip(req *http.Request) (*http.Response, error) {
	a.trips.Add(1)
	if req.GetBody != nil {
		// HTTP/2 of net/http calls GetBody again by itself. It does not close that body
		// if it finds no connection, so those bodies are not counted.
		req = req.WithContext(req.Context())
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(content()), nil }
	}
	resp, err := a.RoundTripper.RoundTrip(req)
	if err != nil {
		a.failed.Add(1)
		return nil, err
	}
	a.opened.Add(1)
	resp.Body = &audited{ReadCloser: resp.Body, a: a}
	return resp, nil
}

func (a *audit) CloseIdleConnections() { a.idle() }

// audited is a response body. It counts only the first Close.
type audited struct {
	io.ReadCloser
	a            *audit
	once, failed sync.Once
}

func (b *audited) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Do(func() { b.a.broken.Add(1) })
	}
	return n, err
}

func (b *audited) Close() error {
	b.once.Do(func() { b.a.closed.Add(1) })
	return b.ReadCloser.Close()
}

// upload makes request bodies and counts the bodies that were made and closed.
type upload struct{ opened, closed atomic.Int64 }

// content is the body of a request.
func content() io.Reader { return strings.NewReader(strings.Repeat("y", 8<<10)) }

// give sets content as the body of req.
func (u *upload) give(req *http.Request) {
	req.GetBody = func() (io.ReadCloser, error) {
		u.opened.Add(1)
		return &uploaded{Reader: content(), u: u}, nil
	}
	req.Body, _ = req.GetBody()
}

type uploaded struct {
	io.Reader
	u    *upload
	once sync.Once
}

func (b *uploaded) Close() error {
	b.once.Do(func() { b.u.closed.Add(1) })
	return nil
}
