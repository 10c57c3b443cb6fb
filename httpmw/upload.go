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

// watched is a call that watches the request body, which may fail. One type for both
// makes them one allocation.
type watched struct {
	call
	first sent
}

// sent is the request of one attempt whose body is watched: an error of the caller's reader
// is no evidence about the server, and the error of net/http does not show where it comes
// from.
type sent struct {
	req      http.Request // a copy of the caller's request, with body as its Body
	body     upload
	getBody  func() (io.ReadCloser, error) // the caller's
	failed   atomic.Bool                   // the caller's reader or getBody returned an error
	closeErr atomic.Pointer[error]         // what the reader's Close returned
}

// watch makes s.req send body through s.
func (s *sent) watch(body io.ReadCloser) {
	s.body = upload{ReadCloser: body, sent: s}
	s.req.Body = &s.body
	if s.req.GetBody != nil { // net/http calls it if it replays the request
		s.getBody = s.req.GetBody
		s.req.GetBody = s.bodyAgain
	}
}

func (s *sent) bodyAgain() (io.ReadCloser, error) {
	body, err := s.getBody()
	if err != nil {
		s.failed.Store(true)
		return nil, err
	}
	return &upload{ReadCloser: body, sent: s}, nil
}

// caused reports whether the caller's reader is the reason for err, which ended the
// attempt.
func (s *sent) caused(err error) bool {
	if s.failed.Load() {
		return true
	}
	closeErr := s.closeErr.Load()
	return closeErr != nil && errors.Is(err, *closeErr)
}

// upload is the caller's body as Base reads it.
type upload struct {
	io.ReadCloser
	sent   *sent
	n      int64 // bytes read
	closed atomic.Bool
}

// Read reads the caller's body. An error after Close is a consequence of the attempt's end
// and not its cause.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.n += int64(n)
	failed := err != nil && err != io.EOF
	if length := u.sent.req.ContentLength; length > 0 { // otherwise it is unknown
		failed = failed || u.n > length || err == io.EOF && u.n < length
	}
	if failed && !u.closed.Load() {
		u.sent.failed.Store(true)
	}
	return n, err
}

// Close closes the caller's body. Over HTTP/1, its error is the result of the attempt.
func (u *upload) Close() error {
	u.closed.Store(true)
	err := u.ReadCloser.Close()
	if err != nil {
		u.sent.closeErr.Store(&err)
	}
	return err
}

// mayFail reports whether a call has to watch body. A Read from memory never fails, and the
// error of a file has the file's name. net/http sends both faster if it sees their type:
// memory in fewer packets, files without a copy.
func mayFail(body io.ReadCloser) bool {
	if body == nil || body == http.NoBody {
		return false
	}
	var r io.Reader = body
	switch reflect.TypeOf(body) {
	case nopCloser, nopCloserWriterTo:
		r = reflect.ValueOf(body).Field(0).Interface().(io.Reader)
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
