//go:build !linux

package main

import "time"

// onOneCore calls start, which starts a process. Here only GOMAXPROCS bounds the cores
// that it uses.
func onOneCore(start func() error) (held bool, err error) { return false, start() }

// coreWait returns that the time is unknown.
func coreWait(int) (d time.Duration, ok bool) { return 0, false }

// leaveCore does nothing here.
func leaveCore() (left bool, restore func()) { return false, func() {} }
