//go:build !unix

package main

// reserve does nothing here; relisten tries again if somebody has the port.
func reserve(int) (release func()) { return func() {} }
