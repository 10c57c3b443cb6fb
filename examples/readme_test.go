// Package examples_test holds the code of README.md as one program.
package examples_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// User is a row of a database.
type User struct{ Name string }

type userDB map[int]User

func (db userDB) User(_ context.Context, id int) (User, error) { return db[id], nil }

// readmeProgram has the values that the code of README.md makes.
type readmeProgram struct {
	client *http.Client
	conn   *grpc.ClientConn
	find   func(ctx context.Context, id int) (User, error)
}

// readmeCode has the code of README.md in one function.
func readmeCode(mux *http.ServeMux, orders http.Handler, target string, db userDB) (readmeProgram, error) {
	c := stack.DefaultClient("orders")
	c.Attempt.Timeout = 100 * time.Millisecond
	p := resilience.Must(c.New())
	client := &http.Client{Transport: &httpmw.Transport{Policy: p}}

	service := stack.Server("orders")
	mux.Handle("/orders/", httpmw.Server{Policy: service}.Wrap(orders))

	payments := stack.Client("payments")
	calls := grpcmw.Client{Policy: payments}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(calls.Unary), grpc.WithChainStreamInterceptor(calls.Stream))

	users := resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "users"})),
		resilience.Must(breaker.New(breaker.Config{Name: "users"})),
		resilience.Must(timeout.New(timeout.Config{Name: "users", Timeout: time.Second})), // of one attempt
	)
	find := func(ctx context.Context, id int) (User, error) {
		return resilience.Do(ctx, users, func(ctx context.Context) (User, error) {
			return db.User(ctx, id)
		})
	}

	all := []resilience.Policy{p, service, payments, users}
	prometheus.MustRegister(resilience.Must(metrics.NewCollector(all...)))
	mux.Handle("/metrics", promhttp.Handler())
	mux.Handle("/debug/resilience", debug.Handler(all...)) // shows error texts: keep it internal
	return readmeProgram{client, conn, find}, err
}

// The code of README.md works as one program: each part is guarded, and one page has the
// metrics of all parts.
func TestREADME_program(t *testing.T) {
	registry := prometheus.NewRegistry()
	registerer, gatherer := prometheus.DefaultRegisterer, prometheus.DefaultGatherer
	prometheus.DefaultRegisterer, prometheus.DefaultGatherer = registry, registry
	defer func() { prometheus.DefaultRegisterer, prometheus.DefaultGatherer = registerer, gatherer }()

	mux := http.NewServeMux()
	orders := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	program, err := readmeCode(mux, orders, "passthrough:///127.0.0.1:1", userDB{7: {"Ada"}})
	if err != nil {
		t.Fatal(err)
	}
	defer program.conn.Close()
	server := httptest.NewServer(mux)
	defer server.Close()
	defer program.client.CloseIdleConnections()

	resp, err := program.client.Get(server.URL + "/orders/1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if user, err := program.find(t.Context(), 7); user.Name != "Ada" || err != nil {
		t.Errorf("%v, %v", user, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no call is needed"))
	_ = program.conn.Invoke(ctx, "/payments/Charge", nil, nil)

	page := httptest.NewRecorder()
	mux.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`resilience_retry_calls_total{name="orders",outcome="first_try"} 1`,
		`resilience_limit_calls_total{name="orders",outcome="useful"} 1`,
		`resilience_breaker_calls_total{name="payments",outcome="success"} 0`,
		`resilience_breaker_calls_total{name="users",outcome="success"} 1`,
	} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("no series %s in\n%s", want, page.Body)
		}
	}
	card := httptest.NewRecorder()
	mux.ServeHTTP(card, httptest.NewRequest(http.MethodGet, "/debug/resilience?format=json", nil))
	if card.Code != http.StatusOK || !strings.Contains(card.Body.String(), "payments") {
		t.Errorf("the debug page: %d %s", card.Code, card.Body)
	}
}
