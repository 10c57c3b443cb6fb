package migrating_test

import (
	"log"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// A side is a client of one library and the run to make with it.
type side struct {
	client maker
	run    func(*world) string
}

// A difference is a row of a table on the page: the case, the run of the peer, and the
// run here.
type difference struct {
	what       string
	peer, here side
}

// both makes the same run with two clients.
func both(what string, peer, here maker, run func(*world) string) difference {
	return difference{what, side{peer, run}, side{here, run}}
}

// differences are the tables of the page, by the heading of their second column.
func differences() map[string][]difference {
	return map[string][]difference{
		"go-retryablehttp": retryablehttpRows(),
		"failsafehttp":     failsafehttpRows(),
		"gobreaker":        gobreakerRows(),
	}
}

func retryablehttpRows() []difference {
	own := retryablehttp.NewClient().Logger.(*log.Logger)
	talks := hashicorp(func(c *retryablehttp.Client) { c.Logger = own })
	peer, here10 := hashicorp(), here(longerWaits)
	return []difference{
		both("GET, always 503", peer, here(), answered("GET", 503)),
		both("the same with `PassthroughErrorHandler`", hashicorp(passThrough), here(), answered("GET", 503)),
		both("POST, always 503", peer, here(), answered("POST", 503)),
		both("POST with `Idempotency-Key`, always 503", peer, here(), answered("POST", 503, "Idempotency-Key", "1")),
		both("POST, connections refused", peer, here(), refusing),
		both("GET, an untrusted certificate", peer, here(), untrusted),
		both("statuses after which a GET is retried", peer, here(), retried),
		both("waits before attempts, 503", peer, here(), backoff),
		both("PUT of a reader that cannot be rewound, always 503", peer, here(), streamed),
		both("PUT of a `strings.Reader`, always 503", peer, here(), replayed),
		both("503, `Retry-After: 3600`", peer, here(), retryAfter(503, time.Hour, "")),
		both("503, `Retry-After: 3`; here with `MaxDelay` 10 s", peer, here10, retryAfter(503, 3*time.Second, "")),
		both("500, `Retry-After: 3`; here with `MaxDelay` 10 s", peer, here10, retryAfter(500, 3*time.Second, "")),
		both("503, `Retry-After: 60`, a caller with 10 s left", peer, here(), deadline),
		both("always 503 with a body of 10 kB", peer, here(), discarded(10_000)),
		both("a 503 with an endless body, then 200; a caller with 60 s left", peer, here(), endless),
		both("a body that takes 30 s; `HTTPClient.Timeout` and `Attempt.Timeout` 10 s", hashicorp(clientTimeout), here(), download),
		both("no answer; `HTTPClient.Timeout` and `Attempt.Timeout` 10 s", hashicorp(clientTimeout), here(), hanging),
		both("20 GETs, one after another, always 503", peer, here(), inARow),
		both("30 s of 503, 50 calls a second", peer, here(), outage),
		both("a redirect to a URL that is always 503", peer, here(), redirected),
		both("headers that only the second attempt has", peer, here(), added),
		both("a GET after one that ran out of attempts", peer, here(), after),
		both("100 calls at once, a second each", peer, here(), atOnce),
		{"what a successful call logs", side{talks, logged(own)}, side{here(), logged(nil)}},
	}
}

func failsafehttpRows() []difference {
	peer, circuit, quiet := failsafes(failsafeRetry), failsafes(failsafeBreaker), here(noRetry)
	here10, limited := here(longerWaits), failsafes(failsafeRetry, failsafeTimeout)
	return []difference{
		both("GET, always 503", peer, here(), answered("GET", 503)),
		both("the same with `ReturnLastFailure`", failsafes(failsafeLast), here(), answered("GET", 503)),
		both("POST, always 503", peer, here(), answered("POST", 503)),
		both("POST, connections refused", peer, here(), refusing),
		both("GET, an untrusted certificate", peer, here(), untrusted),
		both("statuses after which a GET is retried", peer, here(), retried),
		both("waits before attempts, 503", peer, here(), backoff),
		both("PUT of a reader that cannot be rewound, always 503", peer, here(), streamed),
		both("PUT of a `strings.Reader`, always 503", peer, here(), replayed),
		both("503, `Retry-After: 3600`", peer, here(), retryAfter(503, time.Hour, "")),
		both("503, `Retry-After` a date in 3 s; here with `MaxDelay` 10 s", peer, here10, retryAfter(503, 3*time.Second, http.TimeFormat)),
		both("503, `Retry-After: 60`, a caller with 10 s left", peer, here(), deadline),
		both("always 503 with a body of 10 kB", peer, here(), discarded(10_000)),
		both("20 GETs, one after another, always 503", peer, here(), inARow),
		both("the same with `WithBudget(budget.New())`", failsafes(failsafeBudget), here(), inARow),
		both("headers that only the second attempt has", peer, here(), added),
		both("100 calls at once, a second each", peer, here(), atOnce),
		both("a body that takes 30 s; a timeout of 10 s", failsafes(failsafeTimeout), here(), download),
		both("no answer; a timeout of 10 s inside the retry", limited, here(), hanging),
		both("a call while the body of another is read, bulkheads of 1", failsafes(failsafeBulkhead), here(noRetry, oneAtATime), reading),
		both("connections refused, 100 calls a second", circuit, quiet, opens(unreachable)),
		both("503, 100 calls a second", circuit, quiet, opens(unavailable)),
		both("callers that cancel, 100 calls a second", circuit, quiet, opens(impatient)),
		both("callers whose deadline passes, 100 calls a second", circuit, quiet, opens(late)),
		both("first success after an outage that opened the breaker", circuit, quiet, recovers),
		both("concurrent calls admitted after the first success", circuit, quiet, ramp),
		both("other calls while a probe hangs, without a timeout", circuit, here(noRetry, noAttempt), stuck),
		both("another host while one is down", circuit, quiet, neighbour),
		{"a call while the breaker inside the retry is open", side{nil, againPeer}, side{nil, againHere}},
	}
}

func gobreakerRows() []difference {
	quiet := here(noRetry)
	return []difference{
		both("GET, always 503", byHand, here(), answered("GET", 503)),
		both("connections refused, 100 calls a second", byHand, quiet, opens(unreachable)),
		both("503, 100 calls a second", byHand, quiet, opens(unavailable)),
		both("50 failures at one instant", byHand, quiet, burst),
		both("50 calls a second, half of them fail, for a minute", byHand, quiet, half),
		both("callers that cancel, 100 calls a second", byHand, quiet, opens(impatient)),
		both("callers whose deadline passes, 100 calls a second", byHand, quiet, opens(late)),
		both("first success after an outage that opened the breaker", byHand, quiet, recovers),
		both("concurrent calls admitted after the first success", byHand, quiet, ramp),
		both("other calls while a probe hangs, without a timeout", byHand, here(noRetry, noAttempt), stuck),
		both("another host while one is down", byHand, quiet, neighbour),
		both("the body of a rejected request", byHand, quiet, unsent),
		both("100 calls at once, a second each", byHand, here(), atOnce),
		{"a listener that calls `State`", side{byHand, listenPeer}, side{nil, listenHere}},
	}
}

// Each cell of the tables on the page is the result of a run.
func TestPage_tablesMatchRuns(t *testing.T) {
	page := tables(t)
	for peer := range page {
		if differences()[peer] == nil {
			t.Errorf("nothing was run for the table of %s", peer)
		}
	}
	for peer, rows := range differences() {
		said := page[peer]
		for i, d := range rows {
			t.Run(peer+"/"+d.what, func(t *testing.T) {
				want := row{d.what, inWorld(t, d.peer.client, d.peer.run), inWorld(t, d.here.client, d.here.run)}
				if i >= len(said) || said[i] != want {
					t.Errorf("row %d of the page should be\n%v", i+1, want)
				}
			})
		}
		if len(said) > len(rows) {
			t.Errorf("%s: the page has %d rows, of which %d were run", peer, len(said), len(rows))
		}
	}
}
