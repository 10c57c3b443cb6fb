package limit

// Stats is what a Limit has counted since it was made, and how it stands.
//
// Every call of Apply whose context was not done when it came ends up in exactly one
// of the counters: Useful, Gone, Shed, QueueFull, Canceled. They never fall and are
// those of a limit and all its forks, as are the Tests and Overloads. InFlight and
// Waiting are those of a fork alone, or of a limit with all its forks; Limit, Knee and
// Overload are its own.
type Stats struct {
	// Limit is how many requests may be in flight at this moment, be it under a test.
	Limit int
	// Knee is how many requests in flight the handler needs for all the throughput it
	// is capable of, as last measured, 0 if no test has found it yet.
	Knee float64
	// Overload is whether requests are being refused that have waited too long.
	Overload bool
	// InFlight requests are in the handler, Waiting ones in front of it.
	InFlight, Waiting int

	// Useful requests were answered while their caller was still there, whatever the
	// answer; Gone ones were in the handler when their caller left.
	Useful, Gone uint64
	// Shed requests were refused in an overload because they had waited too long,
	// QueueFull ones because too many were waiting already. In shadow mode these were
	// not refused; they are counted here as well as in Useful or Gone.
	Shed, QueueFull uint64
	// Canceled callers left while they waited.
	Canceled uint64
	// Tests of another limit, by what came of them.
	Tests Tests
	// Overloads is how often an overload has begun.
	Overloads uint64
}

// Tests counts tests by their result.
type Tests struct {
	// Raised: with a higher limit the throughput was higher, so it was kept. NotRaised:
	// it was not, and the limit went back.
	Raised, NotRaised uint64
	// Lowered: with a lower limit the throughput was the same, so the limit went down.
	// NotLowered: it was lower, which showed where the knee is.
	Lowered, NotLowered uint64
	// Abandoned tests had no result, because the load went away meanwhile.
	Abandoned uint64
}

// Stats returns the counters. They are read one after another while requests come and
// go, so they agree with each other once the limit is at rest.
func (l *Limit) Stats() Stats {
	l.mu.Lock()
	s := Stats{Limit: l.machine.level, Knee: l.machine.knee, Overload: l.machine.overload, Waiting: l.line.n}
	s.InFlight = int(l.word.Load() & flightMask)
	l.mu.Unlock()
	if l == l.root {
		went := l.count.Sum(forksWent) // first, lest one who came be seen only to leave
		s.InFlight += int(l.count.Sum(forksCame) - went)
		s.Waiting += int(l.waiting.Load())
	}
	s.Useful, s.Gone = l.count.Sum(useful), l.count.Sum(gone)
	s.Shed, s.QueueFull, s.Canceled = l.count.Sum(shed), l.count.Sum(queueFull), l.count.Sum(canceled)
	s.Tests = Tests{l.tests[0].Load(), l.tests[1].Load(), l.tests[2].Load(), l.tests[3].Load(), l.tests[4].Load()}
	s.Overloads = l.overloads.Load()
	return s
}
