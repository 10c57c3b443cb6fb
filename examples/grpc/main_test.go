package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The time of the bubble passes only when nothing is left to do, so that a busy
// machine changes nothing.
func TestTheStoryIsAsTheProgramTellsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		lis := bufconn.Listen(1 << 16)
		rows, err := run(t.Context(), &out, story, lis, "passthrough:///payments",
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 15 {
			t.Errorf("%d rows", len(rows))
		}
		for i, r := range rows {
			if fault := wrong(r); fault != "" {
				t.Errorf("row %d: %s: %+v", i, fault, r)
			}
		}
		for _, want := range []string{"the breaker opens: ", "the breaker closes\n", "  DeadlineExceeded\n", "  Unavailable, and errors.Is"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the output lacks %q", want)
			}
		}
		if t.Failed() {
			t.Log("\n" + out.String())
		}
	})
}

// wrong returns what a row shows that it should not.
func wrong(r row) string {
	calls := r.ok + r.failed + r.refused
	sec := r.at.Seconds()
	switch {
	case r.server == healthy && (sec < 1.1 || sec > 7) && (r.ok < calls || r.breaker != "CLOSED"):
		return "the server is healthy, and the client is not"
	case r.server == flaky && (r.ok < calls || r.attempts <= int64(calls)):
		return "retries do not hide a flaky server"
	case r.server == hanging && sec < 3.1 && r.median != attempt:
		return "calls do not take as long as an attempt may"
	case sec > 3.6 && sec < 5.6 && (r.refused < 4*r.failed || r.median != 0 || r.attempts > 15 || r.breaker == "CLOSED"):
		return "calls are not refused at once"
	}
	return ""
}

func TestItRunsOverASocket(t *testing.T) {
	var out bytes.Buffer
	short := []phase{{healthy, rowEvery}, {unavailable, rowEvery}}
	if err := loopback(t.Context(), &out, short); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the server is unavailable", "  healthy ", "in all", " Unavailable\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

func TestAnInterruptEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := loopback(ctx, new(bytes.Buffer), story); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
