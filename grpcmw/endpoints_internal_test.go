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
	for range 5000 {
		if cond() {
			return
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it was not collected")
}

func alive(name string) bool {
	groups.mu.Lock()
	defer groups.mu.Unlock()
	return groups.byName[name].Value() != nil
}

// The option of an Endpoints that is not used any more still has its observer and its
// policy, and so has the connection. When these are gone as well, nothing is left.
func TestEndpoints_collected(t *testing.T) {
	const name = "collected"
	groups.mu.Lock()
	before := len(groups.byID)
	groups.mu.Unlock()
	opt := (&Endpoints{Name: name}).DialOption()
	for range 5 {
		runtime.GC()
	}
	if !alive(name) {
		t.Fatal("the option does not keep its settings")
	}
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), opt)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		runtime.GC()
	}
	if !alive(name) {
		t.Error("the connection does not keep its settings")
	}
	conn.Close()
	runtime.KeepAlive(opt)
	opt, conn = nil, nil
	collect(t, func() bool {
		groups.mu.Lock()
		defer groups.mu.Unlock()
		_, ok := groups.byName[name]
		return !ok && len(groups.byID) <= before
	})
}

// The newest Endpoints of a name has the name in service configs, and none has the empty
// name.
func TestEndpoints_names(t *testing.T) {
	a, b, none := &Endpoints{Name: "same"}, &Endpoints{Name: "same"}, &Endpoints{}
	if a.Policy() == b.Policy() || a.Policy() != a.Policy() {
		t.Error("the policies are mixed up")
	}
	if g := groups.find(0, "same"); g != b.g {
		t.Error("the name does not stand for the newest")
	}
	if none.Policy() == groups.find(0, "") || groups.find(0, "") != defaultGroup() {
		t.Error("the empty name belongs to an Endpoints")
	}
	if unknown := groups.find(0, "unknown"); unknown != groups.find(0, "unknown") || unknown.Name() != "unknown" {
		t.Error("an unknown name stands for two")
	}
	runtime.KeepAlive(a)
}
