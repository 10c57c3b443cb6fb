// Command overload sends a real service more requests than it can answer, and shows
// its goodput with and without the default stack for servers in front of its handler.
//
//	go run ./examples/overload              a table on the terminal, after a minute
//	go run ./examples/overload -check       exit with 1 unless the stack held and the bare service fell
//	go run ./examples/overload -svg f.svg   keep a chart
//	go run ./examples/overload -markdown    print the tables in Markdown, as in README.md
//
// The service is a process of its own on 127.0.0.1, held to one core, that hashes
// for 1 ms to answer a request. The program first measures the service's capacity in
// requests a second. Then it sends 0.7, 2 and 4 times as many, at random instants,
// whether or not earlier ones were answered. Each caller leaves after 500 ms. Every
// load gets a service of its own.
//
// The exit code is 0 if all went well, 1 if a check failed or the run did not
// come to its end, and 2 for a mistake on the command line.
package main

import (
	"cmp"
	"context"
	"flag"
	"io"
	"os"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const program demo.Program = "overload"

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
	svg      string // file to write, "" for none
}

// parse has printed the mistake to stderr when it returns an error.
func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("overload", flag.ContinueOnError)
	fs.BoolVar(&o.check, "check", false, "exit with 1 unless the service with the stack stood and the bare one fell")
	fs.BoolVar(&o.markdown, "markdown", false, "print the tables in Markdown")
	fs.StringVar(&o.svg, "svg", "", "write a chart of goodput against load to `FILE`")
	err = demo.Parse(fs, "[-check] [-markdown] [-svg FILE]", args, stderr, func() error { return demo.CheckFiles(o.svg) })
	return o, err
}

// run is the whole program except for the command line. Tests call it with a shorter
// plan. All processes have ended when it returns.
func run(ctx context.Context, o options, p plan, out, stderr io.Writer) int {
	// Progress is for a reader at the terminal, the output of -markdown for a file.
	progress := out
	if o.markdown {
		progress = stderr
	}
	r, err := experiment(ctx, p, progress)
	if err == nil && o.svg != "" {
		err = os.WriteFile(o.svg, chart(r), 0o644)
	}
	if program.Failed(ctx, cmp.Or(ctx.Err(), err), stderr) {
		return 1
	}
	if o.markdown {
		printMarkdown(out, r)
	} else {
		printResult(out, r)
	}
	if o.check && !r.passed() {
		return 1
	}
	return 0
}
