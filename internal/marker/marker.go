// Package marker is about the number by which a call says that it is a retry of
// somebody upstream: in a header over HTTP, in the metadata over gRPC.
package marker

import "strconv"

// Parse returns the number of the attempt that the values say, 1 if they do not say
// it in the one way that it is sent. Three digits bound what a client can make a
// server believe.
func Parse(values []string) int {
	if len(values) != 1 || len(values[0]) > 3 {
		return 1
	}
	n, err := strconv.ParseUint(values[0], 10, 16)
	if err != nil || values[0] != strconv.FormatUint(n, 10) {
		return 1
	}
	return max(1, int(n))
}
