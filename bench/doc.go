// Package bench measures what the policies cost a call.
//
// The benchmarks and the tests of the allocation and memory demands are in the
// test files; go run ./bench/report prints the times beside what is demanded of
// them. README.md says how to read that.
package bench
