package httpmw

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/resilience-go/resilience"
)

// recorder is the http.ResponseWriter of a handler. It passes all calls on, stores the status
// code, and calls Early.Answer when a stream or an upgrade begins.
type recorder struct {
	inner    http.ResponseWriter
	r        *http.Request // the server's
	early    resilience.Early
	outside  *headers // of middleware outside, nil before the handler can change them
	status   int16    // 0 before a final status is sent
	hijacked bool

	// The fields below belong to the exchange. They are here because they fit into the
	// padding after status.

	ran     bool
	left    bool // the client seemed to have left before the request arrived
	late    bool // the client seemed to have left before the status was sent
	aborted bool // the handler panicked with http.ErrAbortHandler
	silent  bool // the handler returned without a response, and no policy ended its context
}

// setAnswered settles the policies that wait for the answer: the response has begun.
func (w *recorder) setAnswered() { w.early.Answer(w.clientLeft()) }

// clientLeft returns the error of a request whose client has left, nil for other requests.
func (w *recorder) clientLeft() error {
	if ctx := w.r.Context(); canceled(ctx) {
		return leftError(ctx)
	}
	return nil
}

// begun reports whether the response has begun.
func (w *recorder) begun() bool { return w.status != 0 || w.hijacked }

// begin stores the status that begins the response.
func (w *recorder) begin(code int) {
	if w.status == 0 {
		w.status, w.late = int16(code), canceled(w.r.Context())
	}
}

// wrote stores the status 200 of a body that is written before a status.
func (w *recorder) wrote() { w.begin(http.StatusOK) }

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.inner }

// Header returns the header of the inner writer. The first call stores what middleware
// outside has set. It is not stored earlier, because net/http copies the header of a
// handler that calls Header, and only of such a handler.
func (w *recorder) Header() http.Header {
	h := w.inner.Header()
	if w.outside == nil && w.status == 0 {
		w.outside = keepHeaders(h)
	}
	return h
}

// headers are the elements of an http.Header.
type headers []header

type header struct {
	key    string
	values []string
}

var (
	noHeaders   headers
	headersPool = sync.Pool{New: func() any { return new(headers) }}
)

// keepHeaders returns the elements of h, without a copy of the values: methods of
// http.Header replace values and append to them.
func keepHeaders(h http.Header) *headers {
	if len(h) == 0 {
		return &noHeaders
	}
	kept := headersPool.Get().(*headers)
	*kept = slices.Grow(*kept, len(h))
	for key, values := range h {
		*kept = append(*kept, header{key, values})
	}
	return kept
}

// restoreHeader removes what the handler has changed in the header of a response that has
// not begun.
func (w *recorder) restoreHeader() {
	if w.outside == nil {
		return // the handler has not called Header
	}
	h := w.inner.Header()
	clear(h)
	for _, e := range *w.outside {
		h[e.key] = e.values
	}
}

// freeHeaders ends the use of the stored headers.
func (w *recorder) freeHeaders() {
	if kept := w.outside; kept != nil && kept != &noHeaders {
		clear(*kept)
		*kept = (*kept)[:0]
		headersPool.Put(kept)
	}
}

// WriteHeader stores a final status: 101, and all from 200 on. Other statuses of 1xx come
// before the final one. net/http panics for a status without three digits.
func (w *recorder) WriteHeader(code int) {
	if code >= 200 && code <= 999 || code == http.StatusSwitchingProtocols {
		w.begin(code)
	}
	w.inner.WriteHeader(code)
	if w.status == http.StatusSwitchingProtocols {
		w.setAnswered()
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.wrote()
	return w.inner.Write(p)
}

// WriteString implements io.StringWriter, as the server's writer does.
func (w *recorder) WriteString(s string) (int, error) {
	w.wrote()
	return io.WriteString(w.inner, s)
}

// flush implements Flush and FlushError. http.ResponseController prefers FlushError.
func (w *recorder) flush() (err error) {
	if f, ok := w.inner.(interface{ FlushError() error }); ok {
		err = f.FlushError()
	} else {
		w.inner.(http.Flusher).Flush()
	}
	return w.flushed(err)
}

// flushThrough is FlushError of a writer whose inner writer is not an http.Flusher, but may
// lead to one by Unwrap. Only http.ResponseController calls FlushError. Without it, a
// response that begins with such a flush would go unnoticed.
func (w *recorder) flushThrough() error {
	return w.flushed(http.NewResponseController(w.inner).Flush())
}

// flushed records a flush that returned err, and returns err. A flush begins the response,
// also if it fails, unless the inner writer cannot flush. A flush that succeeds answers.
func (w *recorder) flushed(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return err
	}
	w.wrote()
	if err == nil {
		w.setAnswered()
	}
	return err
}

func (w *recorder) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.inner.(http.Hijacker).Hijack()
	if err == nil {
		w.hijacked = true
		w.setAnswered()
	}
	return conn, rw, err
}

// readFrom implements ReadFrom. A source that fails or ends before its first byte does not
// begin the response, so the handler can still send a status. Whether the ReadFrom of the
// inner writer begins it depends on that writer, so readFrom reads the first bytes itself
// and writes them by Write, which always begins the response. The inner writer gets src
// unwrapped for the rest: net/http sends a file by sendfile.
func (w *recorder) readFrom(src io.Reader) (n int64, err error) {
	if w.status == 0 {
		switch n, err = w.copyFirst(src); err {
		case nil:
		case io.EOF:
			return n, nil
		default:
			return n, err
		}
	}
	rest, err := w.inner.(io.ReaderFrom).ReadFrom(src)
	return n + rest, err
}

// firstSize is the most bytes that copyFirst copies: as many as net/http needs to detect
// a content type.
const firstSize = 512

var firstBuffers = sync.Pool{New: func() any { return new([firstSize]byte) }}

// copyFirst copies what one read of src returns, at least one byte unless src fails. At
// the end of src it returns io.EOF.
func (w *recorder) copyFirst(src io.Reader) (int64, error) {
	buf := firstBuffers.Get().(*[firstSize]byte)
	defer firstBuffers.Put(buf)
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = src.Read(buf[:])
	}
	if n == 0 {
		return 0, err
	}
	written, failed := w.Write(buf[:n])
	switch {
	case failed != nil:
		err = failed
	case written < n:
		err = io.ErrShortWrite
	}
	return int64(written), err
}

// closeNotify implements http.CloseNotifier, which is deprecated. Handlers that still assert
// it would panic without it.
func (w *recorder) closeNotify() <-chan bool { return w.inner.(closeNotifier).CloseNotify() }

type closeNotifier interface{ CloseNotify() <-chan bool }

func (w *recorder) push(target string, opts *http.PushOptions) error {
	return w.inner.(http.Pusher).Push(target, opts)
}

// A handler finds the abilities of its writer by type assertion, so each set of optional
// interfaces needs a type. The types are in writer_sets.go, which a test generates:
//
//go:generate go test -run=^TestWriterSets_generated$ -update

// Bits of an index into writerSets.
const (
	canFlush = 1 << iota
	canHijack
	canReadFrom
	canPush
	canCloseNotify
)

// writer returns e as an http.ResponseWriter with exactly the optional interfaces of the
// server's writer. It allocates nothing.
func (e *exchange) writer() http.ResponseWriter {
	set := 0
	if _, ok := e.inner.(http.Flusher); ok {
		set |= canFlush
	}
	if _, ok := e.inner.(http.Hijacker); ok {
		set |= canHijack
	}
	if _, ok := e.inner.(io.ReaderFrom); ok {
		set |= canReadFrom
	}
	if _, ok := e.inner.(http.Pusher); ok {
		set |= canPush
	}
	if _, ok := e.inner.(closeNotifier); ok {
		set |= canCloseNotify
	}
	return writerSets[set](e)
}
