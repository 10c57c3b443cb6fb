package limit

import (
	"fmt"
	"time"
)

// swings returns attacks in which the load swings around the capacity. Without a limit each
// request is answered in time, since the queue of one turn is worked off in the next. A queue of
// more than 200 ms is an overload by definition: how long callers wait is not known.
func swings() (all []attack) {
	for _, workers := range []int{4, 10, 100} {
		for _, s := range []struct {
			high, low float64 // shares of the capacity
			turn      int64   // how long each lasts
			slack     float64
		}{
			{1.2, .5, 500 * ms, 1}, {1.1, .5, sec, 1}, {1.4, .4, 300 * ms, 1}, {1.05, .5, 2 * sec, 1},
			{1.8, .1, 150 * ms, 4}, // queues of 120 ms in the mean
			{1.2, .6, 800 * ms, 4}, // queues of 160 ms in the mean
			{1.2, .3, 5 * sec, 13}, // and of 1 s
		} {
			name := fmt.Sprintf("load swings between %v and %v in turns of %v, %d workers", s.high, s.low, time.Duration(s.turn), workers)
			all = append(all, attack{name, workers, 1, func(w *world) {
				w.known()
				w.tally = tally{}
				began := w.now
				w.loadInBackground(func() float64 {
					if (w.now-began)/s.turn%2 == 0 {
						return s.high * w.capacity()
					}
					return s.low * w.capacity()
				}, sec, 40*sec)
				w.run(40 * sec)
			}, s.slack})
		}
	}
	return all
}
