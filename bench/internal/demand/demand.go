// Package demand is the table of what the policies may cost a call.
package demand

import (
	"fmt"
	"strings"
)

// The references that demands are multiples of. Each is code without this library
// that does the same kind of work as the rows that it is a reference for, so that
// both move together from machine to machine.
const (
	Add         = "Ref/atomic_add"           // an add to an atomic word: only reported, it shows the kind of processor
	Call        = "Ref/call"                 // a call inside three guards written by hand
	Semaphore   = "Ref/semaphore"            // TryAcquire and Release of x/sync
	Map         = "Ref/map"                  // a key of a hundred in a plain map
	Clock       = "Ref/clock"                // time.Since
	Timeout     = "Ref/context_with_timeout" // context.WithTimeoutCause and its cancel
	Closure     = "Ref/closure"              // a func that captures variables, made and called
	AllocClient = "Ref/alloc_client"         // an object of the size of httpmw's client call
	AllocServer = "Ref/alloc_server"         // an object of the size of httpmw's server call
	AllocGRPC   = "Ref/alloc_grpc"           // an object of the size of grpcmw's unary call
)

// References lists all references in the order of the report.
var References = []string{Add, Call, Semaphore, Map, Clock, Timeout, Closure, AllocClient, AllocServer, AllocGRPC}

// Parallel begins the names of benchmarks that run on all cores.
const Parallel = "Parallel/"

// A Demand is the most that one row of the table may cost. The time of the row is
// the time of the benchmark Of, minus the time of Less, divided by Share.
type Demand struct {
	Row   string
	Of    string // a benchmark, by default Row
	Less  string // a benchmark, "" for none
	Share int    // by default 1

	Most       float64 // how many units the row may take, 0 for a row without a demand
	Unit       string  // the reference that the row is a multiple of
	Besides    int     // how many of Beside the row may take as well, by default 1
	Beside     string  // a second reference, "" for none
	MostAllocs int     // allocations that the row may make
}

// layers is how many more layers Layer/plain and Layer/settle have than the
// benchmarks that they are compared with: one layer more is mostly noise.
const layers = 4

const stackRow = "Stack/retry_breaker_bulkhead_fallback"

// Table lists all demands. A demand lies 4 to 19 % above the time that the row
// took when the demand was made, so a row that gets a fifth slower fails.
var Table = []Demand{
	{Row: "Layer/plain", Of: "Layer/plain/5", Less: "Layer/plain/1", Share: layers, Most: 0.73, Unit: Call},
	{Row: "Layer/settle", Of: "Layer/settle/5", Less: "Layer/settle/1", Share: layers, Most: 0.82, Unit: Call},
	{Row: "Breaker/default/closed", Most: 1.35, Unit: Call},
	{Row: "Breaker/consecutive/closed", Most: 1.27, Unit: Call},
	{Row: "Breaker/last100/closed", Most: 1.47, Unit: Call},
	{Row: "Breaker/window/closed", Most: 3.3, Unit: Call, Beside: Clock},
	{Row: "Breaker/slow/closed", Most: 3.5, Unit: Call, Besides: 3, Beside: Clock},
	{Row: "Breaker/default/open", Most: 0.7, Unit: Call, Beside: Clock},
	{Row: "Bulkhead/free", Most: 1.7, Unit: Call, Beside: Semaphore},
	{Row: "Limit/free", Most: 4.1, Unit: Call, Besides: 2, Beside: Clock},
	{Row: "Retry/first_try", Most: 0.9, Unit: Call},
	{Row: "Fallback/unused", Most: 0.9, Unit: Call},
	{Row: "Timeout/whole", Most: 1.15, Unit: Timeout, MostAllocs: 4},
	{Row: stackRow, Most: 4.4, Unit: Call, Beside: Semaphore},
	{Row: stackRow + "/do", Less: stackRow, Most: 1.25, Unit: Closure, MostAllocs: 2},
	{Row: "Histogram/plain", Unit: Call, Besides: 2, Beside: Clock},
	{Row: "HTTP/client/retry_breaker_bulkhead", Less: "HTTP/client/bare", Most: 8.2, Unit: Call, Beside: AllocClient, MostAllocs: 1},
	{Row: "HTTP/client/retry_breaker_bulkhead/no_body", Less: "HTTP/client/bare/no_body", Most: 7, Unit: Call, Beside: AllocClient, MostAllocs: 1},
	{Row: "HTTP/client/retry_breaker_bulkhead/keyed", Less: "HTTP/client/bare", Unit: Call, Beside: AllocClient, MostAllocs: 1},
	{Row: "HTTP/server/breaker", Less: "HTTP/server/bare", Most: 3.7, Unit: Call, Beside: AllocServer, MostAllocs: 1},
	{Row: "HTTP/server/refused", Less: "HTTP/server/bare", Unit: Call, MostAllocs: 6},
	{Row: "GRPC/unary_client/breaker", Less: "GRPC/unary_client/bare", Most: 2.3, Unit: Call, Beside: AllocGRPC, MostAllocs: 1},
	{Row: "GRPC/unary_server/breaker", Less: "GRPC/unary_server/bare", Most: 2.8, Unit: Call, Beside: AllocGRPC, MostAllocs: 1},
	{Row: "GRPC/unary_server/refused", Unit: Call, MostAllocs: 19},
	{Row: "GRPC/stream_client/breaker", Less: "GRPC/stream_client/bare", Unit: Call, MostAllocs: 2},
	{Row: "Keyed/lookup", Less: "Keyed/pin", Most: 2.3, Unit: Map},
	{Row: "Keyed/breaker", Most: 3.6, Unit: Call, Beside: Map},
	{Row: "Endpoint/pick/1", Most: 2.95, Unit: Call},
	{Row: "Endpoint/pick/3", Most: 14.7, Unit: Call, Besides: 2, Beside: Clock},
	{Row: "Endpoint/pick/20", Unit: Call, Besides: 2, Beside: Clock},
	{Row: "Growth/keys/1", Unit: Call},
	{Row: "Growth/keys/100", Unit: Call},
	{Row: "Growth/keys/10000", Unit: Call},
	{Row: "Growth/keys/100000", Unit: Call},
	{Row: "Growth/policies/1", Unit: Call},
	{Row: "Growth/policies/2", Unit: Call},
	{Row: "Growth/policies/4", Unit: Call},
	{Row: "Growth/policies/8", Unit: Call},
}

// most is what the rows on all cores may take, in calls on all cores that add to
// one word. All other rows are only reported: their time depends on how often the
// cores meet, which differs from run to run by a factor of two.
var most = map[string]float64{
	"Breaker/default/closed":     1.45,
	"Breaker/consecutive/closed": 1.45,
	"Breaker/default/open":       1.45,
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
	d.Unit = Parallel + d.Unit
	d.Row = Parallel + d.Row
	return d
}

// Benchmark returns the name of the benchmark that d limits.
func (d Demand) Benchmark() string {
	if d.Of != "" {
		return d.Of
	}
	return d.Row
}

// Benchmarks returns the names of all benchmarks that must run to judge d.
func (d Demand) Benchmarks() []string {
	var names []string
	for _, name := range []string{d.Benchmark(), d.Less, d.Unit, d.Beside} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// A Result is the cost of one call of a benchmark, or of a row.
type Result struct {
	Nanos  float64
	Allocs int
}

// Measured is a row of the table.
type Measured struct {
	Demand
	Result
	Multiple float64 // of Unit, after the time of Beside is taken off
	Allowed  float64 // nanoseconds that the demand allows, 0 for a row without one
}

// Measure judges d by results, whose keys are the names of benchmarks.
func (d Demand) Measure(results map[string]Result) (Measured, error) {
	for _, name := range d.Benchmarks() {
		if _, ok := results[name]; !ok {
			return Measured{}, fmt.Errorf("%s: the benchmark %s did not run", d.Row, name)
		}
	}
	m := Measured{Demand: d, Result: results[d.Benchmark()]}
	m.Nanos -= results[d.Less].Nanos
	m.Allocs -= results[d.Less].Allocs
	m.Nanos /= float64(max(1, d.Share))
	beside := float64(max(1, d.Besides)) * results[d.Beside].Nanos
	m.Multiple = (m.Nanos - beside) / results[d.Unit].Nanos
	if d.Most > 0 {
		m.Allowed = d.Most*results[d.Unit].Nanos + beside
	}
	return m, nil
}

// OK reports whether the row takes at most tolerance times what its demand allows.
// Allocations do not vary with the machine and have no tolerance.
func (m Measured) OK(tolerance float64) bool {
	return m.Allocs <= m.MostAllocs && (m.Most == 0 || m.Nanos <= tolerance*m.Allowed)
}

// Times returns a multiple of the unit of d in words, such as "1.35 call + 1 clock".
func (d Demand) Times(multiple float64) string {
	s := fmt.Sprintf("%.3g %s", multiple, short(d.Unit))
	if d.Beside != "" {
		s += fmt.Sprintf(" + %d %s", max(1, d.Besides), short(d.Beside))
	}
	return s
}

// short returns the name of a reference as the table shows it.
func short(ref string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, Parallel), "Ref/")
	switch ref {
	case "context_with_timeout":
		return "timeout"
	case "alloc_client", "alloc_server", "alloc_grpc":
		return "alloc"
	}
	return ref
}
