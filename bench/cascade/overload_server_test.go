package cascade_test

import (
	"container/heap"
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// A quantile is how long a request takes of which a share of u take less, as a
// multiple of the mean.
type quantile func(u float64) float64

func exponential(u float64) float64 { return -math.Log(1 - u) }

func fixed(float64) float64 { return 1 }

// halfToOneAndAHalf is uniform.
func halfToOneAndAHalf(u float64) float64 { return 0.5 + u }

// logNormal has a heavy tail: one in a hundred takes eight times the mean.
func logNormal(u float64) float64 {
	const sigma = 1.2
	return math.Exp(sigma*math.Sqrt2*math.Erfinv(2*u-1) - sigma*sigma/2)
}

// oneInAHundred takes twenty times as long as the others.
func oneInAHundred(u float64) float64 {
	if u < 0.99 {
		return exponential(u/0.99) / 1.19
	}
	return 20 * exponential((u-0.99)/0.01) / 1.19
}

// twoRoutes are as much in demand; one takes 10 ms, the other 500 ms, on average.
func twoRoutes(u float64) float64 {
	if u < 0.5 {
		return exponential(2*u) * 10 / 255
	}
	return halfToOneAndAHalf(2*u-1) * 500 / 255
}

// strata is in how many parts the work is drawn: among so many requests there is
// one of each, whose place in its part moves by the golden section. That
// looks random over a few dozen requests, while the capacity of the workers in a run
// hardly depends on the seed.
const strata = 512

// draws hands out how much work requests are.
type draws struct {
	rng    *rand.Rand
	of     quantile
	left   []int
	within [strata]float64
}

func newDraws(of quantile, rng *rand.Rand) *draws {
	d := &draws{rng: rng, of: of}
	for i := range d.within {
		d.within[i] = rng.Float64()
	}
	return d
}

func (d *draws) next() float64 {
	if len(d.left) == 0 {
		d.left = d.rng.Perm(strata)
	}
	last := len(d.left) - 1
	part := d.left[last]
	d.left = d.left[:last]
	_, d.within[part] = math.Modf(d.within[part] + 1/math.Phi)
	return d.of((float64(part) + d.within[part]) / strata)
}

// A host is the server that gets overloaded: so many workers with a queue in front
// of them, or so many cores that all the requests share, or a dependency that is
// the same to any number of requests.
type host struct {
	*overload
	begin time.Time           // of the trouble
	queue *semaphore.Weighted // of the workers; nil: no queue
	cores *cores              // nil: workers

	mu   sync.Mutex // guards draw
	draw *draws
}

func newHost(o *overload, begin time.Time, seed uint64) *host {
	h := &host{overload: o, begin: begin, draw: newDraws(o.takes, rand.New(rand.NewPCG(seed, 1)))}
	switch {
	case o.shared:
		h.cores = &cores{n: float64(o.workers)}
	case !o.unbounded:
		h.queue = semaphore.NewWeighted(int64(o.workers))
	}
	return h
}

// serve is the handler. A request leaves the queue when ctx ends, but who works on
// it already works to the end.
func (h *host) serve(ctx context.Context) error {
	if h.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if h.queue != nil {
		if err := h.queue.Acquire(ctx, 1); err != nil {
			return err
		}
		defer h.queue.Release(1)
	}
	h.mu.Lock()
	busy := time.Duration(h.draw.next() * float64(h.mean))
	h.mu.Unlock()
	busy = h.busy(time.Since(h.begin), busy)
	if h.cores != nil {
		h.cores.run(busy)
	} else {
		time.Sleep(busy)
	}
	return nil
}

// cores are shared by all the requests there are: each gets as much as the others,
// but at most one core.
type cores struct {
	n float64

	mu    sync.Mutex // guards what follows
	jobs  jobs
	had   float64   // how much a request would have got that was always there, in ns
	since time.Time // when had was that
	next  *time.Timer
}

// A job is over when had has come to end.
type job struct {
	end  float64
	over chan struct{}
}

type jobs []job

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a].end < j[b].end }
func (j jobs) Swap(a, b int)      { j[a], j[b] = j[b], j[a] }
func (j *jobs) Push(x any)        { *j = append(*j, x.(job)) }
func (j *jobs) Pop() any {
	last := len(*j) - 1
	x := (*j)[last]
	*j = (*j)[:last]
	return x
}

// run returns when the cores have done so much for it.
func (c *cores) run(busy time.Duration) {
	over := make(chan struct{}, 1)
	c.mu.Lock()
	c.advance()
	heap.Push(&c.jobs, job{c.had + float64(busy), over})
	c.plan()
	c.mu.Unlock()
	<-over
}

// speed is what a request gets of a core.
func (c *cores) speed() float64 { return min(1, c.n/float64(max(1, len(c.jobs)))) }

func (c *cores) advance() {
	now := time.Now()
	if !c.since.IsZero() {
		c.had += float64(now.Sub(c.since)) * c.speed()
	}
	c.since = now
}

// plan sets the timer to when the next request is over.
func (c *cores) plan() {
	if len(c.jobs) == 0 {
		return
	}
	wait := time.Duration((c.jobs[0].end-c.had)/c.speed()) + 1
	if c.next == nil {
		c.next = time.AfterFunc(wait, c.finish)
		return
	}
	c.next.Reset(wait)
}

func (c *cores) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	for len(c.jobs) > 0 && c.jobs[0].end <= c.had {
		heap.Pop(&c.jobs).(job).over <- struct{}{}
	}
	c.plan()
}
