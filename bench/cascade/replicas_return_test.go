package cascade_test

import (
	"fmt"
	"testing"
	"time"
)

// A replica that is well again gets half of its share within 4 s, if a process makes 50 calls
// a second, and within 36 s otherwise. No call fails then, and the clients do not return
// together: the replica never gets much more than its share, and no call takes longer.
func TestEndpoints_return(t *testing.T) {
	if brief() {
		t.Skip("single runs stray")
	}
	for _, n := range []int{2, 3, 20} {
		for _, f := range []fleet{few, alone, many} {
			if n != 3 && f == many {
				continue
			}
			for _, how := range []answer{refuses, hangs, fails} {
				after, within := 8*time.Second, 4*time.Second
				if f == many {
					after, within = 40*time.Second, 36*time.Second
				}
				s := &replicated{name: "return", after: after, is: one(during(condition{answer: how}))}
				t.Run(fmt.Sprintf("%v, %d replicas, %v", []string{refuses: "refused", hangs: "hung", fails: "failed"}[how], n, f), func(t *testing.T) {
					var o, healthy outcome
					for seed := range s.seedsOf(f) {
						s.run(t, n, f, stackChoosing, seed, &o)
						(&replicated{after: after}).run(t, n, f, stackChoosing, seed, &healthy)
					}
					fair := 100 / float64(n)
					if share := o.share(trouble+within-time.Second, trouble+within); share < fair/2 {
						t.Errorf("%.1f %% of the requests %v after the trouble, its share is %.1f %%", share, within, fair)
					}
					for at := trouble; at < trouble+after; at += time.Second {
						if share := o.share(at, at+time.Second); share > 1.5*fair {
							t.Errorf("%.1f %% of the requests %v after the trouble, its share is %.1f %%", share, at-trouble, fair)
						}
					}
					if o.later.ok < o.later.calls {
						t.Errorf("%d of %d calls failed after the trouble", o.later.calls-o.later.ok, o.later.calls)
					}
					if p99, usual := o.later.quantile(.99), healthy.later.quantile(.99); p99 > 1.1*usual {
						t.Errorf("99th percentile %.0f ms after the trouble, in good health %.0f ms", p99, usual)
					}
				})
			}
		}
	}
}
