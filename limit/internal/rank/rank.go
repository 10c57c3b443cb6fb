// Package rank orders the queue of a limit by importance: first by the priority of a
// request, then by how small a share of the service its caller has had lately, and last by
// when the request came.
//
// A [Queue] has one first-in, first-out list for each of 4 x 64 ranks. A request's rank is
// fixed when it arrives. The share of a caller comes from a count-min sketch of the requests
// that the service has accepted, so that the order is max-min fair among the callers of a
// priority: a caller below its fair share is served before a caller above it. The sketch has
// a fixed size, and no caller's name is kept.
//
// The edge is the first rank at which, together with all ranks before it, arrivals exceed
// completions. An overload is an overload of the ranks from the edge on. Only there does the
// newest request go first, and only there is a request rejected after a short wait. The ranks
// before the edge have capacity for all of their requests, which are served first in, first
// out.
//
// The zero value of a Queue is a queue of requests that do not differ, and takes 32 bytes.
// The first request with a priority other than Normal adds 8 KB. The first request with a
// caller adds another 8 KB. Neither the number of callers nor that of requests adds more.
//
// A Queue has no clock and no lock, and calls no user code. The limit uses it as follows:
//
//   - When a request finds no free slot, the limit makes its [Class] by Of(next.Rank()), with
//     no lock held.
//   - Under the lock it calls [Queue.Arrive] for a [Ticket], whether the request then gets a
//     slot, is queued or is rejected. Requests that get a slot without the lock have none.
//   - A request that is queued is given to [Queue.Push] together with its ticket. If the
//     queue is full, [Queue.Displaced] returns the request to reject instead, if there is one.
//   - For each free slot, the limit removes the request that [Queue.Next] returns.
//   - In an overload, the limit removes and rejects what [Queue.Overdue] yields.
//   - When a request is rejected, or its caller leaves the queue, the limit calls
//     [Queue.Undo]: its caller got nothing.
//   - At the end of each window of some 50 ms, the limit calls [Queue.Measure] with the
//     requests that were completed, or [Queue.Skip] if something else held requests up.
package rank

import (
	"hash/maphash"

	"github.com/resilience-go/resilience"
)

const (
	// priorities is the number of priorities, 4.
	priorities = int(resilience.Critical-resilience.Lowest) + 1
	// shares is the number of ranks in a priority. They tell shares from 2^-16 to 1 apart.
	shares = 64
	// sharesPerDoubling is the number of ranks from a share to twice that share: callers whose
	// shares differ by less than 19 % are equals. With half as many ranks, callers at exactly
	// their fair share lose 2 % of their requests.
	sharesPerDoubling = 4

	ranks = priorities * shares // rank 0 is the most important one
)

// A Class is the part of a request from which its rank follows: its priority and a hash of
// its caller. It does not hold the caller's name.
type Class struct {
	level uint8 // the priority, 0 for Critical
	named bool  // the request has a caller
	cells cells // of the caller
}

// Of returns the class of a request. All requests with the caller "" are one caller's. Of
// takes time in proportion to the length of caller, so call it with no lock held.
func Of(p resilience.Priority, caller string) Class {
	c := Class{level: uint8(resilience.Critical - max(resilience.Lowest, min(p, resilience.Critical)))}
	if caller != "" {
		c.named, c.cells = true, cellsOf(seed, caller)
	}
	return c
}

// A Ticket is the rank of a request that has arrived, and what Queue.Undo needs.
type Ticket struct {
	weight float64 // what the request added to the cells of its caller, 0 if nothing
	era    uint32  // of weight
	cells  cells
	rank   uint8
}

// normal is the rank of the requests that do not differ from others: Normal, of a caller
// that has all of the service.
const normal = uint8(resilience.Critical-resilience.Normal)*uint8(shares) + uint8(shares) - 1

// Priority returns the priority of the request.
func (t Ticket) Priority() resilience.Priority { return priorityOf(int(t.rank)) }

func priorityOf(rank int) resilience.Priority {
	return resilience.Critical - resilience.Priority(rank/shares)
}

// seed is the seed of the process. A client that does not know it cannot choose names that
// share cells with another caller's.
var seed = maphash.MakeSeed()
