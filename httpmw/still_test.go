package httpmw_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
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
				l := testkit.NewListener()
				s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.ProtoMajor != int(name[5]-'0') {
						t.Errorf("%s instead of %s", r.Proto, name)
					}
					h(w, r)
				})}
				go s.Serve(l)
				defer s.Close()
				base := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return l.Dial(ctx)
				}}
				defer base.CloseIdleConnections()
				f(t, "http://example.test", base)
			})
		})
	}
}

// deadable is a connection that can go dead: it stays open, and nothing gets through.
type deadable struct {
	net.Conn
	dead   *atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (d *deadable) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	if d.dead.Load() {
		<-d.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (d *deadable) Write(p []byte) (int, error) {
	if d.dead.Load() {
		return len(p), nil
	}
	return d.Conn.Write(p)
}

func (d *deadable) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// With the pings that docs/http.md describes, calls work again a few seconds after an HTTP/2
// connection has died. Without them they do not, though new connections work.
func TestTransport_deadHTTP2Connection(t *testing.T) {
	for _, pings := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			l := testkit.NewListener()
			s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
			go s.Serve(l)
			defer s.Close()
			var all []*atomic.Bool
			base := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				conn, err := l.Dial(ctx)
				all = append(all, new(atomic.Bool))
				return &deadable{Conn: conn, dead: all[len(all)-1], closed: make(chan struct{})}, err
			}}
			if pings {
				base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 2 * time.Second}
			}
			tr := &httpmw.Transport{Base: base, Policy: newTimeout(time.Second, resilience.Answered)}
			get := func() error {
				resp, err := tr.RoundTrip(newRequest(t, "GET", "http://example.test", nil))
				if err == nil {
					resp.Body.Close()
				}
				return err
			}
			if err := get(); err != nil {
				t.Fatal(err)
			}
			all[0].Store(true)
			failed := 0
			for failed < 60 && get() != nil {
				failed++
			}
			if pings && failed > 8 || !pings && failed < 60 {
				t.Errorf("pings %v: %d calls of a second failed", pings, failed)
			}
			all[0].Store(false)
			base.CloseIdleConnections()
		})
	}
}
