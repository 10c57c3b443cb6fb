package httpmw

import (
	"bytes"
	"io"
	"time"
)

const (
	// drainBytes is the most that is read of a response before the next attempt. 64 KiB
	// hold an error page and cost less than another connection.
	drainBytes = 64 << 10
	// drainTime is the longest that draining or closing a response may take. 50 ms are
	// about the cost of another connection.
	drainTime = 50 * time.Millisecond
)

// drain reads body to its end, within drainBytes and drainTime, and closes it. It returns
// the content as a new body, or nil if drain did not reach the end. If the body is broken,
// drain also returns its error. length is the body's length, or -1 if unknown. uploads is
// whether the request has a body.
func drain(body io.ReadCloser, length int64, uploads bool) (io.ReadCloser, error) {
	if length > drainBytes {
		shut(body, uploads)
		return nil, nil
	}
	// A Read can block for as long as the server likes. Closing the body from another
	// goroutine ends the Read without a context.
	late := make(chan struct{})
	timer := time.AfterFunc(drainTime, func() {
		defer close(late)
		defer func() { _ = recover() }() // a panic on this goroutine would end the program
		body.Close()
	})
	var timedOut bool
	b, err := func() ([]byte, error) {
		defer func() {
			if timer.Stop() {
				shut(body, uploads)
				return
			}
			await(late, uploads)
			timedOut = true
		}()
		return io.ReadAll(io.LimitReader(body, drainBytes+1))
	}()
	switch {
	case err == nil && len(b) <= drainBytes:
		return io.NopCloser(bytes.NewReader(b)), nil
	case timedOut:
		return nil, nil // drain closed the body; err is not the server's
	default:
		return nil, err
	}
}

// shut closes a response body that the caller does not get.
func shut(body io.Closer, uploads bool) {
	if !uploads {
		body.Close()
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		defer func() { _ = recover() }() // a panic on this goroutine would end the program
		body.Close()
	}()
	await(closed, uploads)
}

// await waits until a response body is closed, for at most drainTime if the request has a
// body. Over HTTP/2, Close waits for the goroutine that sends the request, and that
// goroutine waits for a Read of the caller's body, which may block forever.
func await(closed <-chan struct{}, uploads bool) {
	if !uploads {
		<-closed
		return
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}
