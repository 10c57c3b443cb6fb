package debug_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/debug"
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
