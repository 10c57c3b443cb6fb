package bench_test

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience/bench/internal/demand"
)

func BenchmarkRef(b *testing.B)       { group(b, "Ref/") }
func BenchmarkLayer(b *testing.B)     { group(b, "Layer/") }
func BenchmarkBreaker(b *testing.B)   { group(b, "Breaker/") }
func BenchmarkBulkhead(b *testing.B)  { group(b, "Bulkhead/") }
func BenchmarkLimit(b *testing.B)     { group(b, "Limit/") }
func BenchmarkRetry(b *testing.B)     { group(b, "Retry/") }
func BenchmarkFallback(b *testing.B)  { group(b, "Fallback/") }
func BenchmarkTimeout(b *testing.B)   { group(b, "Timeout/") }
func BenchmarkStack(b *testing.B)     { group(b, "Stack/") }
func BenchmarkHistogram(b *testing.B) { group(b, "Histogram/") }
func BenchmarkHTTP(b *testing.B)      { group(b, "HTTP/") }
func BenchmarkGRPC(b *testing.B)      { group(b, "GRPC/") }
func BenchmarkKeyed(b *testing.B)     { group(b, "Keyed/") }
func BenchmarkGrowth(b *testing.B)    { group(b, "Growth/") }
func BenchmarkEndpoint(b *testing.B)  { group(b, "Endpoint/") }

// BenchmarkParallel runs all rows on all cores.
func BenchmarkParallel(b *testing.B) {
	for _, r := range rows {
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			calls := r.setup(b)
			b.ResetTimer()
			parallel(b.N, calls)
		})
	}
}

// group runs the rows whose names begin with prefix, on one core.
func group(b *testing.B, prefix string) {
	for _, r := range rows {
		if name, ok := strings.CutPrefix(r.name, prefix); ok {
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				calls := r.setup(b)
				b.ResetTimer()
				calls(b.N)
			})
		}
	}
}

// parallel makes n calls on as many goroutines as there are cores. They take them
// in portions, large enough that sharing these out costs nothing and small enough
// that none waits long for another at the end. b.RunParallel would put its own
// loop around each call.
func parallel(n int, calls func(n int)) {
	portion := min(1000, max(1, n/100))
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				now := int(left.Add(int64(-portion))) + portion
				if now <= 0 {
					return
				}
				calls(min(portion, now))
			}
		})
	}
	wg.Wait()
}

// Each demand names benchmarks that exist.
func TestDemand_hasBenchmarks(t *testing.T) {
	have := map[string]bool{}
	for _, r := range rows {
		have[r.name] = true
		have[demand.Parallel+r.name] = true
	}
	for _, d := range demand.Table {
		for _, name := range append(d.Benchmarks(), d.InParallel().Benchmarks()...) {
			if !have[name] {
				t.Errorf("%s needs the benchmark %s, and there is none", d.Row, name)
			}
		}
	}
}
