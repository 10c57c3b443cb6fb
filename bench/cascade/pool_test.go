package cascade_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"golang.org/x/sync/semaphore"
)

// pool is how many requests a service works on at a time.
const pool = 50

// request is an operation with a key, as an adapter would make it.
type request struct {
	resilience.Func
	key string
}

func (r request) Key() string { return r.key }

// half is what became of the requests that need one of the two dependencies.
type half struct {
	calls, ok int
	took      []time.Duration // of those that went well
}

func (h *half) success() float64 { return 100 * float64(h.ok) / float64(h.calls) }

func (h *half) p99() time.Duration {
	slices.Sort(h.took)
	return h.took[len(h.took)*99/100]
}

// A need is how well the service behind /y works.
type need struct {
	name  string
	lead  time.Duration // as in scenario
	reply func(time.Duration, *rand.Rand) answer
	work  func(at, busy time.Duration) time.Duration
	// reported says that there is no demand. A dependency that pauses and then hangs has the
	// pool of its caller for as long as it could be a pause. One that hangs from the first
	// call on has it until the first timeout: before that, a burst is no evidence.
	reported bool
}

var needs = []need{
	{name: "0 %"},
	{name: "82 %", reply: some(hangs, 0.82)},
	{name: "100 %", reply: some(hangs, 1)},
	{name: "100 %, after 1 s", lead: time.Second, reply: some(hangs, 1)},
	{name: "100 %, from the first call on", lead: cold, reply: some(hangs, 1), reported: true},
	{name: "100 %, after three pauses of 400 ms", reply: beginning(10*time.Second, some(hangs, 1)), work: pausing(400 * time.Millisecond), reported: true},
}

// share simulates a service with 500 requests a second: half of them need /x, the
// others /y. A request that finds all of the pool at work waits for its turn.
func share(t *testing.T, a arm, n need) (x, y half) {
	synctest.Test(t, func(*testing.T) {
		before := max(0, cmp.Or(n.lead, lead))
		begin := time.Now().Add(before)
		policy, workers := a.policy(), semaphore.NewWeighted(pool)
		good, bad := newServer(usual, begin, nil), newServer(usual, begin, n.reply)
		bad.work = n.work
		var mu sync.Mutex // guards x and y
		alone.run(0, before+20*time.Second, nil, func(_ int, luck *rand.Rand) {
			key, to, of := "/x", good, &x
			if luck.IntN(2) == 0 {
				key, to, of = "/y", bad, &y
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), patience*attempt)
			defer cancel()
			err := workers.Acquire(ctx, 1)
			if err == nil {
				err = resilience.RunOperation(ctx, policy, request{func(ctx context.Context) error { return to.serve(ctx, luck) }, key})
				workers.Release(1)
			}
			if began.Before(begin) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			of.calls++
			if err == nil {
				of.ok++
				of.took = append(of.took, time.Since(began))
			}
		})
	})
	return x, y
}

// A dependency that hangs costs the calls to another dependency nothing. The requests
// that need /x are compared with a run in which /y is in good health.
func TestClient_hangingDependencyCostsOthersNothing(t *testing.T) {
	rows := []string{
		"| /y hangs | client | /x ok % | /x lost | /x p99 ms | /y ok % |",
		"|---|---|---|---|---|---|",
	}
	for _, n := range needs {
		for _, a := range []arm{none, naive, protected} {
			before, _ := share(t, a, need{lead: n.lead})
			x, y := share(t, a, n)
			lost, later := before.ok-x.ok, x.p99()-before.p99()
			rows = append(rows, fmt.Sprintf("| %s | %s | %.1f | %d | %d | %.1f |", n.name, a.name, x.success(), lost, x.p99().Milliseconds(), y.success()))
			if a.name == protected.name && !n.reported && (lost > 0 || later > time.Millisecond) {
				t.Errorf("%s of the calls to /y hang: %d calls to /x lost, the 99th percentile is %v later", n.name, lost, later)
			}
		}
	}
	show(t, rows)
}
