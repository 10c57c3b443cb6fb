package grpcmw

import (
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// collect runs the garbage collector until cond is true.
func collect(t *testing.T, cond func() bool) {
	t.Helper()
	for range 500 {
		if cond() {
			return
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it was not collected")
}

func alive(key string) bool {
	groups.mu.Lock()
	defer groups.mu.Unlock()
	return groups.byKey[key].Value() != nil
}

// The option of an Endpoints that is not used any more still has its observer and its
// policy, and so has the connection. When these are gone as well, nothing is left.
func TestEndpoints_collected(t *testing.T) {
	const key = "collected"
	opt := (&Endpoints{Name: key}).DialOption()
	for range 5 {
		runtime.GC()
	}
	if !alive(key) {
		t.Fatal("the option does not keep its settings")
	}
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), opt)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		runtime.GC()
	}
	if !alive(key) {
		t.Error("the connection does not keep its settings")
	}
	conn.Close()
	runtime.KeepAlive(opt)
	opt, conn = nil, nil
	collect(t, func() bool {
		groups.mu.Lock()
		defer groups.mu.Unlock()
		_, ok := groups.byKey[key]
		return !ok
	})
}

// Each Endpoints has a key of its own, whatever its name.
func TestEndpoints_keys(t *testing.T) {
	a, b, none := &Endpoints{Name: "same"}, &Endpoints{Name: "same"}, &Endpoints{}
	if keys := [3]string{a.group().key, b.group().key, none.group().key}; keys[0] != "same" || keys[1] != "same#2" || keys[2] == "" {
		t.Errorf("the keys are %q", keys)
	}
	if a.Policy() == b.Policy() || a.Policy() != a.Policy() {
		t.Error("the policies are mixed up")
	}
	runtime.KeepAlive(a)
}
