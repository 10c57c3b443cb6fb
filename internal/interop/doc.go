// Package interop has tests only: of packages httpmw and grpcmw with the code of
// others that they have to work with, and over connections that are faulty. It is a
// module of its own, so that nobody who uses the library gets what these tests need.
//
// The run of httpmw under faults takes 30 s, 5 s with -short, and that of grpcmw 10 s
// and 2 s, or as long as the environment variable FAULTS says:
//
//	FAULTS=60s go test -race -run Faults .
package interop
