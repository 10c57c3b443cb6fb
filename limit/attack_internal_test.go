package limit

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

var (
	attackSeeds = flag.Int("seeds", 1, "the number of seeds to run attacks with")
	firstSeed   = flag.Int("seed", 0, "the first of them")
)

// An attack is trouble for a server that a limit must not make worse.
type attack struct {
	name    string
	workers int     // of 10 ms each, 0 for a dependency without a queue
	best    float64 // the share of requests that can be good at all
	run     func(w *world)
	slack   float64 // points that the limit may cost
}

// capacity is in requests a second.
func (w *world) capacity() float64 { return float64(w.workers) * float64(sec) / w.work }

// known lets the gate learn how long requests take.
func (w *world) known() { w.load(.5*w.capacity(), sec, 5*sec) }

// overloaded lets the server have an overload, which is over.
func (w *world) overloaded() {
	w.load(2*w.capacity(), sec, 10*sec)
	w.run(2 * sec)
	w.known()
	w.run(sec)
	w.tally = tally{}
}

// limit is the limit in force, or what a limit is like in most attacks.
func (w *world) limit() int {
	if w.gate != nil && w.gate.search.Limited() {
		return w.gate.search.Level()
	}
	return 16
}

func attacks() (all []attack) {
	add := func(a attack) { all = append(all, a) }
	for _, percent := range []int{10, 50, 100, 500, 2000} {
		for _, workers := range []int{4, 40} {
			add(attack{fmt.Sprintf("uploads, %d %% of the limit, %d workers", percent, workers), workers, 1, func(w *world) {
				w.overloaded()
				w.uploads((w.limit()*percent+99)/100, 60*sec)
				w.load(.75*w.capacity(), sec, 60*sec)
			}, 1})
		}
		add(attack{fmt.Sprintf("uploads, %d %% of the limit, at 2x", percent), 10, .5, func(w *world) {
			w.overloaded()
			w.uploads((w.limit()*percent+99)/100, 60*sec)
			w.load(2*w.capacity(), sec, 60*sec)
		}, 2})
	}
	add(attack{"uploads in bursts", 10, 1, func(w *world) {
		w.overloaded()
		w.each(5*sec, 60*sec, func() { w.uploads(w.limit(), 3*sec) })
		w.load(.75*w.capacity(), sec, 60*sec)
	}, 1})
	for _, long := range []int64{1, 5, 30} {
		add(attack{fmt.Sprintf("a tenth are uploads of %d s", long), 10, 1, func(w *world) {
			w.overloaded()
			w.each(100*ms, 60*sec, func() { w.uploads(8, long*sec) })
			w.load(.75*w.capacity(), sec, 60*sec)
		}, 1})
	}
	add(attack{"1000 uploads on a fresh server, then 2x", 10, .5, func(w *world) {
		w.deaf = true
		w.uploads(1000, 20*sec)
		w.load(.5*w.capacity(), sec, 25*sec)
		w.tally = tally{}
		w.load(2*w.capacity(), sec, 40*sec)
	}, 2})
	for _, n := range []int{0, 200, 2000} {
		for _, long := range []int64{20, 80} {
			add(attack{fmt.Sprintf("%d uploads of %d s, then 2x, deaf", n, long), 4, .5, func(w *world) {
				w.deaf = true
				w.uploads(n, long*sec)
				w.load(.5*w.capacity(), sec, 20*sec)
				w.run(2 * sec)
				w.tally = tally{}
				w.load(2*w.capacity(), sec, 60*sec)
			}, 2})
		}
	}
	add(attack{"slow readers, 300 % of the limit", 10, 1, func(w *world) {
		w.overloaded()
		for range 3 * w.limit() {
			w.send(&request{patience: math.MaxInt64 / 4, work: w.draw(), attack: true, after: 60 * sec})
		}
		w.load(.75*w.capacity(), sec, 60*sec)
	}, 1})
	for _, load := range []float64{.75, 2} {
		add(attack{fmt.Sprintf("1 %% take 1000x, load %v", load), 10, min(1, 1/load), func(w *world) {
			w.overloaded()
			w.each(100*ms, 60*sec, func() { w.uploads(int(load*w.capacity()/1000), 10*sec) })
			w.load(load*w.capacity(), sec, 60*sec)
		}, max(1, load)})
	}
	add(attack{"a lock is held for 30 s", 10, 1, func(w *world) {
		w.known()
		w.locked = w.now + 30*sec
		w.load(.75*w.capacity(), sec, 30*sec)
		w.tally = tally{}
		w.load(.75*w.capacity(), sec, 20*sec)
	}, 1})
	add(attack{"a lock is held for 30 s after an overload", 10, 1, func(w *world) {
		w.overloaded()
		w.locked = w.now + 30*sec
		w.load(.75*w.capacity(), sec, 30*sec)
		w.tally = tally{}
		w.load(.75*w.capacity(), sec, 20*sec)
	}, 1})
	add(attack{"half of the callers leave", 40, 1, func(w *world) {
		w.each(ms, 40*sec, func() { w.leavers(2, 20*ms) })
		w.load(.5*w.capacity(), sec, 40*sec)
	}, 1})
	for _, on := range []int64{20, 30, 50, 100, 150, 300, 700} {
		add(attack{fmt.Sprintf("callers leave in pulses of %d ms", on), 40, 1, func(w *world) {
			w.known()
			w.tally = tally{}
			w.each(5*on*ms, 30*sec, func() {
				w.each(ms, on*ms, func() { w.leavers(8, 40*ms) })
			})
			w.load(.5*w.capacity(), sec, 30*sec)
		}, 1})
	}
	for _, step := range []int64{1, -1} {
		add(attack{fmt.Sprintf("the clock is set by %d h and back, at 2x", step), 4, .5, func(w *world) {
			w.overloaded()
			w.each(5*sec, 35*sec, func() { w.clock = step * 3600 * sec; w.in(50*ms, func() { w.clock = 0 }) })
			w.load(2*w.capacity(), sec, 40*sec)
		}, 2})
	}
	add(attack{"a night without load, then .75", 10, 1, func(w *world) {
		w.overloaded()
		w.run(8 * 3600 * sec)
		w.load(.75*w.capacity(), sec, 30*sec)
	}, 1})
	add(attack{"a night without load, then 2x", 10, .5, func(w *world) {
		w.overloaded()
		w.run(8 * 3600 * sec)
		w.load(2*w.capacity(), sec, 30*sec)
	}, 2})
	for _, load := range []float64{.75, 1.5, 2} {
		add(attack{fmt.Sprintf("20 uploads whenever a trial begins, load %v", load), 10, min(1, 1/load), func(w *world) {
			w.overloaded()
			was := w.limit()
			w.each(5*ms, 60*sec, func() {
				is := w.limit()
				if is < was {
					w.uploads(20, sec)
				}
				was = is
			})
			w.load(load*w.capacity(), sec, 60*sec)
		}, max(1, load)})
	}
	add(attack{".75 and 1.5 in turns of 700 ms", 10, 1 / 1.125, func(w *world) {
		w.overloaded()
		for range 30 {
			w.load(.75*w.capacity(), sec, 700*ms)
			w.load(1.5*w.capacity(), sec, 700*ms)
		}
	}, 2})
	add(attack{"a quarter of the capacity every other 2 s", 10, 1 / 1.5, func(w *world) {
		w.overloaded()
		rate := .75 * w.capacity()
		w.each(4*sec, 60*sec, func() { w.work *= 4; w.in(2*sec, func() { w.work /= 4 }) })
		w.load(rate, sec, 60*sec)
	}, 2})
	for _, x := range []float64{1.5, 2, 4} {
		add(attack{fmt.Sprintf("callers wait 50 ms, load %v", x), 10, 1 / x, func(w *world) {
			w.load(.7*w.capacity(), 50*ms, 10*sec)
			w.tally = tally{}
			w.load(x*w.capacity(), 50*ms, 30*sec)
		}, 2})
	}
	add(attack{"callers wait 50 ms, load .75", 10, 1, func(w *world) {
		w.load(.75*w.capacity(), 50*ms, 40*sec)
	}, 1})
	for _, k := range []float64{3, 10, 15, 20, 30, 45, 100} {
		for _, patience := range []int64{500, 2000, 5000, 10000} {
			if k*10 >= .9*float64(patience) {
				continue // a request that is queued at all comes too late
			}
			for _, part := range []string{"first 10 s", "after"} {
				add(attack{fmt.Sprintf("dependency %vx slower, patience %v, %s", k, time.Duration(patience*ms), part), 0, 1, func(w *world) {
					w.load(300, patience*ms, 10*sec)
					w.work *= k
					w.tally = tally{}
					w.load(300, patience*ms, 10*sec)
					if part == "after" {
						w.tally = tally{}
						w.load(300, patience*ms, 50*sec)
					}
				}, map[string]float64{"first 10 s": 40, "after": 1}[part]})
			}
			if k <= 20 {
				add(attack{fmt.Sprintf("pool of 10 connections %vx slower, patience %v", k, time.Duration(patience*ms)), 10, 1 / (.75 * k), func(w *world) {
					w.load(.75*w.capacity(), patience*ms, 10*sec)
					rate := .75 * w.capacity()
					w.work *= k
					w.tally = tally{}
					w.load(rate, patience*ms, 60*sec)
				}, 2})
			}
		}
	}
	return all
}

// kin returns attacks like those of attacks on servers of other sizes and kinds. Nothing was
// chosen for them.
func kin() (all []attack) {
	add := func(a attack) { all = append(all, a) }
	type server struct {
		name    string
		workers int
		work    int64
		spread  spread
	}
	servers := []server{
		{"1 x 5 ms", 1, 5 * ms, exponential},
		{"7 x 30 ms, log-normal", 7, 30 * ms, logNormal},
		{"16 x 100 ms, fixed", 16, 100 * ms, narrow},
	}
	if *attackSeeds > 1 { // these take long
		servers = append(servers, server{"25 x 2 ms, fixed", 25, 2 * ms, narrow}, server{"100 x 10 ms", 100, 10 * ms, exponential})
	}
	for _, s := range servers {
		on := func(name string, best float64, slack float64, run func(w *world)) {
			add(attack{fmt.Sprintf("%s: %s", s.name, name), s.workers, best, func(w *world) {
				w.work, w.spread = float64(s.work), s.spread
				run(w)
			}, slack})
		}
		patience := max(sec, 20*s.work)
		load := func(w *world, x float64, d int64) { w.load(x*w.capacity(), patience, d) }
		prepare := func(w *world) {
			load(w, .5, 5*sec)
			load(w, 2, 5*sec)
			w.run(2 * sec)
			load(w, .5, 2*sec)
			w.tally = tally{}
		}
		on("twice the load", .5, 2, func(w *world) {
			load(w, .6, 5*sec)
			w.tally = tally{}
			load(w, 2, 20*sec)
		})
		on("uploads, 300 %", 1, 1, func(w *world) {
			prepare(w)
			w.uploads(3*w.limit(), 20*sec)
			load(w, .75, 20*sec)
		})
		on("uploads, 300 %, at 1.5x", 1/1.5, 2, func(w *world) {
			prepare(w)
			w.uploads(3*w.limit(), 20*sec)
			load(w, 1.5, 20*sec)
		})
		// The leavers would ask for more than all slots of one worker, which is an overload.
		if s.workers > 1 {
			on("uploads and leavers in turns of 3 s", 1, 6, func(w *world) {
				prepare(w)
				w.each(6*sec, 24*sec, func() { w.uploads(w.limit(), 3*sec) })
				w.each(6*sec, 24*sec, func() {
					w.in(3*sec, func() { w.each(5*ms, 3*sec, func() { w.leavers(w.limit()/4, 30*ms) }) })
				})
				load(w, .6, 24*sec)
			})
		}
		on("uploads, leavers and clock steps at 1.5x", 1/1.5, 3, func(w *world) {
			prepare(w)
			w.each(8*sec, 24*sec, func() { w.uploads(w.limit(), 2*sec) })
			w.each(8*sec, 24*sec, func() { w.in(3*sec, func() { w.leavers(w.limit(), sec) }) })
			w.each(8*sec, 24*sec, func() { w.in(6*sec, func() { w.clock = 60*sec - w.clock }) })
			load(w, 1.5, 24*sec)
		})
		on("the handler becomes 1.5x slower at .6", 1, 1, func(w *world) {
			load(w, .6, 5*sec)
			w.tally = tally{}
			rate := .6 * w.capacity()
			w.work *= 1.5
			w.load(rate, patience, 20*sec)
		})
		on("pauses of 100 ms at .8", 1, 1, func(w *world) {
			load(w, .5, 5*sec)
			w.tally = tally{}
			w.each(sec, 20*sec, func() { w.locked = w.now + 100*ms })
			load(w, .8, 20*sec)
		})
		on("nobody sees that callers leave, 3x", 1./3, 2, func(w *world) {
			w.blind = true
			load(w, .6, 5*sec)
			w.tally = tally{}
			load(w, 3, 20*sec)
		})
		for _, k := range []float64{2.5, 6, 40} {
			on(fmt.Sprintf("then a dependency %vx slower without a queue", k), 1, 1, func(w *world) {
				prepare(w)
				rate := .6 * w.capacity()
				w.workers, w.work = 0, k*w.work
				load := func(d int64) { w.load(rate, max(sec, 2*int64(w.work)), d) }
				load(10 * sec)
				w.tally = tally{}
				load(20 * sec)
			})
		}
	}
	for _, b := range []struct {
		k, rate     float64
		half        int64
		swing, wait float64 // wait is what something else makes requests wait for a processor, of their time
	}{
		{6, 1000, 300, .8, 0}, {15, 1000, 1000, .4, 0}, {15, 3000, 1000, .8, 0},
		{6, 300, 300, .8, .6}, {6, 1000, 300, .8, .6},
	} {
		add(attack{fmt.Sprintf("dependency %vx slower, %v/s in turns of %d ms with ±%v of it, a wait of %v", b.k, b.rate, b.half, b.swing, b.wait), 0, 1, func(w *world) {
			w.load(b.rate, sec, 10*sec)
			w.work *= b.k
			w.tally = tally{}
			w.each(ms, 30*sec, func() {
				if w.gate != nil {
					w.gate.search.Waited(int64(b.wait * w.work))
				}
			})
			w.loadInBackground(func() float64 {
				if w.now/(b.half*ms)%2 == 0 {
					return b.rate * (1 + b.swing)
				}
				return b.rate * (1 - b.swing)
			}, sec, 30*sec)
			w.run(30 * sec)
		}, 1})
	}
	for _, rate := range []float64{50, 1000} {
		for _, k := range []float64{2.5, 8, 60} {
			add(attack{fmt.Sprintf("dependency of 10 ms %vx slower, %v/s that doubles", k, rate), 0, 1, func(w *world) {
				w.load(rate, 2*sec, 10*sec)
				w.work *= k
				began := w.now
				w.tally = tally{}
				w.loadInBackground(func() float64 { return rate * (1 + float64(w.now-began)/float64(20*sec)) }, 2*sec, 20*sec)
				w.run(10 * sec)
				w.tally = tally{}
				w.run(10 * sec)
			}, 1})
		}
	}
	return all
}

// result is the percentage of what is possible that is good, by seed.
func (a *attack) result(seed uint64, limited bool) (percent float64, w *world) {
	var g *gate
	if limited {
		c, _ := Config{}.withDefaults()
		made := newGate(c.settings())
		g = &made
	}
	w = newWorld(seed, a.workers, g)
	a.run(w)
	w.drain()
	return 100 * float64(w.good) / float64(w.sent) / a.best, w
}

// A server with a limit is not worse than one without where there is no overload, and gives
// nearly its capacity where there is one.
func TestGate_attacks(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("simulates hours of load")
	}
	for _, a := range slices.Concat(attacks(), kin(), swings()) {
		if *attackSeeds == 1 {
			a.slack += 4 // single runs stray
		}
		t.Run(a.name, func(t *testing.T) {
			limited := a.mean(t, true)
			if limited >= 100-a.slack {
				return
			}
			if none := a.mean(t, false); limited < min(none, 100)-a.slack {
				t.Errorf("with a limit %.1f %% of what is possible, without one %.1f %%", limited, none)
			}
		})
	}
}

// mean is the mean result of all seeds.
func (a *attack) mean(t *testing.T, limited bool) (mean float64) {
	for seed := range *attackSeeds {
		percent, w := a.result(uint64(*firstSeed+seed), limited)
		mean += percent / float64(*attackSeeds)
		if limited {
			t.Logf("seed %d: limit %.2f rejected %d held %d trials %+v", *firstSeed+seed, percent, w.rejected, w.held, w.gate.search.Results())
		} else {
			t.Logf("seed %d: none %.2f", *firstSeed+seed, percent)
		}
	}
	return mean
}
