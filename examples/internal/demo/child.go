package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

// Program is a demonstration that starts itself again as its child processes. A
// child reads JSON from its standard input, first its configuration, and writes JSON
// to its standard output, one report a line.
type Program string

// variable is the environment variable with the role of a child.
func (p Program) variable() string { return "RESILIENCE_" + strings.ToUpper(string(p)) + "_ROLE" }

// Role returns the role of this process, "" for the first one.
func (p Program) Role() string { return os.Getenv(p.variable()) }

// Configure reads the configuration of this child. The rest of its input is in. If
// ok is false, the process must exit with 1.
func (p Program) Configure(config any) (in *json.Decoder, ok bool) {
	// Ctrl-C reaches every process of the terminal's group. Only the first one acts
	// on it.
	signal.Ignore(os.Interrupt)
	in = json.NewDecoder(os.Stdin)
	if err := in.Decode(config); err != nil {
		if !errors.Is(err, io.EOF) {
			fmt.Fprintf(os.Stderr, "%s: %s is set, but there is no configuration: %v\n", p, p.variable(), err)
		}
		return nil, false
	}
	return in, true
}

// ExitAtEnd calls each with every value that the parent writes, and exits when the
// input ends. The parent's end of that pipe is closed however the parent ends, so
// that no child outlives it.
func ExitAtEnd[T any](in *json.Decoder, each func(T)) {
	for {
		var value T
		if err := in.Decode(&value); err != nil {
			os.Exit(0)
		}
		each(value)
	}
}
