package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// byteEvery is the time between two bytes of a slow upload.
	byteEvery = 100 * time.Millisecond
	// uploadAgain is the time after which a rejected upload is tried again.
	uploadAgain = 100 * time.Millisecond
	// uploadLength is more than a slow upload sends during a run.
	uploadLength = 1 << 20
)

// uploads are clients that send a body byte by byte, and never to its end. A client whose
// upload is answered, which can only be a rejection, begins another one.
type uploads struct {
	cancel context.CancelFunc
	all    sync.WaitGroup
	open   atomic.Int64
}

// upload starts n clients.
func upload(ctx context.Context, addrs []string, n int) *uploads {
	ctx, cancel := context.WithCancel(ctx)
	u := &uploads{cancel: cancel}
	for i := range n {
		u.all.Go(func() {
			for ctx.Err() == nil {
				u.send(ctx, addrs[i%len(addrs)])
				wait(ctx, uploadAgain)
			}
		})
	}
	return u
}

// stop ends all uploads and returns how many were open.
func (u *uploads) stop() int {
	n := int(u.open.Load())
	u.cancel()
	u.all.Wait()
	return n
}

// send sends a body until ctx ends or the service answers or closes the connection.
func (u *uploads) send(ctx context.Context, addr string) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	answered, cancel := context.WithCancel(ctx)
	defer cancel()
	u.all.Go(func() {
		defer cancel()
		_, _ = conn.Read(make([]byte, 1)) // returns when the connection is closed, at the latest
	})
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", addr, uploadLength); err != nil {
		return
	}
	u.open.Add(1)
	defer u.open.Add(-1)
	for wait(answered, byteEvery) {
		if _, err := io.WriteString(conn, "x"); err != nil {
			return
		}
	}
}

// wait waits for d, and reports whether ctx was not done before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
