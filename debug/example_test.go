package debug_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/resiliencetest"
)

func ExampleHandler() {
	payments := resilience.Must(breaker.New(breaker.Config{Name: "payments", Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}}))
	mux := http.NewServeMux()
	mux.Handle("/debug/resilience", debug.Handler(payments))

	for range 2 {
		_ = resilience.Run(context.Background(), payments, func(context.Context) error { return errors.New("connection refused") })
	}

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/resilience?format=json", nil))
	var page struct {
		Summary  struct{ Text string }
		Policies []struct{ Name, Why string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		panic(err)
	}
	fmt.Println(page.Summary.Text)
	fmt.Println(page.Policies[0].Name+":", page.Policies[0].Why)
	// Output:
	// 1 policy needs attention; breaker: 1 OPEN
	// payments: Consecutive{Failures: 2}: 2 failed in a row, after: connection refused
}

// A dailyQuota is a policy of a user's program. It admits calls until its units are spent.
type dailyQuota struct {
	units           int64
	spent, rejected atomic.Int64
}

var _ resilience.Reporter = (*dailyQuota)(nil)

// Apply implements resilience.Policy.
func (q *dailyQuota) Apply(ctx context.Context, next resilience.Next) error {
	if err := resilience.ContextError(ctx); err != nil {
		return err // and count nothing
	}
	if q.spent.Add(1) > q.units {
		q.spent.Add(-1)
		q.rejected.Add(1)
		return &resilience.Rejection{Policy: "quota", Name: "maps", Reason: "spent"}
	}
	return next.Run(ctx)
}

// The quota keeps the contract of resilience.Policy.
func TestDailyQuota_contract(t *testing.T) {
	resiliencetest.TestPolicy(t, func() resilience.Policy { return &dailyQuota{units: 1 << 20} })
}

// Report implements resilience.Reporter.
func (q *dailyQuota) Report(details bool) resilience.Report {
	spent := q.spent.Load()
	r := resilience.Report{
		Kind: "quota", Name: "maps", State: "LEFT",
		Values: []resilience.Value{
			{Name: "rejected_total", Value: float64(q.rejected.Load()), Help: "Calls without a unit."},
			{Name: "spent_units", Value: float64(spent), Max: float64(q.units), Help: "Units spent today."},
		},
	}
	if spent == q.units {
		r.State, r.Attention = "SPENT", true
	}
	if details {
		r.Time, r.Settings = time.Now(), fmt.Sprintf("%d units a day", q.units)
		if r.Attention {
			r.Why, r.Next = "all units of today are spent", "new units come at midnight"
		}
	}
	return r
}

// A policy of your own gets the same card as the policies of this module if it is a
// resilience.Reporter.
func ExampleHandler_reporter() {
	quota := &dailyQuota{units: 2}
	for range 5 {
		_ = resilience.Run(context.Background(), quota, func(context.Context) error { return nil })
	}

	w := httptest.NewRecorder()
	debug.Handler(quota).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
	var page struct {
		Summary  struct{ Text string }
		Policies []struct {
			Kind, Name, State, Why, Next string
			Values                       []struct {
				Name       string
				Value, Max float64
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		panic(err)
	}
	card := page.Policies[0]
	fmt.Println(page.Summary.Text)
	fmt.Printf("%s %s is %s: %s; %s\n", card.Kind, card.Name, card.State, card.Why, card.Next)
	for _, v := range card.Values {
		fmt.Println(v.Name, v.Value, v.Max)
	}
	// Output:
	// 1 policy needs attention; quota: 1 SPENT
	// quota maps is SPENT: all units of today are spent; new units come at midnight
	// rejected_total 3 0
	// spent_units 2 2
}
