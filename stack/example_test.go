package stack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

func ExampleClient() {
	p := stack.Client("users")
	user, err := resilience.Do(context.Background(), p, func(context.Context) (string, error) {
		return "Ada", nil
	})
	fmt.Println(user, err)
	// Output: Ada <nil>
}

// balance is an operation with a key: each shard has its own state.
type balance struct {
	shard, account string
	amount         int
}

func (b *balance) Key() string { return b.shard }

func (b *balance) Run(ctx context.Context) (err error) {
	b.amount, err = query(ctx, b.shard, b.account)
	return err
}

func balanceOf(ctx context.Context, p resilience.Policy, shard, account string) (int, error) {
	b := &balance{shard: shard, account: account}
	err := resilience.RunOperation(ctx, p, b)
	return b.amount, err
}

// query stands for a call to a database.
func query(_ context.Context, _, account string) (int, error) { return 100 * len(account), nil }

func ExampleClient_key() {
	p := stack.Client("accounts")
	fmt.Println(balanceOf(context.Background(), p, "eu-1", "Ada"))
	fmt.Println(balanceOf(context.Background(), p, "us-2", "Grace"))
	for n := range resilience.Walk(p) {
		if g, ok := n.Policy.(*keyed.Group); ok {
			fmt.Println(g.Stats().Keys, "keys")
		}
	}
	// Output:
	// 300 <nil>
	// 500 <nil>
	// 2 keys
}

func ExampleDefaultClient() {
	c := stack.DefaultClient("users")
	c.Attempt.Timeout = 500 * time.Millisecond
	c.Without = stack.Keyed // all calls go to one dependency
	p, err := c.New()
	if err != nil {
		panic(err)
	}
	err = resilience.Run(context.Background(), p, func(context.Context) error { return nil })
	fmt.Println(err)
	// Output: <nil>
}

// Functions have no key. A group outside of the stack gives each tenant its own state.
func ExampleClientConfig_tenants() {
	fn := func(context.Context) (int, error) { return 7, nil } // a query of one tenant's database
	ordersOf := func(ctx context.Context, g *keyed.Group, tenant string) (int, error) {
		return resilience.Do(ctx, g.For(tenant), fn)
	}

	c := stack.DefaultClient("db")
	c.Attempt.Timeout = 500 * time.Millisecond
	c.Without = stack.Keyed // the group below replaces it
	g, err := keyed.New(resilience.Must(c.New()), keyed.Config{Name: "db"})
	if err != nil {
		panic(err)
	}
	fmt.Println(ordersOf(context.Background(), g, "acme"))
	fmt.Println(ordersOf(context.Background(), g, "globex"))
	fmt.Println(g.Stats().Keys, "tenants")
	// Output:
	// 7 <nil>
	// 7 <nil>
	// 2 tenants
}

// One host has a longer timeout than the others, and all events are logged.
func ExampleClientConfig() {
	events := resilience.LogObserver(slog.New(slog.DiscardHandler))

	slow := stack.DefaultClient("reports")
	slow.Attempt.Timeout = time.Minute
	slow.Without = stack.Keyed // it is for one host
	slow.Observer = events

	c := stack.DefaultClient("partners")
	c.Attempt.Timeout = 500 * time.Millisecond
	c.Observer = events
	c.Keyed.Keys = map[string]resilience.Policy{
		"https://reports.example.com": resilience.Must(slow.New()),
	}
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New())}}

	for n := range resilience.Walk(client.Transport.(*httpmw.Transport).Policy) {
		if b, ok := n.Policy.(*breaker.Breaker); ok {
			fmt.Println(b.Name(), b.Stats().Opened)
		}
	}
	// Output:
	// partners 0
	// reports 0
}

// slow is a request body whose pieces take a second each.
type slow struct{ now *clock.Mock }

func (s slow) Read(p []byte) (int, error) {
	s.now.Add(time.Second)
	return copy(p, "x"), nil
}

// An upload takes longer than other requests, so it has its own timeout and its own breaker.
// Classify makes an error an answer for all layers.
func ExampleClientConfig_classify() {
	none := errors.New("no such user")
	users := stack.ClientConfig{Name: "users", Classify: func(err error) resilience.Outcome {
		if errors.Is(err, none) {
			return resilience.Success // the database works, and this is its answer
		}
		return resilience.Failure
	}}
	p := resilience.Must(users.New())
	err := resilience.Run(context.Background(), p, func(context.Context) error { return none })
	fmt.Println(errors.Is(err, none))
	// Output: true
}

func ExampleClientConfig_uploads() {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	now := clock.NewMock()
	uploads := stack.DefaultClient("uploads")
	uploads.Attempt.Timeout = 10 * time.Minute // with the time to send the body
	uploads.Without = stack.Keyed              // it is for one key
	uploads.Attempt.Clock = now

	c := stack.DefaultClient("files")
	c.Attempt.Timeout = 5 * time.Second
	c.Keyed.Keys = map[string]resilience.Policy{"uploads": resilience.Must(uploads.New())}
	c.Attempt.Clock = now
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New())}}
	put := func(ctx context.Context, seconds int64) {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, io.LimitReader(slow{now}, seconds))
		resp, err := client.Do(req)
		fmt.Println("too slow:", errors.Is(err, timeout.ErrExceeded))
		if err == nil {
			resp.Body.Close()
		}
	}
	put(context.Background(), math.MaxInt64)
	put(httpmw.WithKey(context.Background(), "uploads"), 60)
	// Output:
	// too slow: true
	// too slow: false
}

func ExampleServer() {
	p := stack.Server("orders")
	err := resilience.Run(context.Background(), p, func(context.Context) error { return nil })
	fmt.Println(err)
	// Output: <nil>
}

// Routes whose requests take about the same time share a policy.
func ExampleServer_groups() {
	order := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "order "+r.PathValue("id")) })
	report := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "report") })

	fast := httpmw.Server{Policy: stack.Server("orders: fast")} // milliseconds
	slow := httpmw.Server{Policy: stack.Server("orders: slow")} // half a second
	mux := http.NewServeMux()
	mux.Handle("GET /orders/{id}", fast.Wrap(order))
	mux.Handle("PUT /orders/{id}", fast.Wrap(order))
	mux.Handle("POST /reports", slow.Wrap(report))

	for _, request := range []string{"GET /orders/7", "POST /reports"} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		fmt.Println(w.Body)
	}
	// Output:
	// order 7
	// report
}

func ExampleDefaultServer() {
	c := stack.DefaultServer("orders")
	c.Observer = resilience.LogObserver(slog.New(slog.DiscardHandler)) // logs when an overload begins and ends
	c.Limit.Max = 200                                                  // the database has 200 connections
	p, err := c.New()
	if err != nil {
		panic(err)
	}
	err = resilience.Run(context.Background(), p, func(context.Context) error { return nil })
	fmt.Println(err)
	// Output: <nil>
}
