//go:build !unix

package demo

// Reserve does nothing here; Server tries for a moment if another process has the port.
func Reserve(int) (release func()) { return func() {} }
