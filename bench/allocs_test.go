package bench_test

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bench/internal/demand"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

func skipUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates, and makes objects larger, on its own account")
	}
}

// calls is how many calls of a row are measured at a time, so that what it
// allocates once for all of them vanishes.
const calls = 10_000

// perCall returns how many objects a call allocates.
func perCall(run func(n int)) float64 {
	return testing.AllocsPerRun(3, func() { run(calls) }) / calls
}

// bytesPerCall returns how many bytes a call allocates.
func bytesPerCall(run func(n int)) float64 {
	var before, after runtime.MemStats
	run(calls)
	runtime.ReadMemStats(&before)
	run(calls)
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / calls
}

// slack is what the runtime may allocate beside a row: a small part of an object.
const slack = 0.01

func TestDemand_allocations(t *testing.T) {
	skipUnderRace(t)
	for _, d := range demand.Table {
		t.Run(d.Row, func(t *testing.T) {
			got := perCall(setup(t, d.Benchmark()))
			if d.Less != "" {
				less := perCall(setup(t, d.Less))
				got -= less
			}
			if got > float64(d.MostAllocs)+slack {
				t.Errorf("%.2f allocations a call, want at most %d", got, d.MostAllocs)
			}
		})
	}
}

// A context makes a channel when its Done is called, as it does in bare package
// context.
func TestTimeout_allocationsWithDone(t *testing.T) {
	skipUnderRace(t)
	p := resilience.Must(timeout.New(timeout.Config{}))
	got := perCall(func(n int) {
		for range n {
			_ = resilience.Run(context.Background(), p, func(ctx context.Context) error { ctx.Done(); return nil })
		}
	})
	if got > 5+slack {
		t.Errorf("%.2f allocations a call, want at most 5", got)
	}
}

// A rejection allocates nothing, not even its error.
func TestBulkhead_allocationsOfRejection(t *testing.T) {
	skipUnderRace(t)
	full := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
	_ = resilience.Run(context.Background(), full, func(ctx context.Context) error {
		if got := perCall(guarded(full, bulkhead.ErrFull)); got > slack {
			t.Errorf("%.2f allocations a rejected call, want none", got)
		}
		return nil
	})
}

// A reference for the one allocation of a call over HTTP or gRPC has the size of
// that allocation. The sizes are written down for 64 bits.
func TestDemand_callSizes(t *testing.T) {
	skipUnderRace(t)
	if strconv.IntSize != 64 {
		t.Skip("pointers have another size here")
	}
	for _, c := range []struct{ ref, row string }{
		{demand.AllocClient, "HTTP/client/retry_breaker_bulkhead"},
		{demand.AllocServer, "HTTP/server/breaker"},
		{demand.AllocGRPC, "GRPC/unary_client/breaker"},
	} {
		want := bytesPerCall(setup(t, c.row))
		got := bytesPerCall(setup(t, c.ref))
		if d := got - want; d < -4 || 4 < d {
			t.Errorf("%s allocates %.0f bytes a call, and %s %.0f: change its size", c.row, want, c.ref, got)
		}
	}
}

func setup(t *testing.T, name string) func(n int) {
	t.Helper()
	for _, r := range rows {
		if r.name == name {
			return r.setup(t)
		}
	}
	t.Fatalf("there is no row %s", name)
	return nil
}

// heap returns how many bytes more the heap holds after grow.
func heap(grow func()) int {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	grow()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int(after.HeapAlloc) - int(before.HeapAlloc)
}

func TestPolicy_memory(t *testing.T) {
	skipUnderRace(t)
	// A limit has the state of its search as well. A server has few of them.
	most := map[string]int{"limit": 1536}
	for name, newPolicy := range map[string]func() resilience.Policy{
		"breaker":  func() resilience.Policy { return newBreaker() },
		"retry":    func() resilience.Policy { return newRetry() },
		"bulkhead": func() resilience.Policy { return newBulkhead() },
		"limit":    func() resilience.Policy { return newLimit() },
		"timeout":  func() resilience.Policy { return resilience.Must(timeout.New(timeout.Config{})) },
		"fallback": func() resilience.Policy { return newFallback() },
	} {
		t.Run(name, func(t *testing.T) {
			all := make([]resilience.Policy, 1000)
			size := heap(func() {
				for i := range all {
					all[i] = newPolicy()
				}
			}) / len(all)
			runtime.KeepAlive(all)
			t.Logf("%d bytes", size)
			if most := cmp.Or(most[name], 1024); size > most {
				t.Errorf("a policy takes %d bytes, want at most %d", size, most)
			}
		})
	}
}

// A limit whose requests have priorities and callers takes at most 20 KB, whatever their
// number.
func TestLimit_memoryOfRanks(t *testing.T) {
	skipUnderRace(t)
	all := make([]resilience.Policy, 100)
	size := heap(func() {
		for i := range all {
			l := resilience.Must(limit.New(limit.Config{Max: 1, MaxQueue: limit.NoQueue}))
			_ = resilience.Run(t.Context(), l, func(ctx context.Context) error {
				for caller := range 100 {
					_ = resilience.RunOperation(ctx, l, tenant(fmt.Sprint(caller)))
				}
				return nil
			})
			all[i] = l
		}
	}) / len(all)
	runtime.KeepAlive(all)
	t.Logf("%d bytes", size)
	if size > 20<<10 {
		t.Errorf("a limit with ranks takes %d bytes", size)
	}
}

// tenant is an operation of a caller.
type tenant string

func (tenant) Run(context.Context) error     { return nil }
func (tenant) Priority() resilience.Priority { return resilience.Critical }
func (t tenant) Caller() string              { return string(t) }

// perKey returns how many bytes a group takes for each key, without the key
// itself. A map is not always of the same shape, so it is the mean of a few groups.
func perKey(newGroup func(max int) resilience.Policy) int {
	const groups = 10
	size := 0
	for range groups {
		size += groupPerKey(newGroup)
	}
	return size / groups
}

func groupPerKey(newGroup func(max int) resilience.Policy) int {
	ops := make([]keyOperation, 10_000)
	for i := range ops {
		ops[i] = keyOperation(fmt.Sprintf("https://host-%d.example.com:443", i))
	}
	var p resilience.Policy
	size := heap(func() {
		p = newGroup(len(ops))
		for i := range ops {
			_ = resilience.RunOperation(context.Background(), p, &ops[i])
		}
	})
	runtime.KeepAlive(p)
	runtime.KeepAlive(ops)
	return size / len(ops)
}

func TestGroup_memoryOfKey(t *testing.T) {
	skipUnderRace(t)
	const most = 350
	size := perKey(func(max int) resilience.Policy { return newGroup(newBreaker(), max) })
	t.Logf("keyed(breaker) takes %d bytes a key", size)
	if size > most {
		t.Errorf("keyed(breaker) takes %d bytes a key, want at most %d", size, most)
	}
	size = perKey(func(max int) resilience.Policy {
		c := stack.DefaultClient("test")
		c.Keyed.Max = max
		return resilience.Must(c.New())
	})
	t.Logf("stack.Client takes %d bytes a key", size)
}

// No policy leaves a goroutine behind.
func TestClient_noGoroutines(t *testing.T) {
	const module = "created by github.com/resilience-go/resilience/"
	p := stack.Client("test")
	op := keyOperation("test")
	for range 10 {
		if err := resilience.RunOperation(t.Context(), p, &op); err != nil {
			t.Fatal(err)
		}
	}
	client(p, body{})(10)
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, line := range strings.Split(string(stacks), "\n") {
		if strings.HasPrefix(line, module) {
			t.Errorf("a goroutine is left: %s", line)
		}
	}
	runtime.KeepAlive(p)
}
