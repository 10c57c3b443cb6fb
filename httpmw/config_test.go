package httpmw_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
)

// Without a Policy, RoundTrip returns an error that says what to set. It closes the body
// and calls neither Base nor Fallback.
func TestTransport_nilPolicyIsAnError(t *testing.T) {
	b := &body{Reader: strings.NewReader("content")}
	tr := &httpmw.Transport{
		Base:     roundTripper(func(*http.Request) (*http.Response, error) { t.Error("Base was called"); return nil, nil }),
		Fallback: func(*http.Request, error) *http.Response { t.Error("Fallback was called"); return nil },
	}
	_, err := tr.RoundTrip(newRequest(t, "PUT", "http://x", b))
	if err == nil || !strings.HasPrefix(err.Error(), "httpmw: Transport.Policy is nil: set it") {
		t.Errorf("error %v", err)
	}
	if resilience.OutcomeOf(t.Context(), err, nil) != resilience.Ignored {
		t.Error("the error counts against the server")
	}
	if b.closed.Load() != 1 {
		t.Errorf("the body was closed %d times", b.closed.Load())
	}
	if _, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil)); err == nil {
		t.Error("no error for a request without a body")
	}
}

// Wrap panics for a nil Policy and for a nil handler, with what to do.
func TestServer_nilFieldsPanicInWrap(t *testing.T) {
	for want, wrap := range map[string]func(){
		"httpmw: Server.Policy is nil: set it": func() { httpmw.Server{}.Wrap(http.NotFoundHandler()) },
		"httpmw: Server.Wrap: the handler is nil: give it": func() {
			httpmw.Server{Policy: resilience.Compose()}.Wrap(nil)
		},
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, want) {
					t.Errorf("panic %q, want %q", text, want)
				}
			}()
			wrap()
		}()
	}
}
