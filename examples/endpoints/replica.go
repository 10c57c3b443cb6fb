package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// config is what a replica reads first.
type config struct {
	HTTP string        `json:"http"` // the address to listen on
	GRPC string        `json:"grpc"`
	Work time.Duration `json:"work"` // how long an answer takes
}

// report is what a replica writes once it listens, or if it cannot go on.
type report struct {
	HTTP  string `json:"http,omitempty"`
	GRPC  string `json:"grpc,omitempty"`
	Error string `json:"error,omitempty"`
}

// command is what a replica does from now on.
type command string

const (
	work   command = "work"
	fail   command = "fail"   // answers 503 and UNAVAILABLE
	refuse command = "refuse" // closes its sockets
)

// replica is the service in a child process.
type replica struct {
	pb.UnimplementedTestServiceServer
	work    time.Duration
	failing atomic.Bool
	addr    string // of gRPC
	grpc    *grpc.Server
}

// child runs a replica until its input ends, and returns the exit code.
func child() int {
	var c config
	in, ok := program.Configure(&c)
	if !ok {
		return 1
	}
	out := json.NewEncoder(os.Stdout)
	broken := func(err error) {
		_ = out.Encode(report{Error: err.Error()})
		os.Exit(1)
	}
	r := &replica{work: c.Work, addr: c.GRPC}
	web, err := demo.Serve(c.HTTP, r, broken)
	if err == nil {
		err = r.serve()
	}
	if err != nil {
		broken(err)
	}
	_ = out.Encode(report{HTTP: web.Addr.String(), GRPC: r.addr})
	reopen := func() error { return nil }
	demo.ExitAtEnd(in, func(do command) {
		err := reopen()
		reopen = func() error { return nil }
		r.failing.Store(do == fail)
		if do == refuse {
			r.grpc.Stop()
			again := web.Close()
			reopen = func() error {
				if err := again(); err != nil {
					return err
				}
				return r.serve()
			}
		}
		if err != nil {
			broken(err)
		}
	})
	return 0
}

// serve starts a gRPC server, which runs until Stop.
func (r *replica) serve() error {
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	r.addr = listener.Addr().String()
	r.grpc = grpc.NewServer()
	pb.RegisterTestServiceServer(r.grpc, r)
	go func() { _ = r.grpc.Serve(listener) }()
	return nil
}

// ServeHTTP implements http.Handler.
func (r *replica) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if r.failing.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	time.Sleep(r.work)
	_, _ = w.Write([]byte("paid\n"))
}

// UnaryCall implements pb.TestServiceServer.
func (r *replica) UnaryCall(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if r.failing.Load() {
		return nil, status.Error(codes.Unavailable, "out of order")
	}
	time.Sleep(r.work)
	return &pb.SimpleResponse{}, nil
}
