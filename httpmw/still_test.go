package httpmw_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

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
