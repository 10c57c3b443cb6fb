package httpmw_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
)

// serveStill is serve on connections in memory, where time goes on only when
// nothing else does: a pause of the machine costs none, and a wait takes none.
func serveStill(t *testing.T, h http.HandlerFunc, f func(t *testing.T, url string, base *http.Transport)) {
	for _, name := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				protocols := new(http.Protocols)
				protocols.SetHTTP1(name == "HTTP/1")
				protocols.SetUnencryptedHTTP2(name == "HTTP/2")
				l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
				s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.ProtoMajor != int(name[5]-'0') {
						t.Errorf("%s in place of %s", r.Proto, name)
					}
					h(w, r)
				})}
				go s.Serve(l)
				defer s.Close()
				base := &http.Transport{Protocols: protocols, DialContext: l.dial}
				defer base.CloseIdleConnections()
				f(t, "http://example.test", base)
			})
		})
	}
}

// pipeListener is a net.Listener in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }
