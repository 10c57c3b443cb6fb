package httpmw

import "context"

// settings are what a context says about the requests under it.
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

func with(ctx context.Context, s settings) context.Context {
	return context.WithValue(ctx, settingsKey{}, s)
}

// WithoutRetry returns a context whose requests a Transport sends once, whatever
// its policies and its Retryable say. Like the others of its kind it holds for all
// requests under the context, those that follow a redirect among them, and adds to
// what the context says already.
func WithoutRetry(ctx context.Context) context.Context {
	s := settingsOf(ctx)
	s.once = true
	return with(ctx, s)
}

// WithIdempotent returns a context whose requests may be sent again whatever their
// method: DefaultRetryable takes them as if they had the header Idempotency-Key,
// which is not sent. The server must do no harm when it handles one twice.
func WithIdempotent(ctx context.Context) context.Context {
	s := settingsOf(ctx)
	s.idempotent = true
	return with(ctx, s)
}

// WithKey returns a context whose requests have that key, such as a route or a
// tenant, in place of the one that Transport.Key gives them. A keyed.Group keeps
// state for each key: let there be few of them, and none that a stranger can choose.
func WithKey(ctx context.Context, key string) context.Context {
	s := settingsOf(ctx)
	s.keyed, s.key = true, key
	return with(ctx, s)
}
