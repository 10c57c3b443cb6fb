// Package interop tests httpmw and grpcmw with third-party packages and over faulty
// connections. It is a module of its own, so that users of the library do not get the
// dependencies of these tests.
//
// The fault test of httpmw takes 30 s, or 5 s with -short. The fault test of grpcmw takes
// 10 s or 2 s. The environment variable FAULTS sets another time:
//
//	FAULTS=60s go test -race -run Faults .
package interop
