//go:build !linux

package main

// onOneCore calls start, which starts a process. Here only GOMAXPROCS bounds the cores
// that it uses.
func onOneCore(start func() error) (held bool, err error) { return false, start() }

// leaveCore does nothing here.
func leaveCore() (left bool, restore func()) { return false, func() {} }
