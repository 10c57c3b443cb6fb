package debug_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/debug"
)

// Only GET and HEAD are answered.
func TestHandler_methods(t *testing.T) {
	h := debug.Handler(newBreaker(nil, "b"))
	for _, format := range []string{"", "?format=json"} {
		get := answer(t, h, http.MethodGet, url+format)
		head := answer(t, h, http.MethodHead, url+format)
		if head.Code != http.StatusOK || head.Body.Len() != 0 {
			t.Errorf("HEAD: status %d, %d bytes", head.Code, head.Body.Len())
		}
		for name := range get.Header() {
			if head.Header().Get(name) == "" {
				t.Errorf("HEAD has no %s", name)
			}
		}
		if got := get.Header().Get("Content-Length"); got != strconv.Itoa(get.Body.Len()) {
			t.Errorf("Content-Length %s of %d", got, get.Body.Len())
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"} {
		w := answer(t, h, method, url)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" || strings.Contains(w.Body.String(), "<") {
			t.Errorf("%s: status %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

// Every response forbids what the page does not need.
func TestHandler_securityHeaders(t *testing.T) {
	h := debug.Handler(newBreaker(nil, "b"))
	for _, request := range []struct{ method, url string }{
		{"GET", url}, {"GET", url + "?format=json"}, {"HEAD", url}, {"POST", url},
	} {
		header := answer(t, h, request.method, request.url).Header()
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cache-Control": "no-store", "Vary": "Accept",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", request.method, request.url, name, got, want)
			}
		}
		csp := strings.Split(header.Get("Content-Security-Policy"), "; ")
		want := regexp.MustCompile(`^\[default-src 'none' script-src 'sha256-[\w+/]+=' style-src 'sha256-[\w+/]+=' ` +
			`connect-src 'self' base-uri 'none' form-action 'none' frame-ancestors 'none'\]$`)
		if !want.MatchString(fmt.Sprint(csp)) {
			t.Errorf("%s %s: %q", request.method, request.url, csp)
		}
	}
}

// The content security policy has the hashes of the style and the script.
func TestHandler_contentSecurityPolicy(t *testing.T) {
	w := answer(t, debug.Handler(), http.MethodGet, url)
	found := ours.FindAllStringSubmatch(w.Body.String(), -1)
	if len(found) != 2 {
		t.Fatalf("%d styles and scripts", len(found))
	}
	for _, one := range found {
		file, err := os.ReadFile(map[string]string{"style": "page.css", "script": "page.js"}[one[1]])
		if err != nil || string(file) != one[2] {
			t.Errorf("the %s is not that of the file, %v", one[1], err)
		}
		sum := sha256.Sum256([]byte(one[2]))
		want := one[1] + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, want) {
			t.Errorf("%s lacks %s", csp, want)
		}
	}
	if got := regexp.MustCompile(`(?i)https?:|//[a-z]|@import|\burl\(`).FindAllString(w.Body.String(), -1); len(got) > 0 {
		for _, s := range got {
			if s != "// " {
				t.Errorf("the page names another place: %q", got)
			}
		}
	}
}

// The format follows the query and the Accept header.
func TestHandler_format(t *testing.T) {
	h := debug.Handler()
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, test := range []struct {
		query, accept string
		json          bool
	}{
		{"", "", false},
		{"", "*/*", false},
		{"", browser, false},
		{"", "application/json", true},
		{"", "Application/JSON; charset=utf-8", true},
		{"", "application/json, text/plain, */*", true},
		{"", "text/html, application/json", false},
		{"", "text/html;q=0.5, application/json;q=0.9", true},
		{"", "application/json;q=0", false},
		{"", "application/json;q=x", false},
		{"", "text/html;q=0.9, application/json;q=0.5", false},
		{"?format=json", browser, true},
		{"?format=html", "application/json", false},
		{"?format=", "application/json", true},
	} {
		got := answer(t, h, http.MethodGet, url+test.query, "Accept", test.accept).Header().Get("Content-Type")
		want := "text/html; charset=utf-8"
		if test.json {
			want = "application/json; charset=utf-8"
		}
		if got != want {
			t.Errorf("%q with Accept %q: %s", test.query, test.accept, got)
		}
	}
}

// The page is accessible: captions, scopes, one h1, a language.
func TestPage_accessible(t *testing.T) {
	b := newBreaker(clock.NewMock(), "b")
	run(t, b, fail)
	page := asHTML(t, b, hosts(t, clock.NewMock(), 2))
	found := elements(t, page)
	if found["table"] == 0 || found["caption"] != found["table"] || found["h1"] != 1 {
		t.Errorf("elements %v", found)
	}
	for _, th := range regexp.MustCompile(`<th\b[^>]*>`).FindAllString(page, -1) {
		if !strings.Contains(th, "scope=") {
			t.Errorf("%s has no scope", th)
		}
	}
	if !strings.Contains(page, `<html lang="en">`) || !strings.Contains(page, `name="viewport"`) {
		t.Error("no language or no viewport")
	}
}

// Text has a contrast of 4.5 and other signs of 3 (WCAG 2.1, AA).
func TestPage_contrast(t *testing.T) {
	css, err := os.ReadFile("page.css")
	if err != nil {
		t.Fatal(err)
	}
	themes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllSubmatch(css, -1)
	if len(themes) != 2 {
		t.Fatalf("%d themes", len(themes))
	}
	for i, theme := range themes {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+): #(\w{6});`).FindAllSubmatch(theme[1], -1) {
			colours[string(m[1])] = luminance(t, string(m[2]))
		}
		for _, pair := range []struct {
			a, b  string
			least float64
		}{
			{"ink", "back", 4.5}, {"ink", "card", 4.5}, {"faint", "back", 4.5}, {"faint", "card", 4.5}, {"link", "back", 4.5},
			{"on", "open", 4.5}, {"on", "half", 4.5}, {"closed", "card", 4.5}, {"open", "card", 3}, {"half", "card", 3}, {"open", "back", 3},
		} {
			a, b := colours[pair.a], colours[pair.b]
			if got := (max(a, b) + .05) / (min(a, b) + .05); got < pair.least {
				t.Errorf("theme %d: %s on %s has a contrast of %.1f, want %v", i, pair.a, pair.b, got, pair.least)
			}
		}
	}
}

func luminance(t *testing.T, colour string) float64 {
	rgb, err := strconv.ParseUint(colour, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(shift int) float64 {
		c := float64(rgb>>shift&0xff) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*part(16) + .7152*part(8) + .0722*part(0)
}

// The page is served while calls run; run with -race.
func TestHandler_duringCalls(t *testing.T) {
	b := newBreaker(nil, "b")
	g := hosts(t, nil, 20)
	h := debug.Handler(g, b, resilience.Compose(b))
	done := make(chan struct{})
	var calls, requests sync.WaitGroup
	for i := range 2 {
		calls.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				run(t, g.For(fmt.Sprint("key ", (n+i)%200)), []resilience.Func{succeed, succeed, fail}[n%3])
				run(t, b, []resilience.Func{succeed, fail}[n%2])
				if n%50 == 0 {
					b.Reset()
				}
			}
		})
	}
	for i := range 4 {
		requests.Go(func() {
			for range 5 {
				w := answer(t, h, http.MethodGet, url, "Accept", []string{"text/html", "application/json"}[i%2])
				if w.Code != http.StatusOK || w.Body.Len() < 1000 {
					t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
				}
			}
		})
	}
	requests.Wait()
	close(done)
	calls.Wait()
	r := asJSON(t, g, b)
	states := r.Groups[0].States
	if n := len(r.Groups[0].Keys); states["CLOSED"]+states["OPEN"]+states["HALF_OPEN"] != n || n < 20 {
		t.Errorf("%d keys in %v", n, states)
	}
}
