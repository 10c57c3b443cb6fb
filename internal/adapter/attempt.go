package adapter

import (
	"strconv"
	"time"
)

// MaxRetryAfter is the longest delay that a server can ask for. A year keeps sums of times
// and durations far from overflow.
const MaxRetryAfter = 365 * 24 * time.Hour

// ParseAttempt returns the number of an attempt that a client has sent in a header or in
// metadata. It returns 1 unless there is one value, spelt as our clients spell it. It
// accepts at most three digits, so that a client cannot claim any number.
func ParseAttempt(values []string) int {
	if len(values) != 1 || len(values[0]) > 3 {
		return 1
	}
	n, err := strconv.ParseUint(values[0], 10, 16)
	if err != nil || values[0] != strconv.FormatUint(n, 10) {
		return 1
	}
	return max(1, int(n))
}
