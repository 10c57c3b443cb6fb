package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The service has a core that the load generator does not use.
func TestOnOneCore_alone(t *testing.T) {
	left, restore := leaveCore()
	defer restore()
	if !left {
		t.Skip("there is one core")
	}
	var status strings.Builder
	cmd := exec.Command("cat", "/proc/self/status")
	cmd.Stdout = &status
	if held, err := onOneCore(cmd.Start); !held || err != nil {
		t.Fatal(held, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var own cores
	if !affinity(syscall.SYS_SCHED_GETAFFINITY, os.Getpid(), &own) {
		t.Fatal("the cores of this process cannot be known")
	}
	all, _ := machine()
	core, _ := all.last()
	if want := fmt.Sprintf("Cpus_allowed_list:\t%d\n", core); !strings.Contains(status.String(), want) || own.has(core) {
		t.Errorf("the service has not got core %d for itself; the callers: %v\n%s", core, own.has(core), &status)
	}
}
