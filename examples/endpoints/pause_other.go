//go:build !unix

package main

import "errors"

var errNoPause = errors.New("this system cannot pause a process")

func pause(int) error  { return errNoPause }
func resume(int) error { return errNoPause }
