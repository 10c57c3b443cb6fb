package endpoint

import (
	"context"
	"errors"
	"net"

	"github.com/resilience-go/resilience"
)

// Result is what an attempt has shown about its endpoint.
type Result uint8

const (
	// Success: the endpoint answered and works.
	Success Result = iota
	// Busy: the endpoint answered that it has too much to do, as with HTTP 429. It works,
	// but it gets less work.
	Busy
	// Failure: the endpoint answered with a failure, or the connection broke.
	Failure
	// Timeout: a timeout ended the attempt before an answer.
	Timeout
	// Unreachable: no connection could be made, so nothing was sent.
	Unreachable
	// Ignored: the result is no evidence about the endpoint. The caller canceled, or a
	// policy rejected the attempt.
	Ignored
)

var resultNames = [...]string{"success", "busy", "failure", "timeout", "unreachable", "ignored"}

// String returns the result in lower case, as in "unreachable".
func (r Result) String() string {
	if int(r) < len(resultNames) {
		return resultNames[r]
	}
	return "ignored"
}

// ResultOf returns the Result of an attempt that ran under ctx and returned err. It is the
// outcome that resilience.OutcomeOf returns. A failure is a Timeout if a timeout ended ctx,
// and Unreachable if the dial of a connection failed.
func ResultOf(ctx context.Context, err error) Result {
	switch resilience.OutcomeOf(ctx, err, nil) {
	case resilience.Success:
		return Success
	case resilience.Ignored:
		return Ignored
	}
	if ctx.Err() != nil {
		return Timeout
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return Unreachable
	}
	return Failure
}
