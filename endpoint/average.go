package endpoint

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// halfLife is the time without a sample in which an average loses half of its value.
	// With 5 s a client of two calls a second forgets a slow endpoint between its calls.
	// With 20 s one bad sample keeps work away from a healthy endpoint twice as long.
	halfLife = 10 * time.Second
	// sure is the number of samples from which an average fades with halfLife. With fewer
	// samples it fades proportionally faster, so that one slow first call does not keep
	// work away from an endpoint for long.
	sure = 10
)

// average is a moving average that fades while it gets no samples. The zero value has no
// sample and the value 0. An average is safe for concurrent use: of two samples at the same
// time one may be lost.
type average struct {
	// word has the value as a float32 in its upper 32 bits, then 27 bits for the time of
	// the last sample in ticks, and 5 bits for the number of samples that have not faded,
	// in thirds.
	word atomic.Uint64
}

const (
	timeBits  = 27
	countBits = 5
	timeMask  = 1<<timeBits - 1
	countMask = 1<<countBits - 1
	thirds    = 3
	// tickBits makes a tick of 67 ms, so that the time wraps after 104 days.
	tickBits = 26
	// skew is by how many ticks a sample may be newer than now, because another goroutine
	// has read the clock later. It is a minute.
	skew = 1 << 10
)

func pack(value float64, now int64, samples float64) uint64 {
	tick := uint64(now>>tickBits) & timeMask
	return uint64(math.Float32bits(float32(value)))<<32 | tick<<countBits | uint64(min(countMask, samples*thirds+.5))
}

// unpack returns the value, the time since the last sample, and the number of samples.
func unpack(word uint64, now int64) (value, age, samples float64) {
	ticks := (uint64(now>>tickBits) - word>>countBits) & timeMask
	if ticks > timeMask-skew {
		ticks = 0
	}
	return float64(math.Float32frombits(uint32(word >> 32))), float64(ticks << tickBits), float64(word&countMask) / thirds
}

// rewriteAfter is the age at which an average that stays 0 is written again, so that its samples
// do not fade. It is as old as an average may be before it fades at all.
const rewriteAfter = float64(halfLife / notFaded)

// notFaded is the part of the half-life in which nothing fades, which saves the exponential.
const notFaded = 64

// fade returns the share that is left of a value after age.
func fade(age, halfLife float64) float64 {
	if age < halfLife/notFaded {
		return 1
	}
	return math.Exp2(-age / halfLife)
}

// add adds a sample with weight, or with the weight of one of few samples.
func (a *average) add(sample float64, now int64, weight float64) {
	old := a.word.Load()
	value, age, samples := unpack(old, now)
	if sample == 0 && value == 0 && samples >= sure && age < rewriteAfter {
		return // the average stays as it is, and is not written
	}
	samples = min(sure, samples*fade(age, float64(halfLife))+1)
	value += max(weight, 1/samples) * (sample - value)
	if sample == 0 && value < negligible {
		value = 0
	}
	a.word.CompareAndSwap(old, pack(value, now, samples))
}

// negligible is the share of failures below which an average becomes 0, so that it is
// rarely written.
const negligible = 0.01

// raise sets the value at now to least if it is lower.
func (a *average) raise(least float64, now int64) {
	old := a.word.Load()
	if a.at(now) < least {
		_, _, samples := unpack(old, now)
		a.word.CompareAndSwap(old, pack(least, now, max(samples, 1)))
	}
}

// last returns the value at the last sample.
func (a *average) last() float64 {
	return float64(math.Float32frombits(uint32(a.word.Load() >> 32)))
}

// samples returns how many samples the value rests on, at most sure.
func (a *average) samples() float64 { return float64(a.word.Load()&countMask) / thirds }

// at returns the value at now.
func (a *average) at(now int64) float64 {
	word := a.word.Load()
	if word>>32 == 0 {
		return 0
	}
	value, age, samples := unpack(word, now)
	return value * fade(age, float64(halfLife)*max(.1, min(1, samples/sure)))
}

func (a *average) reset() { a.word.Store(0) }
