package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// client is one way to call the service, in several instances: each has connections of its
// own and finds out for itself which replica is broken, as processes of a fleet do.
type client struct {
	protocol  string
	endpoints bool // chooses among the replicas
	calls     []func(context.Context) error
	closes    []func()
}

func (c *client) add(call func(context.Context) error, closeIt func()) {
	c.calls = append(c.calls, call)
	c.closes = append(c.closes, closeIt)
}

func (c *client) close() {
	for _, closeIt := range c.closes {
		closeIt()
	}
}

var protocols = []string{"HTTP/1", "HTTP/2", "gRPC"}

// clients returns two for each protocol: without and with a choice of endpoints.
func clients(f *fleet) ([]*client, error) {
	var all []*client
	for _, endpoints := range []bool{false, true} {
		for _, protocol := range protocols {
			c := &client{protocol: protocol, endpoints: endpoints}
			for range f.plan.instances {
				if protocol != "gRPC" {
					web := newHTTP(f, protocol, endpoints)
					c.add(callHTTP(web), web.CloseIdleConnections)
					continue
				}
				conn, err := dial(f, endpoints)
				if err != nil {
					return nil, err
				}
				c.add(callGRPC(conn), func() { conn.Close() })
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// policy returns the default client stack with the timeout of an attempt.
func policy(f *fleet) resilience.Policy {
	c := stack.DefaultClient("payments")
	c.Attempt.Timeout = f.plan.attempt
	return resilience.Must(c.New())
}

// newHTTP returns a client for HTTP/1 or unencrypted HTTP/2. Without endpoints, each new
// connection is to a random address, as with a name that has several.
func newHTTP(f *fleet, protocol string, endpoints bool) *http.Client {
	addresses := f.addresses(func(c config) string { return c.HTTP })
	base := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 20}
	base.Protocols.SetHTTP1(protocol == "HTTP/1")
	base.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
	if endpoints {
		return &http.Client{Transport: &httpmw.Transport{Policy: policy(f), Base: &httpmw.Endpoints{
			Base:    base,
			Resolve: func(context.Context, string, string) ([]string, error) { return addresses, nil },
		}}}
	}
	base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addresses[rand.N(len(addresses))])
	}
	return &http.Client{Transport: &httpmw.Transport{Policy: policy(f), Base: base}}
}

func callHTTP(c *http.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://payments.example/", nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// dial returns a connection. Without endpoints, calls go to all addresses in turn.
func dial(f *fleet, endpoints bool) (*grpc.ClientConn, error) {
	r := manual.NewBuilderWithScheme("fleet")
	var state resolver.State
	for _, a := range f.addresses(func(c config) string { return c.GRPC }) {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	r.InitialState(state)
	balance := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`)
	if endpoints {
		balance = grpcmw.WithEndpoints()
	}
	calls := grpcmw.Client{Policy: policy(f), Retryable: retryable}
	return grpc.NewClient("fleet:///payments", grpc.WithResolvers(r), balance,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect(), MinConnectTimeout: time.Second}),
		grpc.WithChainUnaryInterceptor(calls.Unary), grpc.WithChainStreamInterceptor(calls.Stream))
}

// retryable also retries calls that timed out. HTTP does so for a GET; over gRPC only the
// program knows that a method has no side effect.
func retryable(method string, err error) bool {
	return grpcmw.DefaultRetryable(method, err) || status.Code(err) == codes.DeadlineExceeded
}

func callGRPC(conn *grpc.ClientConn) func(context.Context) error {
	service := pb.NewTestServiceClient(conn)
	return func(ctx context.Context) error {
		_, err := service.UnaryCall(ctx, &pb.SimpleRequest{})
		return err
	}
}
