// Command endpoints calls three replicas of a service through the default client stack,
// breaks one replica after another, and shows what that costs the callers with and
// without a choice of endpoints.
//
//	go run ./examples/endpoints             a table on the terminal, within a minute and a half
//	go run ./examples/endpoints -check      exit with 1 unless the choice kept 99.9 % of the calls
//	go run ./examples/endpoints -markdown   print the table in Markdown
//
// Each replica is a process of its own on a loopback address. The clients use HTTP/1,
// HTTP/2 and gRPC. Without endpoints they do what net/http and gRPC do by themselves: HTTP
// connects to one address of the name, and gRPC sends calls to all in turn.
//
// The exit code is 0 if all went well, 1 if a check failed or the run did not come to its
// end, and 2 for a mistake on the command line.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const program demo.Program = "endpoints"

func main() {
	if program.Role() != "" {
		os.Exit(child())
	}
	demo.Main(parse, func(ctx context.Context, o options) int {
		return run(ctx, o, thePlan(), os.Stdout, os.Stderr)
	})
}

type options struct {
	check    bool
	markdown bool
}

// parse has printed the mistake to stderr when it returns an error.
func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("endpoints", flag.ContinueOnError)
	fs.BoolVar(&o.check, "check", false, "exit with 1 unless the choice of endpoints kept 99.9 % of the calls")
	fs.BoolVar(&o.markdown, "markdown", false, "print the table in Markdown")
	err = demo.Parse(fs, "[-check] [-markdown]", args, stderr, func() error { return nil })
	return o, err
}

// run is the whole program except for the command line. All processes have ended when it
// returns.
func run(ctx context.Context, o options, p plan, out, stderr io.Writer) int {
	t := table{out: out, markdown: o.markdown}
	checks, err := experiment(ctx, p, &t)
	if program.Failed(ctx, cmp.Or(ctx.Err(), err), stderr) {
		return 1
	}
	if !o.check {
		return 0
	}
	if demo.Passed(checks) {
		fmt.Fprintf(out, "\nWith endpoints at least %v %% of the calls succeeded in each phase.\n", leastSuccess)
		return 0
	}
	fmt.Fprintln(out, "\n"+demo.NotShown(checks))
	return 1
}
