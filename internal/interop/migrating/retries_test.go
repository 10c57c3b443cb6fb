package migrating_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// answered makes one call to a server that always answers with status.
func answered(method string, status int, header ...string) func(*world) string {
	return func(w *world) string {
		w.handle(fail(status))
		req := w.request(w.ctx, method, hostA, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		got := w.send(w.client(), req)
		return fmt.Sprintf("%s, then %v", count(w.requests.Load(), "request"), got)
	}
}

// retried lists the statuses after which a GET is retried.
func retried(w *world) string {
	var all []string
	for _, status := range []int{400, 408, 409, 425, 429, 500, 501, 502, 503, 504, 505, 507} {
		w.handle(then(fail(status), succeed))
		if w.get(w.client(), hostA).ok() {
			all = append(all, fmt.Sprint(status))
		}
	}
	return strings.Join(all, ", ")
}

// refusing makes a POST to a server that refuses connections.
func refusing(w *world) string {
	w.down.Store("a.example:80", true)
	got := w.send(w.client(), w.request(w.ctx, "POST", hostA, strings.NewReader("content")))
	return fmt.Sprintf("%s, then %v", count(w.dials.Load(), "attempt"), got)
}

// untrusted makes a call to a server whose certificate is not trusted.
func untrusted(w *world) string {
	got := w.get(w.client(), "https://a.example")
	return fmt.Sprintf("%s, then %v", count(w.dials.Load(), "attempt"), got)
}

// plain is a body that can be read once.
type plain struct {
	left    int
	arrived chan struct{} // at the server
	early   bool          // read before it had arrived
	closed  bool
}

const plainSize = 100_000

func (p *plain) Read(b []byte) (int, error) {
	switch {
	case p.left == 0:
		return 0, io.EOF
	case p.left < plainSize/4:
		select {
		case <-p.arrived:
		case <-time.After(time.Second):
			p.early = true
		}
	}
	n := min(len(b), p.left, 4096)
	p.left -= n
	return n, nil
}

func (p *plain) Close() error {
	p.closed = true
	return nil
}

// streamed uploads a body that can be read once.
func streamed(w *world) string {
	body := &plain{left: plainSize, arrived: make(chan struct{})}
	var once sync.Once
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(body.arrived) })
		io.Copy(io.Discard, r.Body)
		fail(503)(rw, r)
	})
	req := w.request(w.ctx, "PUT", hostA, body)
	req.ContentLength = plainSize
	w.send(w.client(), req)
	how, end := "streamed", "closed"
	if body.early {
		how = "read into memory first"
	}
	if !body.closed {
		end = "never closed"
	}
	return fmt.Sprintf("%s; %s; %s", how, count(w.requests.Load(), "request"), end)
}

// replayed uploads a body that http.NewRequest can rewind.
func replayed(w *world) string {
	whole := int32(0)
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); string(b) == "content" {
			whole++
		}
		fail(503)(rw, r)
	})
	w.send(w.client(), w.request(w.ctx, "PUT", hostA, strings.NewReader("content")))
	return fmt.Sprintf("%s, %d with the whole body", count(w.requests.Load(), "request"), whole)
}

// backoff returns the bounds of the waits of many calls.
func backoff(w *world) string {
	w.handle(fail(503))
	var least, most []time.Duration
	for range 200 {
		w.get(w.client(), hostA)
		for i, d := range w.waits() {
			if i == len(least) {
				least, most = append(least, d), append(most, d)
			}
			least[i], most[i] = min(least[i], d), max(most[i], d)
		}
	}
	var all []string
	for i := range least {
		if least[i] == most[i] {
			all = append(all, fmt.Sprintf("%g s", least[i].Seconds()))
			continue
		}
		all = append(all, fmt.Sprintf("up to %.0f ms", 10*math.Ceil(most[i].Seconds()*100)))
	}
	return strings.Join(all, ", ")
}

// retryAfter calls a server that answers once with status and a Retry-After, which is a
// date if layout is not empty.
func retryAfter(status int, after time.Duration, layout string) func(*world) string {
	return func(w *world) string {
		w.handle(then(func(rw http.ResponseWriter, r *http.Request) {
			value := fmt.Sprint(int(after.Seconds()))
			if layout != "" {
				value = time.Now().Add(after).UTC().Format(layout)
			}
			fail(status, "Retry-After", value)(rw, r)
		}, succeed))
		got := w.get(w.client(), hostA)
		if waits := w.waits(); len(waits) > 0 {
			return "the next attempt " + seconds(waits[0])
		}
		return got.String() + ", " + seconds(got.took)
	}
}

// deadline calls a server that always fails, with a deadline of ten seconds.
func deadline(w *world) string {
	w.handle(fail(503, "Retry-After", "60"))
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	got := w.send(w.client(), w.request(ctx, "GET", hostA, nil))
	return fmt.Sprintf("%v, %s", got, seconds(got.took))
}

// discarded counts requests, connections and the responses that are not closed.
func discarded(size int) func(*world) string {
	return func(w *world) string {
		page := bytes.Repeat([]byte("x"), size)
		w.handle(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(503)
			rw.Write(page)
		})
		w.get(w.client(), hostA)
		return fmt.Sprintf("%s, %s, %s left open", count(w.requests.Load(), "request"), count(w.dials.Load(), "connection"), bodies(w))
	}
}

func bodies(w *world) string {
	switch n := w.base.open.Load(); n {
	case 0:
		return "no body"
	case 1:
		return "1 body"
	default:
		return fmt.Sprint(n, " bodies")
	}
}

// endless calls a server whose first answer is a 503 with an endless body.
func endless(w *world) string {
	w.handle(then(func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(503)
		rw.(http.Flusher).Flush()
		hang(rw, r)
	}, succeed))
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	got := w.send(w.client(), w.request(ctx, "GET", hostA, nil))
	return fmt.Sprintf("%v, %s", got, seconds(got.took))
}

// download reads a body that takes thirty seconds.
func download(w *world) string {
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		for range 30 {
			io.WriteString(rw, "x")
			rw.(http.Flusher).Flush()
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return
			}
		}
	})
	got := w.get(w.client(), hostA)
	if got.err != nil {
		return fmt.Sprintf("cut off %s", seconds(got.took))
	}
	return fmt.Sprintf("complete %s", seconds(got.took))
}

// hanging calls a server that never answers.
func hanging(w *world) string {
	w.handle(hang)
	got := w.get(w.client(), hostA)
	isTimeout, ok := got.err.(interface{ Timeout() bool })
	return fmt.Sprintf("%s, %v %s; `Timeout()` %v", count(w.requests.Load(), "request"), got, seconds(got.took), ok && isTimeout.Timeout())
}

// inARow makes twenty calls, one after another, to a server that always fails.
func inARow(w *world) string {
	w.handle(fail(503))
	c := w.client()
	for range 20 {
		w.get(c, hostA)
	}
	return count(w.requests.Load(), "request")
}

// outage makes fifty calls a second to a server that fails for half a minute.
func outage(w *world) string {
	w.handle(fail(503))
	c := w.client()
	const calls = 50 * 30
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() { w.get(c, hostA) })
		time.Sleep(20 * time.Millisecond)
	}
	wg.Wait()
	ratio := float64(w.requests.Load()) / calls
	if ratio < 0.2 {
		return "less than 1 request per 5 calls"
	}
	return fmt.Sprintf("%.0f requests per call", ratio)
}

// redirected follows a redirect to a URL that fails.
func redirected(w *world) string {
	first := int32(0)
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			first++
			http.Redirect(rw, r, "/there", http.StatusFound)
			return
		}
		fail(503)(rw, r)
	})
	w.get(w.client(), hostA+"/")
	return fmt.Sprintf("%d to the first URL, %d to the second", first, w.requests.Load()-first)
}

// added lists the headers that only the second attempt has.
func added(w *world) string {
	var first http.Header
	var all []string
	w.handle(then(func(rw http.ResponseWriter, r *http.Request) {
		first = r.Header
		fail(503)(rw, r)
	}, func(_ http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if first.Get(name) == "" {
				all = append(all, "`"+name+"`")
			}
		}
	}))
	w.get(w.client(), hostA)
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// after makes a call that runs out of attempts, and then one that succeeds.
func after(w *world) string {
	w.handle(fail(503))
	c := w.client()
	w.get(c, hostA)
	before := w.dials.Load()
	w.handle(succeed)
	w.get(c, hostA)
	if w.dials.Load() > before {
		return "on a new connection"
	}
	return "on the same connection"
}

// atOnce makes a hundred calls at once, each of which takes a second.
func atOnce(w *world) string {
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		succeed(rw, r)
	})
	c := w.client()
	errs := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got := w.get(c, hostA); got.err != nil {
				mu.Lock()
				errs[got.String()]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	synctest.Wait()
	said := fmt.Sprintf("%d in flight", w.peak.Load())
	for err, n := range errs {
		said += fmt.Sprintf(", %d rejected with %s", n, err)
	}
	return said
}

// reading makes a call before the body of another one has ended.
func reading(w *world) string {
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "the beginning")
		rw.(http.Flusher).Flush()
		hang(rw, r)
	})
	c := w.client()
	resp, err := c.Do(w.request(w.ctx, "GET", hostA, nil))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	w.handle(succeed)
	return w.get(c, hostA).String()
}
