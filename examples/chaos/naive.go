package main

import (
	"io"
	"net/http"
	"time"
)

// naive is the client of many programs: a timeout, and up to three attempts if one
// fails.
type naive struct{ client *http.Client }

func newNaive(base http.RoundTripper) *naive {
	return &naive{&http.Client{Transport: base, Timeout: attempt}}
}

// Do sends a request that has no body.
func (n *naive) Do(req *http.Request) (*http.Response, error) {
	for i := 0; ; i++ {
		resp, err := n.client.Do(req)
		if err == nil && resp.StatusCode < 500 || i == len(naiveWaits) {
			return resp, err
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		select {
		case <-time.After(naiveWaits[i]):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}
