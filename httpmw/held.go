package httpmw

import (
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// heldBody is a request body that cannot be made again. It stays open until it has been read
// or the request is over, so that an unread body can be sent to another endpoint.
type heldBody struct {
	io.ReadCloser
	state atomic.Uint32
	once  sync.Once // closes
	err   error     // of once
}

// The bits of heldBody.state.
const (
	heldRead = 1 << iota
	heldClosed
	heldReleased
)

// hold returns req with its body held, or req and nil if the body can be made again or net/http
// treats its type in a special way.
func hold(req *http.Request) (*http.Request, *heldBody) {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return req, nil
	}
	if _, ok := req.Body.(*os.File); ok {
		return req, nil
	}
	h := &heldBody{ReadCloser: req.Body}
	out := req.WithContext(req.Context())
	out.Body = h
	return out, h
}

// Read reads the body, which then cannot be sent again.
func (h *heldBody) Read(p []byte) (int, error) {
	if h.state.Load()&heldRead == 0 {
		h.state.Or(heldRead)
	}
	return h.ReadCloser.Read(p)
}

// Close closes the body, or has release close it if nothing has read it yet.
func (h *heldBody) Close() error {
	if h.state.Or(heldClosed)&(heldRead|heldReleased) == 0 {
		return nil
	}
	return h.close()
}

// reopen makes a body that is unread ready for another endpoint. It returns false if the body
// has been read.
func (h *heldBody) reopen() bool { return h.state.And(^uint32(heldClosed))&heldRead == 0 }

// release closes the body if Close was called.
func (h *heldBody) release() {
	if h.state.Or(heldReleased)&heldClosed != 0 {
		_ = h.close()
	}
}

func (h *heldBody) close() error {
	h.once.Do(func() { h.err = h.ReadCloser.Close() })
	return h.err
}

// unheld returns the body of req without the wrapper.
func unheld(req *http.Request) io.ReadCloser {
	if h, ok := req.Body.(*heldBody); ok {
		return h.ReadCloser
	}
	return req.Body
}
