package endpoint

import (
	"context"
	"sync/atomic"
)

// Trail is the endpoints that the attempts of one call have used, including those that
// still run. A Set avoids them, so that a retry goes to another endpoint. The zero value is
// ready to use. A nil *Trail records nothing. A Trail is safe for concurrent use.
//
// A Trail keeps the first eight endpoints.
type Trail struct {
	used [8]atomic.Pointer[Endpoint]
}

// add records that an attempt uses e.
func (t *Trail) add(e *Endpoint) {
	if t == nil {
		return
	}
	for i := range t.used {
		if t.used[i].CompareAndSwap(nil, e) || t.used[i].Load() == e {
			return
		}
	}
}

// has reports whether an attempt has used e.
func (t *Trail) has(e *Endpoint) bool {
	if t == nil {
		return false
	}
	for i := range t.used {
		switch t.used[i].Load() {
		case e:
			return true
		case nil:
			return false
		}
	}
	return false
}

type trailKey struct{}

// WithTrail returns a context for all attempts of one call, which use and extend t.
// httpmw.Transport and grpcmw.Client call it for each call that they guard.
func WithTrail(ctx context.Context, t *Trail) context.Context {
	return context.WithValue(ctx, trailKey{}, t)
}

// TrailOf returns the Trail of ctx, or nil if there is none.
func TrailOf(ctx context.Context) *Trail {
	t, _ := ctx.Value(trailKey{}).(*Trail)
	return t
}
