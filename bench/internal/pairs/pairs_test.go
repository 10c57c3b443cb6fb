package pairs_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/resilience-go/resilience/bench/internal/pairs"
)

func TestMeasure_alternatesFirstArm(t *testing.T) {
	rows := []pairs.Row{
		{Name: "x", Base: pairs.Arm{Name: "x base"}, Ours: pairs.Arm{Name: "x ours"}},
		{Name: "y", Base: pairs.Arm{Name: "y base"}, Ours: pairs.Arm{Name: "y ours"}},
	}
	var order []string
	_, err := pairs.Measure(rows, 3, func(a pairs.Arm) (float64, error) {
		order = append(order, a.Name)
		return 1, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"x base", "x ours", "y base", "y ours",
		"x ours", "x base", "y ours", "y base",
		"x base", "x ours", "y base", "y ours",
	}
	if !slices.Equal(order, want) {
		t.Errorf("measured %q, want %q", order, want)
	}
}

// On a machine that gets slower all the time, the ratio of each pair compares its own
// two halves.
func TestMeasured_ratioOfOwnHalves(t *testing.T) {
	times := map[string][]float64{
		"base": {100, 200, 400, 800, 1000},
		"ours": {110, 200, 600, 960, 1400},
	}
	m, err := pairs.Measure([]pairs.Row{{Base: pairs.Arm{Name: "base"}, Ours: pairs.Arm{Name: "ours"}}}, 5, func(a pairs.Arm) (float64, error) {
		now := times[a.Name][0]
		times[a.Name] = times[a.Name][1:]
		return now, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m[0].Ratios(), (pairs.Spread{Least: 1, Lower: 1.1, Median: 1.2, Upper: 1.4, Most: 1.5}); got != want {
		t.Errorf("the ratios are 1.1, 1, 1.5, 1.2 and 1.4, so want %+v, got %+v", want, got)
	}
	if got := pairs.SpreadOf(m[0].Base).Median; got != 400 {
		t.Errorf("the median of base is %v, want 400", got)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   pairs.Spread
	}{
		{"one value is all of it", []float64{7}, pairs.Spread{7, 7, 7, 7, 7}},
		{"an even number has its median between two", []float64{4, 1, 3, 2}, pairs.Spread{1, 1.75, 2.5, 3.25, 4}},
		{"an odd number has its median in the middle", []float64{50, 10, 30, 20, 40}, pairs.Spread{10, 20, 30, 40, 50}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.values)
			if got := pairs.SpreadOf(c.values); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if !slices.Equal(c.values, before) {
				t.Error("the values were put in order, and a pair no longer fits together")
			}
		})
	}
}

func TestMeasure_stopsAtError(t *testing.T) {
	boom := errors.New("boom")
	halves := 0
	_, err := pairs.Measure([]pairs.Row{{Name: "client", Base: pairs.Arm{Name: "bare"}, Ours: pairs.Arm{Name: "stack"}}}, 3, func(pairs.Arm) (float64, error) {
		halves++
		if halves == 2 {
			return 0, boom
		}
		return 1, nil
	})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "client, stack") || halves != 2 {
		t.Errorf("got %v after %d halves", err, halves)
	}
}

func TestCells_verdictOnMedian(t *testing.T) {
	measured := func(goal float64, ours ...float64) pairs.Measured {
		return pairs.Measured{Row: pairs.Row{Name: "x", Goal: goal}, Base: []float64{1000, 1000, 1000}, Ours: ours}
	}
	got := pairs.Cells([]pairs.Measured{
		measured(1.02, 900, 1020, 2000),
		measured(1.02, 900, 1021, 1021),
		measured(0, 3000, 3000, 3000),
	})
	for i, want := range []string{
		"x 1.00 1.02 1.0200 0.9000 0.9600 1.5100 2.0000 1.02 ok",
		"x 1.00 1.02 1.0210 0.9000 0.9605 1.0210 1.0210 1.02 OVER",
		"x 1.00 3.00 3.0000 3.0000 3.0000 3.0000 3.0000  ",
	} {
		if s := strings.Join(got[i+1], " "); s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
}
