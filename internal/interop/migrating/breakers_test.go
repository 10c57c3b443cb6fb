package migrating_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// A trouble makes one call that fails.
type trouble func(w *world, c *http.Client) answer

// unreachable is a server that refuses connections.
func unreachable(w *world, c *http.Client) answer {
	w.down.Store("a.example:80", true)
	return w.get(c, hostA)
}

func unavailable(w *world, c *http.Client) answer {
	w.handle(fail(503))
	return w.get(c, hostA)
}

// impatient is a caller that cancels before the answer.
func impatient(w *world, c *http.Client) answer {
	w.handle(hang)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	time.AfterFunc(5*time.Millisecond, cancel)
	return w.send(c, w.request(ctx, "GET", hostA, nil))
}

// late is a caller whose deadline passes before the answer.
func late(w *world, c *http.Client) answer {
	w.handle(hang)
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Millisecond)
	defer cancel()
	return w.send(c, w.request(ctx, "GET", hostA, nil))
}

// opens makes a hundred calls a second with the trouble until one is rejected, for at
// most ten seconds.
func opens(call trouble) func(*world) string {
	return func(w *world) string {
		n, got := w.open(w.client(), call)
		if n == maxCalls {
			return "stays closed"
		}
		return fmt.Sprintf("rejects after %s, with %v", count(int32(n), "call"), got)
	}
}

const maxCalls = 1000

// open makes calls until one is rejected. It returns the number of calls before, and the
// rejection.
func (w *world) open(c *http.Client, call trouble) (int, answer) {
	for n := range maxCalls {
		next := time.Now().Add(10 * time.Millisecond)
		if got := call(w, c); got.refused() {
			return n, got
		}
		time.Sleep(time.Until(next))
	}
	return maxCalls, answer{}
}

// burst fails fifty calls at once.
func burst(w *world) string {
	w.down.Store("a.example:80", true)
	c := w.client()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { w.get(c, hostA) })
	}
	wg.Wait()
	if w.get(c, hostA).refused() {
		return "opens"
	}
	return "stays closed"
}

// half makes fifty calls a second for a minute, of which about half fail.
func half(w *world) string {
	const calls = 50 * 60
	rng := rand.New(rand.NewPCG(1, 2))
	c := w.client()
	refused := 0
	for range calls {
		w.handle(succeed)
		if rng.IntN(2) == 0 {
			w.handle(fail(503))
		}
		if w.get(c, hostA).refused() {
			refused++
		}
		time.Sleep(20 * time.Millisecond)
	}
	if refused == 0 {
		return "stays closed"
	}
	return fmt.Sprintf("rejects %.1f %% of the calls", 100*float64(refused)/calls)
}

// recovered opens the breaker, ends the trouble at once, and returns the time until the
// first success.
func (w *world) recovered(c *http.Client) time.Duration {
	w.open(c, unreachable)
	w.down.Clear()
	w.handle(succeed)
	start := time.Now()
	for !w.get(c, hostA).ok() {
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func recovers(w *world) string { return seconds(w.recovered(w.client())) }

// ramp makes twenty concurrent calls after the first success.
func ramp(w *world) string {
	c := w.client()
	w.recovered(c)
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		succeed(rw, r)
	})
	w.peak.Store(0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { w.get(c, hostA) })
	}
	wg.Wait()
	return fmt.Sprintf("%d of 20", w.peak.Load())
}

// stuck returns when another call is admitted after a probe that hangs, and the error of
// the calls before it.
func stuck(w *world) string {
	c := w.client()
	w.open(c, unreachable)
	w.down.Clear()
	w.handle(hang)
	var refusal string
	var mu sync.Mutex
	var start time.Time
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		go func() {
			got := w.get(c, hostA)
			mu.Lock()
			defer mu.Unlock()
			if !start.IsZero() && got.refused() {
				refusal = got.String()
			}
		}()
		synctest.Wait()
		mu.Lock()
		switch n := w.requests.Load(); {
		case n == 1 && start.IsZero():
			start = time.Now()
		case n == 2:
			defer mu.Unlock()
			return fmt.Sprintf("%s, then another call is admitted %s", refusal, seconds(time.Since(start)))
		}
		mu.Unlock()
	}
	return refusal + ", for at least ten minutes"
}

// neighbour calls another host of a client whose first host is down.
func neighbour(w *world) string {
	c := w.client()
	w.open(c, unreachable)
	w.handle(succeed)
	return w.get(c, hostB).String()
}

// unsent sends a request that a breaker rejects.
func unsent(w *world) string {
	rt := w.make(w.base)
	w.open(&http.Client{Transport: rt}, unreachable)
	body := &plain{left: plainSize}
	resp, err := rt.RoundTrip(w.request(w.ctx, "PUT", hostA, body))
	if err == nil {
		resp.Body.Close()
	}
	if body.closed {
		return "closed"
	}
	return "left open"
}

// again returns how often a call to an open breaker is retried. retries counts them.
func again(retries func() int) func(*world) string {
	return func(w *world) string {
		c := w.client()
		w.open(c, unreachable)
		before := retries()
		got := w.get(c, hostA)
		return fmt.Sprintf("%s, then %v", strings.Replace(count(int32(retries()-before), "retrie"), "1 retrie", "1 retry", 1), got)
	}
}
