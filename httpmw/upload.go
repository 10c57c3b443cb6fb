package httpmw

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
)

// upload is the caller's body as Base reads it. It records whether the body failed.
type upload struct {
	io.ReadCloser
	attempt *attempt
	n       int64       // bytes read
	ended   atomic.Bool // it was read to its end
	closed  atomic.Bool
}

// Read reads the caller's body. An error after Close is a consequence of the attempt's end
// and not its cause. If the context ends during a Read, attempt.reading stays true.
func (u *upload) Read(p []byte) (int, error) {
	ctx := u.attempt.req.Context()
	if ctx.Err() == nil {
		u.attempt.reading.Store(true)
	}
	n, err := u.ReadCloser.Read(p)
	if ctx.Err() == nil {
		u.attempt.reading.Store(false)
	}
	u.n += int64(n)
	failed := err != nil && err != io.EOF
	if length := u.attempt.req.ContentLength; length > 0 { // otherwise it is unknown
		failed = failed || u.n > length || err == io.EOF && u.n < length
	}
	if err == io.EOF || u.n == u.attempt.req.ContentLength {
		u.ended.Store(true)
	}
	if failed && !u.closed.Load() {
		u.attempt.failed.Store(true)
	}
	return n, err
}

// Close closes the caller's body. If the body was read to its end, its error is the result of
// the attempt over HTTP/1. Otherwise the attempt has ended, for a reason of its own.
func (u *upload) Close() error {
	u.closed.Store(true)
	err := u.ReadCloser.Close()
	if err != nil && u.ended.Load() {
		u.attempt.closeErr.Store(&err)
	}
	return err
}

// mayFail reports whether a call has to watch body. It need not watch memory, whose Read never
// fails, or a file, whose errors have its name. net/http sends both faster if it sees their
// type: memory in fewer packets, files without a copy.
func mayFail(body io.ReadCloser) bool {
	if body == nil || body == http.NoBody {
		return false
	}
	var r io.Reader = body
	switch reflect.TypeOf(body) {
	case nopCloser, nopCloserWriterTo:
		r, _ = reflect.ValueOf(body).Field(0).Interface().(io.Reader) // nil for io.NopCloser(nil)
	}
	switch r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return false
	}
	_, file := body.(*os.File)
	return !file
}

// The types of bodies that http.NewRequest makes of an io.Reader.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

// fileCaused reports whether err is an error of body, if that is a file.
func fileCaused(body io.ReadCloser, err error) bool {
	file, ok := body.(*os.File)
	if !ok || file == nil {
		return false
	}
	e, ok := errors.AsType[*fs.PathError](err)
	return ok && e.Path == file.Name()
}
