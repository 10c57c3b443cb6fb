package rank

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

const second = int64(time.Second)

func newSketch() *sketch { return &sketch{counters: new([rows][columns]float64)} }

func checkSketch(t *testing.T, s *sketch) {
	t.Helper()
	if s.counters == nil {
		return
	}
	if !(s.age >= 0 && s.age < eraLength) {
		t.Fatalf("the age is %v", s.age)
	}
	for row := range s.counters {
		for _, x := range s.counters[row] {
			if !(x >= 0 && x <= math.MaxFloat64) {
				t.Fatalf("a counter is %v", x)
			}
		}
	}
	if !(s.all >= 0 && s.all <= math.MaxFloat64) {
		t.Fatalf("all is %v", s.all)
	}
}

// named returns the cells of n callers.
func named(n int) []cells {
	all := make([]cells, n)
	for i := range all {
		all[i] = cellsOf(seed, fmt.Sprint("caller ", i))
	}
	return all
}

// An estimated share is never below the share, and is too high by more than e/columns for few
// callers.
func TestSketch_error(t *testing.T) {
	const callers = 2000
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.1, 1, callers-1)
	s, all := newSketch(), named(callers)
	exact, sum, high := make([]float64, callers), 0.0, 0
	const requests = 50_000
	for i := range requests {
		c := int(zipf.Uint64())
		share, _ := s.count(0, all[c])
		exact[c]++
		sum++
		switch e := share - exact[c]/sum; {
		case e < -1e-9 || share > 1:
			t.Fatalf("request %d: the share is %v, want at least %v", i, share, exact[c]/sum)
		case e > math.E/columns:
			high++
		}
	}
	if most := requests / 25; high > most {
		t.Errorf("%d of %d shares are too high, want at most %d", high, requests, most)
	}
}

// A request that is taken back leaves nothing behind, in later eras either.
func TestSketch_undo(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	with, without, all := newSketch(), newSketch(), named(50)
	type counted struct {
		c      cells
		era    uint32
		weight float64
	}
	var refused []counted
	now := int64(0)
	for range 10_000 {
		now += int64(random.Uint32()) / 100
		if random.IntN(1000) == 0 {
			now += 100 * second
		}
		c := all[random.IntN(len(all))]
		if random.IntN(2) == 0 {
			_, weight := with.count(now, c)
			refused = append(refused, counted{c, with.era, weight})
			without.advance(now)
		} else {
			with.count(now, c)
			without.count(now, c)
		}
		if len(refused) > 0 && random.IntN(2) == 0 {
			i := random.IntN(len(refused))
			with.undo(refused[i].c, refused[i].era, refused[i].weight)
			refused[i] = refused[len(refused)-1]
			refused = refused[:len(refused)-1]
		}
	}
	for _, r := range refused {
		with.undo(r.c, r.era, r.weight)
	}
	if with.era == 0 {
		t.Fatal("one era only")
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Exp2(eraLength) }
	for row := range with.counters {
		for column, x := range with.counters[row] {
			if y := without.counters[row][column]; !near(x, y) {
				t.Fatalf("counter %d, %d is %v, want %v", row, column, x, y)
			}
		}
	}
	if !near(with.all, without.all) {
		t.Errorf("all is %v, want %v", with.all, without.all)
	}
}

// A request that is taken back some eras later weighs as much as it does by then.
func TestSketch_undoLater(t *testing.T) {
	s, all := newSketch(), named(2)
	_, weight := s.count(62*second, all[0]) // nearly an era old
	s.count(192*second, all[1])             // the beginning of another one
	if s.era != 3 || s.all < 1 {
		t.Fatalf("era %d, weight %v", s.era, s.all)
	}
	s.undo(all[0], 0, weight)
	if math.Abs(s.all-1) > 1e-9 {
		t.Errorf("the weight of all is %v, want 1", s.all)
	}
}

// After each half-life a caller's requests count for half, whatever the era.
func TestSketch_halfLife(t *testing.T) {
	all := named(2)
	for _, start := range []int64{0, 1, 61 * second, 63 * second, 1000 * second} {
		s := newSketch()
		s.count(0, all[1])
		for range 1000 {
			s.count(start, all[0])
		}
		for k := range 5 {
			now := start + int64(k)*2*second
			share, weight := s.count(now, all[1])
			s.undo(all[1], s.era, weight)
			old := 1000 * math.Exp2(-float64(k))
			first := math.Exp2(-float64(now) / halfLife)
			if want := (1 + first) / (1 + first + old); math.Abs(share-want) > 1e-6 {
				t.Errorf("from %ds, after %d half-lives: the share is %v, want %v", start/second, k, share, want)
			}
		}
	}
}

// A clock that is set back an hour changes no share. One that is set forward an hour makes
// the sketch forget, and no more.
func TestSketch_clockSteps(t *testing.T) {
	s, all := newSketch(), named(2)
	hour := 3600 * second
	now := 10 * hour
	for range 100 {
		s.count(now, all[0])
	}
	now -= hour
	if share, _ := s.count(now, all[1]); math.Abs(share-1.0/101) > 1e-9 {
		t.Errorf("after a step back: the share is %v, want 1/101", share)
	}
	now += 4 * second // the sketch forgets at the same rate from then on
	if share, _ := s.count(now, all[1]); math.Abs(share-1.25/26.25) > 1e-9 {
		t.Errorf("4 s later: the share is %v, want 1.25/26.25", share)
	}
	now += hour
	if share, _ := s.count(now, all[0]); share != 1 {
		t.Errorf("after a step forward: the share is %v, want 1", share)
	}
	checkSketch(t, s)
}

// Any times give shares above 0 and at most 1, and finite counters.
func FuzzSketch(f *testing.F) {
	f.Add(int64(0), int64(math.MaxInt64), int64(math.MinInt64), uint32(1))
	f.Add(int64(-1), 64*second, 3600*second, uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, a, b, c int64, x uint32) {
		s := newSketch()
		s.at = a
		times := []int64{a, b, c, a, c, b}
		for i, now := range times {
			share, weight := s.count(now, cells(x)>>i)
			if !(share > 0 && share <= 1) || !(weight >= 1) {
				t.Fatalf("the share is %v, the weight %v", share, weight)
			}
			if r := rankOf(1, share); int(r)/shares != 1 {
				t.Fatalf("a share of %v has rank %d", share, r)
			}
			if i%2 == 0 {
				s.undo(cells(x)>>i, s.era, weight)
			}
			checkSketch(t, s)
		}
	})
}

// A rank is a quarter of a doubling of the share, and within its priority.
func TestRankOf_steps(t *testing.T) {
	for share, want := range map[float64]uint8{
		1: 63, .9: 63, .83: 62, .5: 59, .25: 55, 1.0 / 1024: 23, math.Exp2(-16): 0, 1e-9: 0, 5e-324: 0,
	} {
		for level := range uint8(priorities) {
			if got := rankOf(level, share); got != level*shares+want {
				t.Errorf("level %d, share %v: rank %d, want %d", level, share, got, level*shares+want)
			}
		}
	}
	if normal != rankOf(1, 1) {
		t.Errorf("normal is %d, want %d", normal, rankOf(1, 1))
	}
}

// The queue takes the same memory for one caller and for a million, and no allocation
// follows the first one.
func TestQueue_manyCallers(t *testing.T) {
	var q Queue[int]
	q.Arrive(0, Of(0, "first"))
	name := []byte("caller 0000000")
	now := int64(0)
	got := testing.AllocsPerRun(1, func() {
		for i := range 1_000_000 {
			for j, rest := len(name)-1, i; rest > 0; j, rest = j-1, rest/10 {
				name[j] = byte('0' + rest%10)
			}
			now += 1000
			c := Class{level: 1, named: true, cells: cells(maphash.Bytes(seed, name))}
			q.Arrive(now, c)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
	checkSketch(t, &q.table.callers)
}

// A class and a ticket do not hold the caller's name, which may be long.
func TestClass_holdsNoName(t *testing.T) {
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				walk(typ.Field(i).Type)
			}
		case reflect.Uint8, reflect.Uint32, reflect.Bool, reflect.Float64:
		default:
			t.Errorf("a %v can hold a name", typ)
		}
	}
	walk(reflect.TypeFor[Class]())
	walk(reflect.TypeFor[Ticket]())
	long := strings.Repeat("x", 1<<20)
	if Of(0, long) == Of(0, long+"y") || Of(0, long) != Of(0, strings.Clone(long)) {
		t.Error("two long names are not told apart")
	}
}

// Two callers that share all their cells have different ones with another seed.
func TestCells_otherSeed(t *testing.T) {
	seen := map[cells]string{}
	for i := range 2_000_000 { // the chance that none collide is e^-465
		name := fmt.Sprint(i)
		c := cellsOf(seed, name)
		other, collides := seen[c]
		if !collides {
			seen[c] = name
			continue
		}
		if again := maphash.MakeSeed(); cellsOf(again, name) == cellsOf(again, other) {
			t.Errorf("%q and %q collide with two seeds", name, other)
		}
		return
	}
	t.Error("no two callers collide")
}
