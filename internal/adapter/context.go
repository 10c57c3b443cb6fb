package adapter

import (
	"context"
	"reflect"
)

// EndedFirst reports whether ctx, which derives from parent, ended by itself. If parent ends
// ctx, both have the same cause.
func EndedFirst(ctx, parent context.Context) bool {
	switch {
	case ctx.Err() == nil:
		return false
	case parent.Err() == nil:
		return true
	}
	cause := context.Cause(ctx)
	return reflect.ValueOf(cause).Comparable() && cause != context.Cause(parent)
}
