// Package demand is the table of what the policies may cost a call.
package demand

import (
	"fmt"
	"strings"
)

// The references that demands are multiples of. Times move from machine to
// machine, and so do these.
const (
	Add          = "Ref/atomic_add"             // one add to an atomic word that nobody else uses
	ContendedAdd = "Parallel/Ref/contended_add" // one add to a word that every core adds to
	Clock        = "Ref/clock"                  // time.Since
	Timeout      = "Ref/context_with_timeout"   // context.WithTimeoutCause, and its cancel
	AllocClient  = "Ref/alloc_client"           // an object of the size of httpmw's client call
	AllocServer  = "Ref/alloc_server"           // an object of the size of httpmw's server call
)

// Parallel is what the name of a benchmark begins with that runs on all cores.
const Parallel = "Parallel/"

// A Demand is what one row of the table may cost. The time of the row is that of
// the benchmark Of, without that of Less, divided by Share.
type Demand struct {
	Row   string
	Of    string // a benchmark, by default Row
	Less  string // a benchmark, "" for none
	Share int    // by default 1

	Unit       string  // the reference that the row is a multiple of
	Most       float64 // how many of it the row may take, 0 if that is not limited
	Beside     string  // a reference that may be spent on top, "" for none
	Besides    int     // how often, by default once
	MostAllocs int     // allocations that the row may make
}

// layers is how many layers more the benchmarks of Layer/plain and Layer/settle
// have than those they are compared with: a difference of one is mostly noise.
const layers = 4

const stackRow = "Stack/retry_breaker_bulkhead_fallback"

// Table is all demands. Its rows have the names and the numbers of the design.
var Table = []Demand{
	{Row: "Layer/plain", Of: "Layer/plain/5", Less: "Layer/plain/1", Share: layers, Unit: Add, Most: 3},
	{Row: "Layer/settle", Of: "Layer/settle/5", Less: "Layer/settle/1", Share: layers, Unit: Add, Most: 5},
	{Row: "Breaker/default/closed", Unit: Add, Most: 6.5},
	{Row: "Breaker/consecutive/closed", Unit: Add, Most: 6.5},
	{Row: "Breaker/last100/closed", Unit: Add, Most: 8},
	{Row: "Breaker/window/closed", Unit: Add, Most: 11, Beside: Clock},
	{Row: "Breaker/slow/closed", Unit: Add, Most: 11, Beside: Clock, Besides: 3},
	{Row: "Breaker/default/open", Unit: Add, Most: 4, Beside: Clock},
	{Row: "Bulkhead/free", Unit: Add, Most: 12},
	{Row: "Limit/free", Unit: Add, Most: 20, Beside: Clock, Besides: 2},
	{Row: "Retry/first_try", Unit: Add, Most: 4},
	{Row: "Fallback/unused", Unit: Add, Most: 4},
	{Row: "Timeout/whole", Unit: Timeout, Most: 1.15, MostAllocs: 4},
	{Row: stackRow, Unit: Add, Most: 25},
	{Row: stackRow + "/do", Less: stackRow, Unit: Add, Most: 15, MostAllocs: 2},
	{Row: "Histogram/plain", Unit: Add, Beside: Clock, Besides: 2},
	{Row: "HTTP/client/retry_breaker_bulkhead", Less: "HTTP/client/bare", Unit: Add, Most: 30, Beside: AllocClient, MostAllocs: 1},
	{Row: "HTTP/client/retry_breaker_bulkhead/no_body", Less: "HTTP/client/bare/no_body", Unit: Add, Most: 30, Beside: AllocClient, MostAllocs: 1},
	{Row: "HTTP/client/retry_breaker_bulkhead/keyed", Less: "HTTP/client/bare", Unit: Add, Beside: AllocClient, MostAllocs: 1},
	{Row: "HTTP/server/breaker", Less: "HTTP/server/bare", Unit: Add, Most: 20, Beside: AllocServer, MostAllocs: 1},
	{Row: "HTTP/server/refused", Less: "HTTP/server/bare", Unit: Add, MostAllocs: 6},
	{Row: "GRPC/unary_client/breaker", Less: "GRPC/unary_client/bare", Unit: Add, Most: 25, MostAllocs: 1},
	{Row: "GRPC/unary_server/breaker", Less: "GRPC/unary_server/bare", Unit: Add, Most: 25, MostAllocs: 1},
	{Row: "GRPC/unary_server/refused", Unit: Add, MostAllocs: 19},
	{Row: "GRPC/stream_client/breaker", Less: "GRPC/stream_client/bare", Unit: Add, MostAllocs: 2},
	{Row: "Keyed/lookup", Less: "Keyed/pin", Unit: Add, Most: 5},
	{Row: "Keyed/breaker", Unit: Add, Most: 15},
	{Row: "Growth/keys/1", Unit: Add},
	{Row: "Growth/keys/100", Unit: Add},
	{Row: "Growth/keys/10000", Unit: Add},
	{Row: "Growth/keys/100000", Unit: Add},
	{Row: "Growth/policies/1", Unit: Add},
	{Row: "Growth/policies/2", Unit: Add},
	{Row: "Growth/policies/4", Unit: Add},
	{Row: "Growth/policies/8", Unit: Add},
}

// most is what the parallel rows may take, in contended adds; the others are only
// reported. Those of the breaker with a window are among the others: where a
// contended add is less than twice one that is not, what they may take on one core
// is more than three of them already.
var most = map[string]float64{
	"Breaker/default/closed":     3,
	"Breaker/consecutive/closed": 3,
	"Breaker/default/open":       3,
}

// InParallel returns the demand on the same row on all cores.
func (d Demand) InParallel() Demand {
	d.Of = Parallel + d.Benchmark()
	if d.Less != "" {
		d.Less = Parallel + d.Less
	}
	if d.Beside != "" {
		d.Beside = Parallel + d.Beside
	}
	d.Most = most[d.Row]
	if d.Unit == Add {
		d.Unit = ContendedAdd
	} else {
		d.Unit = Parallel + d.Unit
	}
	d.Row = Parallel + d.Row
	return d
}

// Benchmark returns the name of the benchmark that d is about.
func (d Demand) Benchmark() string {
	if d.Of != "" {
		return d.Of
	}
	return d.Row
}

// Benchmarks returns the names of all that must run to judge d.
func (d Demand) Benchmarks() []string {
	var names []string
	for _, name := range []string{d.Benchmark(), d.Less, d.Unit, d.Beside} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// A Result is what one benchmark, or the row of a Demand, took for one call.
type Result struct {
	Nanos  float64
	Allocs int
}

// Measured is a row of the table.
type Measured struct {
	Demand
	Result
	Multiple float64 // of Unit, without what is spent on Beside
}

// Measure judges d by the results of the benchmarks, which are in of by their
// names.
func (d Demand) Measure(of map[string]Result) (Measured, error) {
	for _, name := range d.Benchmarks() {
		if _, ok := of[name]; !ok {
			return Measured{}, fmt.Errorf("%s: the benchmark %s did not run", d.Row, name)
		}
	}
	m := Measured{Demand: d, Result: of[d.Benchmark()]}
	m.Nanos -= of[d.Less].Nanos
	m.Allocs -= of[d.Less].Allocs
	m.Nanos /= float64(max(1, d.Share))
	m.Multiple = (m.Nanos - float64(max(1, d.Besides))*of[d.Beside].Nanos) / of[d.Unit].Nanos
	return m, nil
}

// OK reports whether the demand is met.
func (m Measured) OK() bool {
	return m.Allocs <= m.MostAllocs && (m.Most == 0 || m.Multiple <= m.Most)
}

// Times returns a multiple of the unit of d in words.
func (d Demand) Times(multiple float64) string {
	s := fmt.Sprintf("%.4g %s", multiple, short(d.Unit))
	if d.Beside != "" {
		s += fmt.Sprintf(" + %d %s", max(1, d.Besides), short(d.Beside))
	}
	return s
}

// short returns the name of a reference as the table has it.
func short(ref string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, Parallel), "Ref/")
	switch ref {
	case "atomic_add":
		return "adds"
	case "contended_add":
		return "contended"
	case "context_with_timeout":
		return "bare"
	case "alloc_client", "alloc_server":
		return "alloc"
	}
	return ref
}
