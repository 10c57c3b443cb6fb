package rank

import "math"

// keepDemand is the part of the counted arrivals and completions that is kept from one window
// to the next. It makes the mean one over 16 windows, or .8 s. With .875, requests of a
// priority that takes .9 of the capacity are taken for an overload now and then.
const keepDemand = 0.9375

// demand compares how many requests of each rank arrive with how many are completed. A mean
// over windows decays, so both are numbers of requests lately.
type demand struct {
	arrived   [ranks]float64
	window    [ranks]uint32 // arrivals in the present window
	completed float64
	edge      int // a rank, or ranks if arrivals do not exceed completions in any
}

// measure ends a window in which so many requests were completed, and finds the edge. The
// edge needs arrivals that exceed completions by one standard deviation of a Poisson process.
func (d *demand) measure(completed float64) {
	if !(completed >= 0) { // also not a number
		completed = 0
	}
	d.completed = d.completed*keepDemand + min(completed, math.MaxUint32)
	most := d.completed + math.Sqrt(d.completed)
	arrived := 0.0
	d.edge = ranks
	for r := range d.arrived {
		d.arrived[r] = d.arrived[r]*keepDemand + float64(d.window[r])
		if arrived += d.arrived[r]; arrived > most && d.edge == ranks {
			d.edge = r
		}
	}
	clear(d.window[:])
}
