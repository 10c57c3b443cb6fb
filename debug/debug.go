// Package debug serves a page that says how the policies of a process stand: which
// breakers are open, why, since when and what happens next, and whether a limit found
// an overload, without a server of metrics.
//
//	mux.Handle("/debug/resilience", debug.Handler(payments, users))
//
// The page names dependencies and repeats the texts of their errors: serve it where
// net/http/pprof would be served, not to the world. It changes nothing. It refreshes
// itself every two seconds by a script of its own, loads nothing from elsewhere, and
// works without the script.
//
// # JSON
//
// A request with "Accept: application/json", or with ?format=json, gets the same as
// JSON. Names are in snake_case, durations are seconds in fields that end in
// _seconds, and times are RFC 3339. A field that does not apply is left out: in a group
// a policy with all its counters stands once, with the "group" whose keys it counts
// for, and each key has but what is its own. These are stable: the fields there are,
// with their meaning, and the values of "state" and "mode". New fields may come. What
// is text for people may change: "text", "settings", "why", "next", "reason", "rule",
// "error" and "faults".
//
//	summary     breakers by state, how many are not_closed or not_auto, and how many
//	            limits are overloaded
//	breakers    state, mode, since; why and next; retry_at in OPEN; rules and what they
//	            have counted in CLOSED; probing in HALF_OPEN; history, the oldest
//	            transition first, and began, with which the outage did; calls
//	groups      the keys, each with the breakers, retries, bulkheads and limits of its own
//	retries     budget and calls
//	bulkheads   in_flight, waiting and limit, and calls
//	limits      state, in_flight, waiting, limit and knee, and calls, with tests by result
//	timeouts, fallbacks, others
//	faults      what could not be asked
//
// since_seconds is the age of the state, open_now_seconds how long the present OPEN has
// lasted, which open_seconds among the calls includes.
//
// Names, keys and texts of errors are cut to 200 bytes, and what is not a character
// to print is replaced in them.
package debug

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/resilience-go/resilience"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// handler serves the page of its policies.
type handler struct{ policies []resilience.Policy }

// Handler returns a handler that shows the policies and all that is inside of them,
// as resilience.All finds it, with the keys of each keyed.Group. One that is nil is
// skipped and one that stands in two places is shown once. Of other policies, a
// metrics.Histogram among them, it shows what they say of themselves.
//
// It answers GET and HEAD, under whatever path. It keeps nothing but the policies and
// costs nothing to make: a program that gets more of them as it runs makes one for
// each request,
//
//	http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//		debug.Handler(clients.Policies()...).ServeHTTP(w, r)
//	})
//
// A request reads the counters of each policy and locks nothing for long: with a
// thousand keys it takes some 60 ms of one processor. It calls
// code of the user: the Clock of a Config, and Unwrap and String or Name of policies
// that are not of this module. One that panics is named on the page, and one that
// blocks holds up the request, but no call.
//
// The handler is safe for concurrent use.
func Handler(policies ...resilience.Policy) http.Handler {
	return &handler{slices.Clone(policies)}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET or HEAD: the page changes nothing", http.StatusMethodNotAllowed)
		return
	}
	var body bytes.Buffer
	var err error
	if wantsJSON(r) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		e := json.NewEncoder(&body)
		e.SetIndent("", "  ")
		err = e.Encode(gather(h.policies))
	} else {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		err = html.Execute(&body, document{gather(h.policies), template.CSS(pageCSS), template.JS(pageJS)})
	}
	if err != nil {
		http.Error(w, "the page cannot be made: "+clip(err.Error()), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body.Bytes()) // the client may have gone
	}
}

// document is what page.html is executed with.
type document struct {
	*page
	Style  template.CSS
	Script template.JS
}

var html = template.Must(template.New("page").Parse(pageHTML))

// policyOfContent lets the browser run our script and apply our style, and nothing
// else, whatever a name or an error may hold.
var policyOfContent = strings.Join([]string{
	"default-src 'none'",
	"script-src " + hash(pageJS),
	"style-src " + hash(pageCSS),
	"connect-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
}, "; ")

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// protect sets the headers that all answers have.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", policyOfContent)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
}

// wantsJSON reports whether the answer is to be JSON: by ?format=json, or because
// Accept names application/json and nothing says that HTML is as welcome.
func wantsJSON(r *http.Request) bool {
	if format := r.URL.Query().Get("format"); format != "" {
		return format == "json"
	}
	var asJSON, asHTML float64
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "application/json":
				asJSON = max(asJSON, quality(params))
			case "text/html":
				asHTML = max(asHTML, quality(params))
			}
		}
	}
	return asJSON > asHTML
}

// quality returns the q among the parameters of a media range, 1 if there is none.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}
