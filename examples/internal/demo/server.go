package demo

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Loopback is an address of this machine with a port that the kernel chooses.
const Loopback = "127.0.0.1:0"

// Server is a handler on a socket that can be closed and opened again. It serves HTTP/1
// and unencrypted HTTP/2 until the process ends.
type Server struct {
	Addr    *net.TCPAddr
	handler http.Handler
	fail    func(error)
	http    *http.Server
}

// Serve starts a server. It calls fail if the server stops by an error.
func Serve(addr string, h http.Handler, fail func(error)) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: listener.Addr().(*net.TCPAddr), handler: h, fail: fail}
	s.serve(listener)
	return s, nil
}

func (s *Server) serve(listener net.Listener) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	h := &http.Server{Handler: s.handler, Protocols: protocols}
	s.http = h
	go func() {
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.fail(err)
		}
	}()
}

// Close closes the socket and all connections. New connections are refused until
// reopen is called.
func (s *Server) Close() (reopen func() error) {
	s.http.Close()
	release := Reserve(s.Addr.Port)
	return func() error {
		release()
		listener, err := relisten(s.Addr.String())
		if err == nil {
			s.serve(listener)
		}
		return err
	}
}

// relisten tries for a quarter of a second. Where Reserve cannot hold a port, an
// outgoing connection of another process may use it for a moment.
func relisten(addr string) (listener net.Listener, err error) {
	for range 50 {
		if listener, err = net.Listen("tcp4", addr); err == nil {
			return listener, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, fmt.Errorf("another process took the port while the service refused connections, run again: %w", err)
}
