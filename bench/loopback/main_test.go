package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestWhichArmIsFirstAlternates(t *testing.T) {
	rows := []row{
		{name: "x", base: arm{name: "x base"}, ours: arm{name: "x ours"}},
		{name: "y", base: arm{name: "y base"}, ours: arm{name: "y ours"}},
	}
	var order []string
	_, err := measure(rows, 3, func(a arm) (float64, error) {
		order = append(order, a.name)
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

// The machine gets slower all the time, and the ratio of each pair is still that of
// its own two halves.
func TestTheRatioOfAPairIsOfItsOwnHalves(t *testing.T) {
	times := map[string][]float64{
		"base": {100, 200, 400, 800, 1000},
		"ours": {110, 200, 600, 960, 1400},
	}
	m, err := measure([]row{{base: arm{name: "base"}, ours: arm{name: "ours"}}}, 5, func(a arm) (float64, error) {
		now := times[a.name][0]
		times[a.name] = times[a.name][1:]
		return now, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m[0].ratios(), (spread{least: 1, lower: 1.1, median: 1.2, upper: 1.4, most: 1.5}); got != want {
		t.Errorf("the ratios are 1.1, 1, 1.5, 1.2 and 1.4, so want %+v, got %+v", want, got)
	}
	if got := spreadOf(m[0].base).median; got != 400 {
		t.Errorf("the median of base is %v, want 400", got)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   spread
	}{
		{"one value is all of it", []float64{7}, spread{7, 7, 7, 7, 7}},
		{"an even number has its median between two", []float64{4, 1, 3, 2}, spread{1, 1.75, 2.5, 3.25, 4}},
		{"an odd number has its median in the middle", []float64{50, 10, 30, 20, 40}, spread{10, 20, 30, 40, 50}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.values)
			if got := spreadOf(c.values); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if !slices.Equal(c.values, before) {
				t.Error("the values were put in order, and a pair no longer fits together")
			}
		})
	}
}

func TestMeasureStopsAtAnErrorAndSaysWhere(t *testing.T) {
	boom := errors.New("boom")
	halves := 0
	_, err := measure([]row{{name: "client", base: arm{name: "bare"}, ours: arm{name: "stack"}}}, 3, func(arm) (float64, error) {
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

func TestAVerdictIsOnTheMedian(t *testing.T) {
	pairs := func(goal float64, ours ...float64) measured {
		return measured{row: row{name: "x", goal: goal}, base: []float64{1000, 1000, 1000}, ours: ours}
	}
	got := cells([]measured{
		pairs(1.02, 900, 1020, 2000),
		pairs(1.02, 900, 1021, 1021),
		pairs(0, 3000, 3000, 3000),
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

func TestReportMeasuresAllRows(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, c := range []struct {
		name, row string
		markdown  bool
	}{
		{"text", "\nclient over http.Client.Timeout  ", false},
		{"markdown", "\n| client over http.Client.Timeout | ", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if err := report(&out, options{pairs: 2, requests: 20, concurrency: 8, markdown: c.markdown}); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), c.row) {
				t.Errorf("no row %q in\n%s", c.row, out.String())
			}
		})
	}
}

func TestReportRefusesWhatItCannotMeasure(t *testing.T) {
	for _, o := range []options{
		{pairs: 0, requests: 1, concurrency: 1},
		{pairs: 1, requests: 0, concurrency: 1},
		{pairs: 1, requests: 1, concurrency: 0},
		{pairs: 1, requests: 1, concurrency: mostAtATime + 1},
	} {
		if err := report(io.Discard, o); err == nil {
			t.Errorf("%+v is not refused", o)
		}
	}
}

// A bulkhead that sizes itself would reject some of so many that come at once.
func TestAfterWarmingUpNobodyIsRejected(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	l := newLoad(64)
	rows := rowsFor(l, s)
	i := slices.IndexFunc(rows, func(r row) bool { return r.name == "both" })
	if err := l.warmUp(rows[i:i+1], 1); err != nil {
		t.Fatal(err)
	}
	if nanos, err := l.half(rows[i].ours, 640); err != nil || nanos <= 0 {
		t.Errorf("%v ns for a request, %v", nanos, err)
	}
	if n := l.dialed.Load(); n < 2 || n > 200 {
		t.Errorf("%d connections for more than 1000 requests, 64 at a time", n)
	}
}

func TestAllRequestsAreMadeAndNoMore(t *testing.T) {
	for _, n := range []int{1, 5, 1000} {
		var made atomic.Int64
		a := arm{do: func() error { made.Add(1); return nil }}
		if err := newLoad(8).requests(a, n, 8); err != nil || made.Load() != int64(n) {
			t.Errorf("made %d requests of %d, %v", made.Load(), n, err)
		}
	}
}

func TestAnErrorEndsTheHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		var made atomic.Int64
		a := arm{do: func() error {
			switch n := made.Add(1); {
			case n == 10:
				return boom
			case n > 10:
				time.Sleep(time.Second) // until the error has been noticed
			}
			return nil
		}}
		const atATime = 8
		_, err := newLoad(atATime).half(a, 1000)
		if n := made.Load(); !errors.Is(err, boom) || n > 10+atATime-1 {
			t.Errorf("got %v after %d requests, want %v after 10 and those that were under way", err, n, boom)
		}
	})
}

func TestGetIsSatisfiedOnlyWithTheWholeAnswer(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // in the error, "" for none
	}{
		{"all of it", answers, ""},
		{"another status", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write(answer)
		}, "status 202"},
		{"less", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer[1:]) }, "48 bytes"},
		{"it breaks off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answers(w, r)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "unexpected EOF"},
		{"nothing", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(c.handler)
			defer s.Close()
			err := get(s.Client(), s.URL)()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
