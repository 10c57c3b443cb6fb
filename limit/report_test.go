package limit_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// A report during an overload shows since when, why and what happens next.
func TestLimit_reportsOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resilience.Must(limit.New(limit.Config{Name: "orders"}))
		made := time.Now()
		if r := l.Report(true); r.State != "NORMAL" || !r.Since.Equal(made) || r.Why != "" || r.Next != "" || r.Attention {
			t.Errorf("at first: %+v", r)
		}
		s := simulate(10, l, 1)
		time.Sleep(time.Hour)
		began := time.Now()
		s.steady(10*time.Second, 2000, time.Second, 10*ms)
		r := l.Report(true)
		if r.State != "OVERLOAD" || !r.Attention || r.Why == "" || r.Next == "" || r.Since.Before(began) || r.Since.After(time.Now()) {
			t.Errorf("in an overload: %+v", r)
		}
		for _, want := range []string{"a trial ", " requests in the handler gave "} {
			if !strings.Contains(r.Why, want) {
				t.Errorf("why: %q", r.Why)
			}
		}
		if want := "rejects requests of priority normal and below that were queued for "; !strings.HasPrefix(r.Next, want) {
			t.Errorf("next: %q", r.Next)
		}
		t.Log(r.Why, "|", r.Next)
		if r := l.Report(false); r.Why != "" || !r.Since.IsZero() {
			t.Errorf("without details: %+v", r)
		}
		s.all.Wait()
		time.Sleep(time.Minute)
		if r := l.Report(true); r.State != "NORMAL" || !r.Since.After(began) || r.Why != "" || r.Next != "" {
			t.Errorf("after it: %+v", r)
		}
	})
}
