package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestTheServiceAndItsCallersShareNoCore(t *testing.T) {
	left, restore := leaveCore()
	defer restore()
	if !left {
		t.Skip("there is one core")
	}
	allowed := func(status []byte) string {
		_, rest, _ := strings.Cut(string(status), "Cpus_allowed_list:")
		list, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(list)
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
	own, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	all, _ := machine()
	core, n := all.last()
	service, callers := allowed([]byte(status.String())), allowed(own)
	if service != strconv.Itoa(core) || n == 2 && callers == service {
		t.Errorf("the service may use %s, its callers %s", service, callers)
	}
}
