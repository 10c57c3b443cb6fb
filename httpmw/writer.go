package httpmw

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/resilience-go/resilience"
)

// recorder is the http.ResponseWriter of a handler. It passes everything on,
// remembers the status code, and tells those who wait when a stream or an upgrade
// begins: from then on the handler goes on for as long as its client likes.
type recorder struct {
	inner    http.ResponseWriter
	r        *http.Request // as the server has it
	early    resilience.Early
	status   int16 // 0 while no final status was sent
	hijacked bool
	// Of the exchange. Here they fit in beside the status:
	ran     bool
	left    bool // the client had left, as it seems, when the request came
	aborted bool // the handler panicked with http.ErrAbortHandler
}

// answered tells those who wait that the client is being answered, if it is there.
func (w *recorder) answered() { w.early.Answer(w.gone()) }

// gone returns the error of a request whose client has left, nil for others.
func (w *recorder) gone() error {
	if ctx := w.r.Context(); canceled(ctx) {
		return &goneError{resilience.ContextError(ctx)}
	}
	return nil
}

// begun reports whether the handler has begun to answer.
func (w *recorder) begun() bool { return w.status != 0 || w.hijacked }

// wrote notes what a body without a status before it implies.
func (w *recorder) wrote() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

// Unwrap is what http.ResponseController asks for.
func (w *recorder) Unwrap() http.ResponseWriter { return w.inner }

func (w *recorder) Header() http.Header { return w.inner.Header() }

// WriteHeader notes the status, but for 1xx: these only announce it. 101 is final.
// That of more than three digits is none: net/http panics.
func (w *recorder) WriteHeader(code int) {
	if w.status == 0 && (code >= 200 && code <= 999 || code == http.StatusSwitchingProtocols) {
		w.status = int16(code)
	}
	w.inner.WriteHeader(code)
	if w.status == http.StatusSwitchingProtocols {
		w.answered()
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.wrote()
	return w.inner.Write(p)
}

// WriteString is what io.WriteString asks for. It does what that would do if it
// were not there.
func (w *recorder) WriteString(s string) (int, error) {
	w.wrote()
	return io.WriteString(w.inner, s)
}

// flush is both Flush and FlushError, which http.ResponseController prefers.
func (w *recorder) flush() error {
	w.wrote()
	if f, ok := w.inner.(interface{ FlushError() error }); ok {
		if err := f.FlushError(); err != nil {
			return err
		}
	} else {
		w.inner.(http.Flusher).Flush()
	}
	w.answered()
	return nil
}

// flushThrough flushes for an inner writer that is no http.Flusher, but may lead to
// one by Unwrap. As FlushError it is seen by http.ResponseController and nobody
// else; without it, a body begun in this way would go unnoticed.
func (w *recorder) flushThrough() error {
	err := http.NewResponseController(w.inner).Flush()
	if err == nil {
		w.wrote()
		w.answered()
	}
	return err
}

func (w *recorder) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.inner.(http.Hijacker).Hijack()
	if err == nil {
		w.hijacked = true
		w.answered()
	}
	return conn, rw, err
}

func (w *recorder) readFrom(r io.Reader) (int64, error) {
	w.wrote()
	return w.inner.(io.ReaderFrom).ReadFrom(r)
}

// closeNotify is that of http.CloseNotifier, an interface as old as it is
// deprecated. Handlers that still assert it would panic without.
func (w *recorder) closeNotify() <-chan bool { return w.inner.(closeNotifier).CloseNotify() }

type closeNotifier interface{ CloseNotify() <-chan bool }

func (w *recorder) push(target string, opts *http.PushOptions) error {
	return w.inner.(http.Pusher).Push(target, opts)
}

// A handler finds out by assertion what its writer can do, so each set of
// optional interfaces takes a type. All are an exchange under another name:
// converting the pointer picks the methods and allocates nothing. The letters
// stand for Flusher, Hijacker, ReaderFrom and Pusher.
type (
	plain     exchange
	writerF   exchange
	writerH   exchange
	writerFH  exchange
	writerR   exchange
	writerFR  exchange
	writerHR  exchange
	writerFHR exchange
	writerFP  exchange
)

func (w *writerF) Flush()              { _ = w.flush() }
func (w *writerFH) Flush()             { _ = w.flush() }
func (w *writerFR) Flush()             { _ = w.flush() }
func (w *writerFHR) Flush()            { _ = w.flush() }
func (w *writerFP) Flush()             { _ = w.flush() }
func (w *writerF) FlushError() error   { return w.flush() }
func (w *writerFH) FlushError() error  { return w.flush() }
func (w *writerFR) FlushError() error  { return w.flush() }
func (w *writerFHR) FlushError() error { return w.flush() }
func (w *writerFP) FlushError() error  { return w.flush() }
func (w *plain) FlushError() error     { return w.flushThrough() }
func (w *writerH) FlushError() error   { return w.flushThrough() }
func (w *writerR) FlushError() error   { return w.flushThrough() }
func (w *writerHR) FlushError() error  { return w.flushThrough() }

func (w *writerH) Hijack() (net.Conn, *bufio.ReadWriter, error)   { return w.hijack() }
func (w *writerFH) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return w.hijack() }
func (w *writerHR) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return w.hijack() }
func (w *writerFHR) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

func (w *writerR) ReadFrom(r io.Reader) (int64, error)   { return w.readFrom(r) }
func (w *writerFR) ReadFrom(r io.Reader) (int64, error)  { return w.readFrom(r) }
func (w *writerHR) ReadFrom(r io.Reader) (int64, error)  { return w.readFrom(r) }
func (w *writerFHR) ReadFrom(r io.Reader) (int64, error) { return w.readFrom(r) }

func (w *writerFP) Push(target string, opts *http.PushOptions) error { return w.push(target, opts) }

// The same once more for writers that are a http.CloseNotifier. A struct of one
// pointer in an interface allocates nothing either.
type (
	closerC    struct{ *plain }
	closerFC   struct{ *writerF }
	closerHC   struct{ *writerH }
	closerFHC  struct{ *writerFH }
	closerRC   struct{ *writerR }
	closerFRC  struct{ *writerFR }
	closerHRC  struct{ *writerHR }
	closerFHRC struct{ *writerFHR }
	closerFPC  struct{ *writerFP }
)

func (w closerC) CloseNotify() <-chan bool    { return w.closeNotify() }
func (w closerFC) CloseNotify() <-chan bool   { return w.closeNotify() }
func (w closerHC) CloseNotify() <-chan bool   { return w.closeNotify() }
func (w closerFHC) CloseNotify() <-chan bool  { return w.closeNotify() }
func (w closerRC) CloseNotify() <-chan bool   { return w.closeNotify() }
func (w closerFRC) CloseNotify() <-chan bool  { return w.closeNotify() }
func (w closerHRC) CloseNotify() <-chan bool  { return w.closeNotify() }
func (w closerFHRC) CloseNotify() <-chan bool { return w.closeNotify() }
func (w closerFPC) CloseNotify() <-chan bool  { return w.closeNotify() }

// writer returns e as an http.ResponseWriter with the optional interfaces that
// the one of the server has.
func (e *exchange) writer() http.ResponseWriter {
	_, f := e.inner.(http.Flusher)
	_, h := e.inner.(http.Hijacker)
	_, r := e.inner.(io.ReaderFrom)
	_, c := e.inner.(closeNotifier)
	switch {
	case f && h && r: // HTTP/1
		return either(c, closerFHRC{(*writerFHR)(e)}, (*writerFHR)(e))
	case f && !h && !r:
		if _, p := e.inner.(http.Pusher); p { // HTTP/2
			return either(c, closerFPC{(*writerFP)(e)}, (*writerFP)(e))
		}
		return either(c, closerFC{(*writerF)(e)}, (*writerF)(e))
	case f && h:
		return either(c, closerFHC{(*writerFH)(e)}, (*writerFH)(e))
	case f:
		return either(c, closerFRC{(*writerFR)(e)}, (*writerFR)(e))
	case h && r:
		return either(c, closerHRC{(*writerHR)(e)}, (*writerHR)(e))
	case h:
		return either(c, closerHC{(*writerH)(e)}, (*writerH)(e))
	case r:
		return either(c, closerRC{(*writerR)(e)}, (*writerR)(e))
	default:
		return either(c, closerC{(*plain)(e)}, (*plain)(e))
	}
}

func either(first bool, a, b http.ResponseWriter) http.ResponseWriter {
	if first {
		return a
	}
	return b
}
