// Command chaos breaks a service and shows what that does to the system around it,
// without protection and with the default client stack.
//
//	go run ./examples/chaos                        watch it
//	go run ./examples/chaos -check                 exit with 1 unless protection held
//	go run ./examples/chaos -json f.json -svg f.svg  keep the figures and a chart
//	go run ./examples/chaos -listen :6060 -wait    look into it at http://localhost:6060/, until Ctrl-C
//
// It starts two copies of one small system on 127.0.0.1, each a process with three
// HTTP servers, and in another process a load generator that sends both copies
// the same requests at the same instants:
//
//	                   /healthy          +--> healthy service
//	load generator --> /broken --> front +
//	                   100/s each        +--> broken service
//
// For 25 seconds the broken service goes through healthy, slow, hanging,
// refusing and recovered. One copy's front calls the services with plain
// http.Clients and a naive retry, the other's with stack.DefaultClient. Both
// have the same timeout for an attempt, the one setting that only an operator can
// know; nothing else is set.
//
// On a terminal the program draws both copies side by side while they run, and
// otherwise it prints a line a second. Look at the route to the healthy service:
// it breaks in the unprotected copy, although the healthy service works, because
// requests that wait for the broken service take all the slots of the front. The verdict at the end has a row for each route and phase.
//
// With -listen the process of the protected copy serves /metrics, for a Prometheus
// to scrape, and /debug/resilience, a page that shows why a breaker is open. With
// -wait all processes stay after the verdict, without load, until Ctrl-C.
//
// The exit code is 0 if all went well, 1 if a check failed or the run did not
// come to its end, and 2 for a mistake on the command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const program demo.Program = "chaos"

func main() {
	if role := program.Role(); role != "" {
		os.Exit(child(role))
	}
	demo.Main(parse, func(ctx context.Context, o options) int {
		return run(ctx, o, theScript(time.Second), newScreen(os.Stdout), os.Stderr)
	})
}

type options struct {
	check     bool
	json, svg string // files to write, "" for none
	listen    string // where to serve the pages, "" for nowhere
	wait      bool   // leave the systems running at the end
}

// parse has printed the mistake to stderr when it returns an error.
func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.BoolVar(&o.check, "check", false, "exit with 1 unless the protected system stood and the unprotected one fell")
	fs.StringVar(&o.json, "json", "", "write the figures to `FILE`")
	fs.StringVar(&o.svg, "svg", "", "write a chart of both systems over time to `FILE`")
	fs.StringVar(&o.listen, "listen", "", "serve /metrics and /debug/resilience of the protected system at `ADDR`, such as :6060")
	fs.BoolVar(&o.wait, "wait", false, "keep the systems running at the end, until Ctrl-C, to look at what -listen serves")
	err = demo.Parse(fs, "[-check] [-json FILE] [-svg FILE] [-listen ADDR [-wait]]", args, stderr, func() error { return o.validate() })
	return o, err
}

// validate finds mistakes that would spoil the end of a run.
func (o options) validate() error {
	if o.wait && o.listen == "" {
		return errors.New("-wait is for a look at the pages that -listen serves: add -listen :6060")
	}
	if o.listen != "" {
		if _, _, err := net.SplitHostPort(o.listen); err != nil {
			return fmt.Errorf("-listen %s: write it as HOST:PORT, or as :PORT for all interfaces", o.listen)
		}
	}
	return demo.CheckFiles(o.json, o.svg)
}

// tries is how many runs -check makes at most to have a valid one.
const tries = 3

// run is the whole program except for the command line. Tests call it with a script
// that has a shorter unit.
func run(ctx context.Context, o options, s script, out *screen, stderr io.Writer) int {
	passed, err := runs(ctx, o, s, out)
	if program.Failed(ctx, err, stderr) || o.check && !passed {
		return 1
	}
	return 0
}

// runs reports whether all checks were passed. All processes have ended when it returns.
func runs(ctx context.Context, o options, s script, out *screen) (passed bool, err error) {
	c := newCrew()
	defer func() { c.stop() }()
	var r result
	for try := 1; ; try++ {
		systems, pages, err := assemble(ctx, c, s, o)
		if err != nil {
			return false, err
		}
		o.listen = pages // the same port in another try
		if try == 1 {
			printHeader(out, s, pages)
		}
		m, err := experiment(ctx, c, systems, s, out)
		if err != nil {
			return false, err
		}
		r = evaluate(s, m)
		printVerdict(out, r)
		// Whether a run is valid depends on the load generator alone, so that another
		// try favours neither system.
		if !o.check || r.valid() || try == tries {
			break
		}
		c.stop()
		c = newCrew()
		fmt.Fprintf(out, "Run %d of at most %d:\n\n", try+1, tries)
	}
	if err := save(o, r); err != nil {
		return false, err
	}
	if o.wait {
		fmt.Fprintf(out, "\nThe systems stay, without load, until Ctrl-C: %s\n", browse(o.listen))
		if err := c.wait(ctx); err != nil {
			return false, err
		}
		fmt.Fprintln(out) // after the ^C of a terminal
	}
	return r.passed(), nil
}

func save(o options, r result) error {
	if o.json != "" {
		data, err := encode(r)
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, data, 0o644); err != nil {
			return err
		}
	}
	if o.svg != "" {
		return os.WriteFile(o.svg, chart(r), 0o644)
	}
	return nil
}
