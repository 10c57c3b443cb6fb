// Command grpc breaks a gRPC service and shows what that does to its client.
//
//	go run ./examples/grpc
//
// It starts a server on 127.0.0.1, and a client that makes a hundred calls a second.
// The server goes through healthy, flaky, hanging, unavailable and healthy. Both use
// the default stacks of package stack; the client is told how long an attempt may
// take, and nothing else is set.
//
// It prints a row for each half of a second. While the server is flaky, retries hide
// it: there are more attempts than calls, and no call fails. While it hangs, calls
// take as long as an attempt may, see the column "median", until the breaker opens.
// From then on they are refused at once, and the few attempts that reach the server
// are the probes that find out when it is back.
//
// The exit code is 0 if all went well, 1 if the run did not come to its end, and 2
// for a mistake on the command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	callEvery  = 10 * time.Millisecond
	rowEvery   = 500 * time.Millisecond
	takes      = 5 * time.Millisecond   // what the server needs for a call
	attempt    = 100 * time.Millisecond // what an attempt may take
	callersOwn = time.Second            // the deadline of a call
)

// phase is a time in which the server does one thing.
type phase struct {
	fault  fault
	length time.Duration
}

var story = []phase{
	{healthy, time.Second},
	{flaky, time.Second},
	{hanging, 2500 * time.Millisecond},
	{unavailable, time.Second},
	{healthy, 2 * time.Second},
}

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "usage: go run ./examples/grpc")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := loopback(ctx, os.Stdout, story)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

// loopback runs the story over a socket of this machine.
func loopback(ctx context.Context, w io.Writer, phases []phase) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, err = run(ctx, w, phases, lis, lis.Addr().String())
	return err
}

// run serves on lis, calls the target, which leads there, and prints what becomes of
// the calls. All that it has started has ended when it returns.
func run(ctx context.Context, w io.Writer, phases []phase, lis net.Listener, target string, options ...grpc.DialOption) (rows []row, err error) {
	server := &payments{}
	srv := server.start()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	defer func() {
		srv.Stop()
		err = errors.Join(err, <-served)
	}()

	t := &table{w: w}
	conn, err := dial(t, target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	fmt.Fprintf(w, "A client makes a call each %v. An attempt may take %v, a call %v.\n\n", callEvery, attempt, callersOwn)
	t.begin()
	err = play(ctx, t, server, conn, phases)
	t.summary(server.attempts.Load())
	return t.rows, err
}
