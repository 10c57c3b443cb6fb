package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const header = `Two copies of one system on 127.0.0.1, each a process with three HTTP servers.
Both get the same requests and the same faults at the same instants.

  load      %[1]d requests/s to each route of each copy, whether or not earlier
            ones were answered
  front     %[2]d slots, 503 at once when they are taken
  services  %[3]d workers x %[4]v = %[5]d requests/s, %[6]d may wait for a worker, then 503;
            the broken one, when slow: %[3]d x %[7]v = %[8]d requests/s
  clients   unprotected: http.Client, %[9]d attempts, %[10]v and %[11]v between them
            protected:   stack.DefaultClient
            both: %[12]v for an attempt, nothing else is set
  script    %[13]s
%[14]s
`

const pagesHeader = `  pages     of the protected system, while it runs: %[1]s
            %[1]smetrics
            %[1]sdebug/resilience
`

// printHeader prints what is run. pages is the address of the pages, "" for none.
func printHeader(w io.Writer, s script, pages string) {
	var phases []string
	for _, p := range s.Phases {
		phases = append(phases, fmt.Sprintf("%s %.3g s", p.Name, s.Unit.Seconds()*float64(p.Units)))
	}
	if pages != "" {
		pages = fmt.Sprintf(pagesHeader, browse(pages))
	}
	perSecond := func(d time.Duration) int { return int(workers * time.Second / d) }
	fmt.Fprintf(w, header,
		rate, slots, workers, work, perSecond(work), queue, slowdown*work, perSecond(slowdown*work),
		len(naiveWaits)+1, naiveWaits[0], naiveWaits[1], attempt, strings.Join(phases, ", "), pages)
}

func printVerdict(w io.Writer, r result) {
	fmt.Fprintln(w, "HALF_OPEN: the breaker lets a probe through; a probe that hangs keeps it HALF_OPEN until its timeout.")
	fmt.Fprintf(w, "Goodput: 2xx within %v of the intended time. p99: of the 2xx, from the intended time.\n\n", goodUntil)
	fmt.Fprintf(w, "%-24s", "")
	for _, p := range r.Script.Phases {
		fmt.Fprintf(w, "%11s", p.Name)
	}
	fmt.Fprintln(w)
	for _, sys := range r.Systems {
		fmt.Fprintln(w, sys.Name)
		for _, route := range sys.Routes {
			printRoute(w, route)
		}
	}
	fmt.Fprintf(w, "\n%-42s%13s%13s\n", "", systemNames[unprotected], systemNames[protected])
	fmt.Fprintf(w, "%-42s", "attempts per request while it was down")
	for _, sys := range r.Systems {
		fmt.Fprintf(w, "%13.2f", sys.Amplification)
	}
	fmt.Fprintf(w, "\n%-42s", "recovery of the broken route")
	for _, sys := range r.Systems {
		fmt.Fprintf(w, "%13s", recoveryText(sys))
	}
	fmt.Fprint(w, "\n\n")
	for _, c := range r.Checks {
		fmt.Fprintf(w, "%-4s %-31s %-22s %s\n", c.Mark(), c.What, c.Want, c.Got)
	}
	fmt.Fprintln(w, "\n"+conclusion(r))
}

func printRoute(w io.Writer, route routeResult) {
	fmt.Fprintf(w, "  %-9s%-13s", route.Name, "goodput")
	for _, f := range route.Phases {
		fmt.Fprintf(w, "%9.1f %%", f.percent())
	}
	fmt.Fprintf(w, "\n  %-9s%-13s", "", "p99")
	for _, f := range route.Phases {
		fmt.Fprintf(w, "%11s", p99Text(f.P99))
	}
	fmt.Fprintln(w)
}

func p99Text(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", *ms)
}

// conclusion puts the checks in a sentence.
func conclusion(r result) string {
	if r.passed() {
		return "The unprotected system fell, the protected one stood."
	}
	text := demo.NotShown(r.Checks)
	if !r.valid() {
		text += "\nThe load generator fell behind its schedule: this machine was too busy with something else, so the run is not valid."
	}
	return text
}
