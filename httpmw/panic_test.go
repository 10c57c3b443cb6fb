package httpmw_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
)

// A panic is a failure and continues with its value.
func TestServer_panicIsFailure(t *testing.T) {
	type value struct{ odd []int } // cannot be compared
	outcomes := make(chan resilience.Outcome, 1)
	h := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { explode(value{[]int{1}}) }))
	defer func() {
		p := recover()
		if v, ok := p.(value); !ok || len(v.odd) != 1 {
			t.Errorf("recovered %v", p)
		}
		stack := make([]byte, 64<<10)
		if stack = stack[:runtime.Stack(stack, false)]; !strings.Contains(string(stack), "httpmw_test.explode") {
			t.Errorf("the stack of the panic is lost:\n%s", stack)
		}
		if got := <-outcomes; got != resilience.Failure {
			t.Errorf("counted as a %v", got)
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

//go:noinline
func explode(v any) { panic(v) }

// A panic with nil is a failure and continues.
func TestServer_panicWithNilIsFailure(t *testing.T) {
	t.Setenv("GODEBUG", "panicnil=1") // or recover would give a runtime.PanicNilError
	outcomes := make(chan resilience.Outcome, 1)
	h := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(nil) }))
	returned := false
	func() {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("recovered %v", p)
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		returned = true
	}()
	if returned {
		t.Error("ServeHTTP returned")
	}
	if got := <-outcomes; got != resilience.Failure {
		t.Errorf("counted as a %v", got)
	}
}

// runtime.Goexit is a failure and continues.
func TestServer_goexitIsFailure(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	h := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runtime.Goexit() }))
	done := make(chan bool)
	go func() {
		returned := false
		defer func() { done <- returned }()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		returned = true
	}()
	if <-done {
		t.Error("ServeHTTP returned")
	}
	if got := <-outcomes; got != resilience.Failure {
		t.Errorf("counted as a %v", got)
	}
}
