// Package httpmw puts policies around net/http: [Transport] around the requests of a
// client, [Server] around the handlers of a server.
//
//	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
//
//	mux.Handle("/orders", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
//
// A client gets the responses and errors of net/http, streams included: a response with
// status 503 is a failure for the policies and a response for the caller. A handler keeps
// the abilities of its http.ResponseWriter, and its panics continue to net/http.
//
// [StatusOutcome] decides which responses are failures, on both sides. [DefaultRetryable]
// decides which requests a client retries. [KeyOf] returns the key of a host for
// keyed.Config.Keys.
//
// # Where they are
//
// A Transport is between an http.Client and Base, the transport that sends the requests.
// Transports outside it run once for each call and each redirect. Transports inside it, as
// its Base, run once for each attempt.
//
//	     a request goes in |                    ^ its response comes back
//	                       v                    |
//	+- http.Client --------- redirects, cookies, Timeout ------------------+
//	| +- other transports -- a span, a token, for each call -------------+ |
//	| | +- Transport ------- hands over the last response -------------+ | |
//	| | | +- Policy -------- keyed( retry( breaker( … ---------------+ | | |
//	| | | | +- Base -------- a span, a token, for each attempt ----+ | | | |
//	| | | | |             http.Transport: connections              | | | | |
//
// A Server is between net/http, or a router, and a handler. A rejected request does not
// reach the handler, and its body is not read.
//
//	+- net/http ------------ headers, connections, panics -----------------+
//	| +- other middleware -- a span, a log line, for each request -------+ |
//	| | +- Wrap ------------ answers rejected requests ----------------+ | |
//	| | | +- Policy -------- keyed( limit( timeout( -----------------+ | | |
//	| | | |                  handler: at most once                   | | | |
//
// # Several hops
//
// From the second attempt on, Transport sends the header
//
//	Retry-Attempt: 2
//
// and Server puts the number into the context of its handler. A Transport that the handler
// calls with this context passes the number on, and its retry makes one attempt only. So
// three hops of three attempts each do not turn one call into 27.
//
// An overloaded server answers the requests that its limit rejects with 503 and the header
//
//	Retry-Attempt: 0
//
// which means that no further attempt is wanted: retries would add to the overload. A
// Transport does not send such a request again, whatever its policies decide, and counts
// the response as a success: its breaker stays closed. Other values have no meaning in a
// response. Proxies should pass both headers on. A handler that forwards another service's
// response forwards the header too.
package httpmw
