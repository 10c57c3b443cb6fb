// Package debug serves a page that shows the state of the policies of a process. It shows
// which breakers are open, why, since when and what happens next, and which limits have an
// overload. It needs no metrics server.
//
//	mux.Handle("/debug/resilience", debug.Handler(payments, users))
//
// The page shows names of dependencies and texts of their errors: serve it where you
// serve net/http/pprof, not to the public. It changes nothing. A script of its own
// refreshes it every two seconds. It loads nothing from elsewhere and works without the
// script.
//
// A policy of another module that is a resilience.Reporter gets the same card as ours.
//
// # JSON
//
// A request with "Accept: application/json" or ?format=json gets the same as JSON. Names
// are in snake_case, durations are seconds in fields that end in _seconds, times are RFC
// 3339. A field that does not apply is left out.
//
//	time       of the page
//	summary    text; attention, how many policies need it; modes, how many are in a mode
//	           that was set by hand; states, counts by kind and state
//	policies   all outside of groups, the templates of groups, and the policies of
//	           keyed.Config.Keys
//	groups     the fields of a policy; states, counts of keys by state; keys, each with its
//	           key and its policies
//	others     type and text of policies that do not report
//	faults     policies that could not be read
//
// A policy has these fields:
//
//	kind, name, group, key, template
//	state, attention, mode, since, since_seconds, why, next, retry_at, retry_in_seconds
//	values     name, labels, value (null if it is not a finite number), and max for a gauge
//	           with a bound; the metric is "resilience_", the kind, "_" and the name
//	history    changes of state, the oldest first: time, from, to, mode, reason, failures,
//	           calls, delay_seconds, error
//	settings
//
// The fields and the values of kind, state and mode are stable, and new ones may be added.
// Texts for people may change: text, settings, why, next, reason, error and faults. Names,
// keys and error texts are cut to 200 bytes, and characters that do not print are replaced.
// A policy has at most 1000 values and its last 100 changes of state.
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

// Handler returns a handler that shows the policies and all that resilience.Walk finds
// inside them. A nil policy is skipped, and a policy that is found twice is shown once.
//
// The handler answers GET and HEAD under any path. It keeps nothing but the policies and
// costs nothing to make. A program whose policies change makes one for each request:
//
//	http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//		debug.Handler(clients.Policies()...).ServeHTTP(w, r)
//	})
//
// A request reads the counters of each policy and holds no lock for long. It calls user
// code: the Clock of a Config, and the methods of policies of other modules. If such code
// panics, the page names the policy. If it blocks, the request waits, but no call does.
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

// policyOfContent lets the browser run our script and apply our style only, whatever
// a name or an error contains.
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
