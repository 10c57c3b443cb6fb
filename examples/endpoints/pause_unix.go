//go:build unix

package main

import (
	"os"
	"syscall"
)

// pause stops a process as SIGSTOP does: its sockets accept connections and answer nothing.
func pause(pid int) error { return signal(pid, syscall.SIGSTOP) }

// resume ends a pause.
func resume(pid int) error { return signal(pid, syscall.SIGCONT) }

func signal(pid int, s os.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(s)
}
