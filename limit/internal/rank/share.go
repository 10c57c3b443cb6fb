package rank

import (
	"hash/maphash"
	"math"
)

const (
	// rows is the number of counters of each caller. An estimate is too high by more than
	// e/columns of all requests with probability e^-rows, which is 2 %.
	rows = 4
	// columns is the number of counters in a row: an estimate is too high by more than 1 % of
	// all requests only with that probability.
	columns = 256
	// halfLife is the time, in nanoseconds, in which a counted request loses half of its
	// weight. From 1 to 8 s, fairness is the same.
	halfLife = 2e9
	// eraLength is the time between two scalings of the counters, in half-lives. The weight of
	// a new request stays below 2^eraLength, which a float64 adds without loss.
	eraLength = 32
)

// cells are the columns of a caller's counters: one byte for each row.
type cells uint32

// cellsOf returns the cells of a caller. Two callers with the same cells are taken for one.
// With another seed they have other cells.
func cellsOf(seed maphash.Seed, caller string) cells { return cells(maphash.String(seed, caller)) }

// sketch estimates how much of the service each caller has had lately. It is a count-min
// sketch (Cormode and Muthukrishnan, "An improved data stream summary", 2005) with
// exponential decay: instead of reducing all counters as time passes, the weight of a new
// request grows. A request that got nothing is taken back, so the sketch cannot use
// conservative updates.
type sketch struct {
	counters *[rows][columns]float64 // 8 KB, nil until a request has a caller
	all      float64                 // weight of the requests of all callers
	at       int64                   // the time of the last count, in nanoseconds
	age      float64                 // half-lives since the beginning of the era, less than eraLength
	era      uint32                  // number of scalings
}

// count counts a request that arrives at now. It returns the share of its caller in all
// requests, above 0 and at most 1, and the weight of the request.
func (s *sketch) count(now int64, c cells) (share, weight float64) {
	s.advance(now)
	weight = math.Exp2(s.age)
	least := math.Inf(1)
	for row := range s.counters {
		counter := s.counter(row, c)
		*counter += weight
		least = min(least, *counter)
	}
	s.all += weight
	return min(1, least/s.all), weight
}

// undo takes back a request that count has counted in an era with a weight.
func (s *sketch) undo(c cells, era uint32, weight float64) {
	weight = scaled(weight, s.era-era)
	for row := range s.counters {
		counter := s.counter(row, c)
		*counter = max(0, *counter-weight)
	}
	s.all = max(0, s.all-weight)
}

func (s *sketch) counter(row int, c cells) *float64 {
	return &s.counters[row][c>>(8*row)%columns]
}

// advance makes the counted requests older. If the clock was set back, no time has passed.
func (s *sketch) advance(now int64) {
	if now > s.at {
		s.age += (float64(now) - float64(s.at)) / halfLife
	}
	s.at = now
	if s.age < eraLength {
		return
	}
	eras := math.Floor(s.age / eraLength)
	s.age -= eras * eraLength
	s.era += uint32(eras)
	for row := range s.counters {
		for column := range s.counters[row] {
			s.counters[row][column] = scaled(s.counters[row][column], uint32(eras))
		}
	}
	s.all = scaled(s.all, uint32(eras))
}

// scaled returns a weight as it is after a number of eras.
func scaled(weight float64, eras uint32) float64 {
	return math.Ldexp(weight, -eraLength*int(min(eras, 100))) // 100 eras leave nothing
}

// rankOf returns the rank of a request by its level and its caller's share, which is above 0
// and at most 1.
func rankOf(level uint8, share float64) uint8 {
	below := int(-sharesPerDoubling * math.Log2(share)) // ranks below a share of 1
	return level*shares + uint8(shares-1-min(below, shares-1))
}
