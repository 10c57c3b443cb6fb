package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// client speaks as much HTTP/1 as callers of this service need. A new connection costs
// it a tenth of what it costs http.Client, and an overload takes thousands of them a
// second. The number of connections is not bounded and idle ones are kept, so that a
// request never waits for one.
type client struct {
	addr   string
	dialer net.Dialer
	mu     sync.Mutex
	idle   []*connection // guarded by mu; the one used last is taken first
}

type connection struct {
	net.Conn
	in *bufio.Reader
}

func newClient(addr string) *client {
	return &client{addr: addr, dialer: net.Dialer{KeepAlive: -1}}
}

// get returns the status of the answer to a request for a route. If there is no answer by until,
// get closes the connection.
func (c *client) get(route string, until time.Time) (status int, err error) {
	conn, err := c.connection(until)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(until); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, "GET "+route+" HTTP/1.1\r\nHost: "+c.addr+"\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(conn.in, nil)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.Close {
		conn.Close()
		return resp.StatusCode, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, conn)
	return resp.StatusCode, nil
}

func (c *client) connection(until time.Time) (*connection, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	dialer := c.dialer
	dialer.Deadline = until
	conn, err := dialer.Dial("tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &connection{conn, bufio.NewReaderSize(conn, 512)}, nil
}

// close closes the idle connections.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		conn.Close()
	}
	c.idle = nil
}

// late reports whether err is the timeout of the caller.
func late(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}
