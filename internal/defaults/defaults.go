// Package defaults has those defaults of policies that package stack must know, to
// say which settings do not fit together.
package defaults

import "time"

const (
	// Limit is how long a timeout lets an operation take.
	Limit = 10 * time.Second
	// MaxWait is how long a bulkhead lets a caller wait.
	MaxWait = 100 * time.Millisecond
	// ProbeTimeout is how long a breaker lets a probe take. It is longer than the
	// two above together, or a slow dependency could never close a breaker.
	ProbeTimeout = 15 * time.Second
)
