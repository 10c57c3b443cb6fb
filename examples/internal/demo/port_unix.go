//go:build unix

package demo

import "syscall"

// Reserve keeps the kernel from giving a port on 127.0.0.1 to another process. It
// binds a socket that does not listen, so that connections to the port are refused.
func Reserve(port int) (release func()) {
	nothing := func() {}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nothing
	}
	// Connections of the listener before may still be closing.
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = syscall.Close(fd)
		return nothing
	}
	return func() { _ = syscall.Close(fd) }
}
