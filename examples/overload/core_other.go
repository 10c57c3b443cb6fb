//go:build !linux

package main

// onOneCore runs start, which starts a process. Here nothing holds that to a core
// but its GOMAXPROCS.
func onOneCore(start func() error) (held bool, err error) { return false, start() }

// leaveCore does nothing here.
func leaveCore() (left bool, restore func()) { return false, func() {} }
