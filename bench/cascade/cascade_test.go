// Package cascade simulates processes and their dependency in virtual time, to
// show what the default client stack is good for, and that it costs nothing
// elsewhere, and a server under overload, to show what its limit is good for.
//
//	go test -C bench/cascade -table
//
// prints the tables in bench/README.md. With -table, every scenario of a client runs with
// all arms and seeds. Without it, naive clients are left out, and a scenario runs only once
// if it meets its demands with half a point to spare.
//
//	go test -C bench/cascade -run neverWorse/back_at_50 -v -seed 0 -arm stack
//
// is one scenario of a client. -v prints why calls fail. -seed and -arm are optional.
//
//	go test -C bench/cascade -run Overload/^2x,_no -v -arm limit -seed 7 -watch
//
// is one overload with one front and one seed; -watch prints what the limit does.
package cascade_test

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

var (
	printTable = flag.Bool("table", false, "print the tables as markdown")
	printP99   = flag.Bool("p99", false, "add the 99th percentiles of the calls that succeed to the table of clients")
)

// TestMain keeps to one thread. Virtual time passes when all goroutines wait, so
// most of the time there is one that can run, and with more threads it would only
// be handed from one to the other. There is much garbage and little else.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(1000)
	m.Run()
}

// brief reports whether only the short scenarios run, once, with a wider tolerance. The
// others run in CI in a plain 64-bit go test ./...: virtual time gives the same results
// with the race detector, which makes a scenario ten times slower, and with 32 bits.
func brief() bool { return raceEnabled || strconv.IntSize == 32 || testing.Short() }

// show prints a table.
func show(t *testing.T, rows []string) {
	text := "\n" + strings.Join(rows, "\n") + "\n"
	t.Log(text)
	if *printTable {
		fmt.Println(text)
	}
}
