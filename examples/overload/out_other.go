//go:build !linux

package main

import "os"

// directOut writes to the standard output.
type directOut struct{}

// Write implements io.Writer.
func (directOut) Write(b []byte) (n int, err error) { return os.Stdout.Write(b) }
