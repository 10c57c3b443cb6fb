package httpmw_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience/httpmw"
)

// http.TimeoutHandler around a Server answers, and the slot stays held until the handler
// returns.
func TestServer_timeoutHandlerOutside(t *testing.T) {
	for name, test := range map[string]struct {
		chain func(s httpmw.Server, h http.Handler) http.Handler
		held  int
	}{
		"around": {func(s httpmw.Server, h http.Handler) http.Handler {
			return http.TimeoutHandler(s.Wrap(h), time.Second, "too late")
		}, 1},
		"inside": {func(s httpmw.Server, h http.Handler) http.Handler {
			return s.Wrap(http.TimeoutHandler(h, time.Second, "too late"))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slots := newBulkhead(1)
				proceed, wrote := make(chan bool), make(chan error)
				h := test.chain(httpmw.Server{Policy: slots}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					<-proceed
					_, err := io.WriteString(w, "done")
					wrote <- err
				}))
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				if w.Code != 503 || w.Body.String() != "too late" {
					t.Errorf("got %d %q", w.Code, w.Body)
				}
				if held := slots.Stats().InFlight; held != test.held {
					t.Errorf("%d slots are held while the handler runs, want %d", held, test.held)
				}
				close(proceed)
				if err := <-wrote; !errors.Is(err, http.ErrHandlerTimeout) {
					t.Errorf("it could write after the answer: %v", err)
				}
				synctest.Wait()
				if held := slots.Stats().InFlight; held != 0 {
					t.Errorf("%d slots are held when all is over", held)
				}
			})
		})
	}
}
