// Package interop has tests only: of package httpmw with the code of others that it
// has to work with, and over connections that are faulty. It is a module of its own,
// so that nobody who uses the library gets what these tests need.
//
// The run under faults takes 30 s, 5 s with -short, or as long as the environment
// variable FAULTS says:
//
//	FAULTS=60s go test -race -run Faults .
package interop
