//go:build unix

package main

import "syscall"

// reserve keeps a port from being given to somebody else while nobody listens on
// it. A socket that is bound and does not listen does that, and connections are
// refused as if it were not there.
func reserve(port int) (release func()) {
	nothing := func() {}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nothing
	}
	// Connections of the listener that was there may still be closing.
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = syscall.Close(fd)
		return nothing
	}
	return func() { _ = syscall.Close(fd) }
}
