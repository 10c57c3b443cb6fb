package httpmw

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// closes is a body that counts how often it is closed.
type closes struct {
	io.Reader
	n int
}

func (c *closes) Close() error { c.n++; return nil }

// A body is closed once: when it has been read, and otherwise when the request is over.
func TestHeldBody(t *testing.T) {
	for _, read := range []bool{false, true} {
		sent := &closes{Reader: strings.NewReader("content")}
		_, h := hold(&http.Request{Method: "POST", Body: sent})
		if read {
			_, _ = h.Read(make([]byte, 1))
		}
		h.Close()
		if closed := sent.n == 1; closed != read {
			t.Errorf("read %v: closed %d times before the end", read, sent.n)
		}
		if unread := h.reopen(); unread == read {
			t.Errorf("read %v: may be sent again: %v", read, unread)
		}
		h.Close()
		h.release()
		h.Close()
		if sent.n != 1 {
			t.Errorf("read %v: closed %d times", read, sent.n)
		}
	}
}
