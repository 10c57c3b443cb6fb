package httpmw

import (
	"context"
	"reflect"
)

// settings are what a context configures for the requests under it.
type settings struct {
	once       bool
	idempotent bool
	keyed      bool
	key        string
}

type settingsKey struct{}

func settingsOf(ctx context.Context) settings {
	s, _ := ctx.Value(settingsKey{}).(settings)
	return s
}

func withSettings(ctx context.Context, s settings) context.Context {
	return context.WithValue(ctx, settingsKey{}, s)
}

// WithoutRetry returns a context whose requests a Transport sends once, whatever its Policy
// and Retryable decide. It holds for all requests under the context, including requests
// that follow a redirect. WithoutRetry, WithIdempotent and WithKey can be combined.
func WithoutRetry(ctx context.Context) context.Context {
	s := settingsOf(ctx)
	s.once = true
	return withSettings(ctx, s)
}

// WithIdempotent returns a context whose requests are safe to retry whatever their method.
// DefaultRetryable treats them as requests with the header Idempotency-Key; the header is
// not sent. Use it only if the server does no harm when it handles such a request twice.
func WithIdempotent(ctx context.Context) context.Context {
	s := settingsOf(ctx)
	s.idempotent = true
	return withSettings(ctx, s)
}

// WithKey returns a context whose requests have the given key, such as a route or a tenant.
// It overrides Transport.Key. A keyed.Group keeps state for each key, so use few keys, and
// none made of user input.
func WithKey(ctx context.Context, key string) context.Context {
	s := settingsOf(ctx)
	s.keyed, s.key = true, key
	return withSettings(ctx, s)
}

// sameContext reports whether a and b are one context. Comparing two values of an
// uncomparable type panics, so sameContext compares pointers only. Types without a size,
// such as context.Background's, have one value only.
func sameContext(a, b context.Context) bool {
	t := reflect.TypeOf(a)
	if t.Kind() == reflect.Pointer {
		return a == b
	}
	return t.Size() == 0 && t == reflect.TypeOf(b)
}
