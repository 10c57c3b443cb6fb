package interop_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"
)

// tokens returns a new token per call, and an error for the first fail calls.
type tokens struct {
	made atomic.Int32
	fail atomic.Int32 // so many calls
}

var errNoToken = errors.New("no token")

func (s *tokens) Token() (*oauth2.Token, error) {
	if s.fail.Add(-1) >= 0 {
		return nil, errNoToken
	}
	s.made.Add(1)
	return &oauth2.Token{AccessToken: "secret", TokenType: "Bearer"}, nil
}

// authorized answers the first request with 503, and rejects requests without a token.
func authorized() http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case n.Add(1) == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.Write(b)
		}
	}
}

// OAuth2 adds one token per call outside the transport, and one per attempt inside it.
func TestOAuth2_tokensPerCallOrAttempt(t *testing.T) {
	for name, test := range map[string]struct {
		wrap func(base http.RoundTripper, s oauth2.TokenSource) (http.RoundTripper, guard)
		made int32
	}{
		"oauth2 outside": {func(base http.RoundTripper, s oauth2.TokenSource) (http.RoundTripper, guard) {
			g := newGuard(base)
			return &oauth2.Transport{Source: s, Base: g}, g
		}, 1},
		"oauth2 inside": {func(base http.RoundTripper, s oauth2.TokenSource) (http.RoundTripper, guard) {
			g := newGuard(&oauth2.Transport{Source: s, Base: base})
			return g, g
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range kinds {
				url, base := serve(t, kind, authorized())
				source := &tokens{}
				rt, g := test.wrap(base, source)
				req := request(t, "PUT", url, strings.NewReader("content"))
				status, got := fetch(t, &http.Client{Transport: rt}, req)
				if status != 200 || got != "content" {
					t.Errorf("%s: got %d %q", kind, status, got)
				}
				if made := source.made.Load(); made != test.made {
					t.Errorf("%s: %d tokens, want %d", kind, made, test.made)
				}
				if len(req.Header) != 0 {
					t.Errorf("%s: the request of the caller has %v", kind, req.Header)
				}
				free(t, g.slots)
			}
		})
	}
}

// If a token fails once, the next attempt requests another one. Nothing is sent without
// a token, and the body is there although the first one was closed.
func TestOAuth2_tokenFailsOnce(t *testing.T) {
	url, base := serve(t, "HTTP/1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	}))
	source := &tokens{}
	source.fail.Store(1)
	g := newGuard(&oauth2.Transport{Source: source, Base: base})
	if status, got := fetch(t, g.client(), request(t, "PUT", url, strings.NewReader("content"))); status != 200 || got != "content" {
		t.Errorf("got %d %q", status, got)
	}
	free(t, g.slots)
}

// If the token always fails, its error is the caller's error.
func TestOAuth2_tokenFails(t *testing.T) {
	source := &tokens{}
	source.fail.Store(100)
	g := newGuard(&oauth2.Transport{Source: source})
	resp, err := g.client().Do(request(t, "PUT", "http://localhost", strings.NewReader("content")))
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, errNoToken) {
		t.Errorf("error %v", err)
	}
	free(t, g.slots)
}
