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
