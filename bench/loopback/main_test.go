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

	"github.com/resilience-go/resilience/bench/internal/pairs"
	"go.uber.org/goleak"
)

func TestReport_measuresAllRows(t *testing.T) {
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

// -row measures one row only.
func TestReport_oneRow(t *testing.T) {
	var out strings.Builder
	if err := report(&out, options{pairs: 2, requests: 20, concurrency: 8, row: "server"}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "\nserver ") || strings.Contains(text, "\nnull ") {
		t.Errorf("not the row server alone:\n%s", text)
	}
}

func TestReport_errors(t *testing.T) {
	for _, o := range []options{
		{pairs: 0, requests: 1, concurrency: 1},
		{pairs: 1, requests: 0, concurrency: 1},
		{pairs: 1, requests: 1, concurrency: 0},
		{pairs: 1, requests: 1, concurrency: mostAtATime + 1},
		{pairs: 1, requests: 1, concurrency: 1, row: "sever"},
	} {
		if err := report(io.Discard, o); err == nil {
			t.Errorf("%+v is not refused", o)
		}
	}
}

// A bulkhead that sizes itself would reject some of so many that come at once.
func TestLoad_nothingRejectedAfterWarmUp(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	l := newLoad(64)
	rows := rowsFor(l, s)
	i := slices.IndexFunc(rows, func(r pairs.Row) bool { return r.Name == "both" })
	if err := l.warmUp(rows[i:i+1], 1); err != nil {
		t.Fatal(err)
	}
	if nanos, err := l.half(rows[i].Ours, 640); err != nil || nanos <= 0 {
		t.Errorf("%v ns for a request, %v", nanos, err)
	}
	if n := l.dialed.Load(); n < 2 || n > 200 {
		t.Errorf("%d connections for more than 1000 requests, 64 at a time", n)
	}
}

func TestLoad_makesExactlyAllRequests(t *testing.T) {
	for _, n := range []int{1, 5, 1000} {
		var made atomic.Int64
		a := pairs.Arm{Do: func() error { made.Add(1); return nil }}
		if err := newLoad(8).requests(a, n, 8); err != nil || made.Load() != int64(n) {
			t.Errorf("made %d requests of %d, %v", made.Load(), n, err)
		}
	}
}

func TestLoad_errorEndsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		var made atomic.Int64
		a := pairs.Arm{Do: func() error {
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

func TestGet_wantsWholeAnswer(t *testing.T) {
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
