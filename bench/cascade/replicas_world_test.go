package cascade_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A condition is how well a replica works at a time. The zero value is good health.
type condition struct {
	answer answer
	share  float64       // of the requests that get answer, 0 for all
	slower float64       // how many times longer a request takes, 0 for once
	pause  time.Duration // until a worker goes on
}

// A replica is a server of its own behind the name of the dependency.
type replica struct {
	*server
	id     int
	is     func(at time.Duration) condition // since the trouble began; nil: good health
	speed  float64                          // how many times longer all requests take, 0 for once
	inside atomic.Int64                     // requests that wait, are queued or are served
	start  time.Time                        // of the run
	// askedIn are the requests in each slice of the run.
	askedIn [mostSlices]atomic.Int64
}

const (
	// slice is the resolution at which a replica counts its requests.
	slice = 500 * time.Millisecond
	// mostSlices is how many of them a run may have.
	mostSlices = 200
)

// workersOfReplicas is how many workers the replicas have together. A third of them are
// busy, so that the rest can do the work of a half that is down.
const workersOfReplicas = 30

func newReplica(id, n int, start, begin time.Time, s *replicated) *replica {
	r := &replica{id: id, start: start}
	if s.is != nil {
		r.is = s.is(id, n)
	}
	kind := usual
	kind.workers = int64(workersOfReplicas+n-1) / int64(n)
	if s.mean > 0 {
		kind.mean = s.mean
		kind.workers = max(1, int64(float64(kind.workers)*float64(s.mean)/float64(usual.mean)))
	}
	if s.speed != nil {
		r.speed = s.speed(id)
		kind.mean = time.Duration(float64(kind.mean) * r.speed)
	}
	kind.takes = s.takes
	r.server = newServer(kind, begin, r.reply)
	r.work = func(at, busy time.Duration) time.Duration {
		c := r.at(at)
		return time.Duration(float64(busy)*max(1, c.slower)) + c.pause
	}
	return r
}

// at returns the condition so long after the trouble has begun.
func (r *replica) at(at time.Duration) condition {
	if at < 0 || r.is == nil {
		return condition{}
	}
	return r.is(at)
}

// reply is server.reply. The luck of a call is used alike in all conditions but those with
// a share.
func (r *replica) reply(at time.Duration, luck *rand.Rand) answer {
	c := r.at(at)
	if c.answer == serves || c.answer == garbles || c.share > 0 && luck.Float64() >= c.share {
		return serves
	}
	return c.answer
}

func (r *replica) serve(ctx context.Context, luck *rand.Rand) error {
	r.askedIn[min(mostSlices-1, time.Since(r.start)/slice)].Add(1)
	r.inside.Add(1)
	defer r.inside.Add(-1)
	err := r.server.serve(ctx, luck)
	if err == nil && r.at(time.Since(r.begin)).answer == garbles {
		return errUnavailable
	}
	return err
}

// cost is how long an attempt is expected to take, in times of a request in good health,
// for an oracle.
func (r *replica) cost() float64 {
	c := r.at(time.Since(r.begin))
	cost := max(1, r.speed) * max(1, c.slower) * float64(1+r.inside.Load())
	cost += float64(c.pause / usual.mean)
	if c.answer != serves {
		const never = 1e6
		cost += never * max(c.share, 0.01)
	}
	return cost
}
