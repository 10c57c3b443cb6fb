// Package demo holds the parts that the demonstrations examples/chaos and
// examples/overload share: the command line, child processes, servers on
// 127.0.0.1, open-loop load, statistics, verdicts and charts.
package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Main parses the command line, calls run with a context that an interrupt ends, and
// exits with the code that run returns. A mistake on the command line exits with 2.
func Main[Options any](parse func(args []string, stderr io.Writer) (Options, error), run func(context.Context, Options) int) {
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, o)
	stop()
	os.Exit(code)
}

// Failed prints why a run ended early, if err is not nil, and reports whether it did.
func (p Program) Failed(ctx context.Context, err error, stderr io.Writer) bool {
	switch {
	case err == nil:
		return false
	case ctx.Err() != nil:
		fmt.Fprintf(stderr, "%s: interrupted, everything is stopped\n", p)
	default:
		fmt.Fprintf(stderr, "%s: %v\n", p, err)
	}
	return true
}

// Parse parses args with fs and then calls validate. If it returns an error, it has
// printed the error and the usage to stderr.
func Parse(fs *flag.FlagSet, usage string, args []string, stderr io.Writer, validate func() error) error {
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintln(stderr, "usage:", fs.Name(), usage)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	var err error
	if fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	} else {
		err = validate()
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", fs.Name(), err)
		fs.Usage()
	}
	return err
}

// CheckFiles returns an error if one of the files cannot be written at the end of a
// run. It skips empty names.
func CheckFiles(files ...string) error {
	for _, file := range files {
		if file == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
			return fmt.Errorf("%s: there is no such directory", filepath.Dir(file))
		}
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a directory", file)
		}
	}
	return nil
}
