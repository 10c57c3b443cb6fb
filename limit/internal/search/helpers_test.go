package search_test

import (
	"slices"
	"time"

	"github.com/resilience-go/resilience/limit/internal/search"
)

const (
	ms   = int64(time.Millisecond)
	sec  = int64(time.Second)
	most = 1 << 20
)

// A server is a handler in simulated time with a search and a queue in front of it. Requests
// arrive at even distances and take equally long, so each run is the same.
type server struct {
	*search.Search
	now      int64
	workers  []int64 // when each worker is free; without any, no request waits for one
	work     int64   // how long a worker works on a request
	patience int64   // a request that takes longer is not useful
	frozen   bool    // no request leaves the handler
	shadow   bool    // all requests enter
	forgets  bool    // every other request is no evidence

	inside  []request // in the handler
	uploads []int64   // when the uploads in the handler entered
	queue   []int64   // when the queued requests came
	watched bool
	ticked  int64
	useful  int // completions
	left    int // completions
}

type request struct{ sent, entered, done int64 }

func newServer(workers int, work int64) *server {
	s := search.New(most, false)
	return &server{Search: &s, now: sec, workers: make([]int64, workers), work: work, patience: sec}
}

// proven returns a server whose search has proven a limit in an overload.
func proven(workers int, work int64) *server {
	h := newServer(workers, work)
	h.run(.5, 2*sec)
	h.run(2, 2*sec)
	return h
}

// queued is the number of requests that are queued or, in shadow mode, would be.
func (h *server) queued() int {
	if h.shadow {
		return max(0, h.inFlight()-h.Level())
	}
	return len(h.queue)
}

func (h *server) inFlight() int { return len(h.inside) + len(h.uploads) }

// never is no condition to stop on.
func never() bool { return false }

// run lets requests arrive for so long, at a rate that is a multiple of what the workers do.
func (h *server) run(load float64, d int64) { h.runUntil(load, d, never) }

// runUntil is run until stop returns true. It reports whether that was so.
func (h *server) runUntil(load float64, d int64, stop func() bool) bool {
	return h.send(int64(float64(h.work)/load)/int64(max(1, len(h.workers))), d, stop)
}

// send lets a request arrive each period for so long.
func (h *server) send(period, d int64, stop func() bool) bool {
	end := h.now + d
	for next := h.now; next < end; next += period {
		for !h.frozen && len(h.inside) > 0 && h.inside[0].done <= next {
			h.now = max(h.now, h.inside[0].done)
			h.leave()
		}
		h.now = next
		h.arrive()
		if h.now-h.ticked >= sec {
			h.ticked = h.now
			if h.watched {
				h.Tick(h.now, h.inFlight(), h.queued())
			}
			h.serve()
		}
		if stop() {
			return true
		}
	}
	return false
}

func (h *server) arrive() {
	if h.inFlight() >= h.WatchFrom() {
		h.watch()
	}
	if h.watched {
		h.Arrive(h.now, h.inFlight(), h.queued())
	}
	h.queue = append(h.queue, h.now)
	h.serve()
}

func (h *server) watch() {
	if !h.watched {
		h.watched = true
		h.Watch(h.now, h.inFlight())
	}
}

func (h *server) leave() {
	r := h.inside[0]
	useful := h.now-r.sent <= h.patience
	if useful {
		h.useful++
	}
	h.left++
	suspicious := false
	switch {
	case h.watched && h.forgets && h.left%2 == 0:
		h.Forget(h.now, r.entered, h.inFlight(), h.queued())
	case h.watched:
		h.Leave(h.now, r.entered, useful, h.inFlight(), h.queued())
	default:
		suspicious = h.Sample(h.now, h.now-r.entered, useful, 1, h.inFlight())
	}
	h.inside = h.inside[1:]
	if suspicious {
		h.watch()
	}
	h.serve()
}

// serve forgets the requests whose callers have left, and rejects those that have been queued for
// too long. It admits others, the oldest or the newest first as the search says.
func (h *server) serve() {
	overdue := h.patience
	if !h.shadow && h.Overload() && !h.Stalled(h.now) {
		overdue = min(overdue, h.Patience())
	}
	for len(h.queue) > 0 && h.now-h.queue[0] > overdue {
		h.queue = h.queue[1:]
	}
	for len(h.queue) > 0 && (h.shadow || h.inFlight() < h.Level()) {
		next := 0
		if h.NewestFirst() {
			next = len(h.queue) - 1
		}
		h.enter(h.queue[next])
		h.queue = slices.Delete(h.queue, next, next+1)
	}
	if h.Quiet(h.inFlight()) {
		h.watched = false
	}
}

func (h *server) enter(sent int64) {
	begins, worker := h.now, -1
	for i, free := range h.workers {
		if worker < 0 || free < h.workers[worker] {
			worker, begins = i, max(h.now, free)
		}
	}
	done := begins + h.work
	switch {
	case begins > sent+h.patience: // the caller leaves first
		done = max(h.now, sent+h.patience+1)
	case worker >= 0:
		h.workers[worker] = done
	}
	i := len(h.inside)
	for i > 0 && h.inside[i-1].done > done {
		i--
	}
	h.inside = append(h.inside[:i], append([]request{{sent, h.now, done}}, h.inside[i:]...)...)
}

// upload lets n requests enter that take no worker and stay.
func (h *server) upload(n int) {
	for range n {
		h.uploads = append(h.uploads, h.now)
	}
}

// leaveUploads lets the uploads leave the handler.
func (h *server) leaveUploads() {
	for len(h.uploads) > 0 {
		h.Leave(h.now, h.uploads[0], true, h.inFlight(), h.queued())
		h.uploads = h.uploads[1:]
	}
}

// stall lets nothing leave for a while in twice the load.
func (h *server) stall() {
	h.run(2, 40*ms)
	h.frozen = true
	h.run(2, 100*ms)
	h.frozen = false
	h.run(2, 10*ms)
}

// trials is the number of trials that have ended since it was last called.
func (h *server) trials() uint64 {
	r := h.Results()
	return r.Raised + r.NotRaised + r.Lowered + r.NotLowered + r.Inconclusive
}
