package grpcmw_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A limit's slot is released when a handler answers, a bulkhead's when it returns.
func TestServer_releasesAtAnswerAndEnd(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, serve serving) {
				outer, inner, ended, slot := newAnswerSlots(), newAnswerSlots(), newWitness(resilience.Ended), newGuard(t)
				s := &service{}
				kind.handle(t, outer, s)
				server := grpcmw.Server{Policy: resilience.Compose(ended, outer, slot.policy, inner, testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					err := next.Run(ctx)
					if n := slot.slots.Stats().InFlight; n != 1 {
						t.Errorf("%d slots taken to the end", n)
					}
					return err
				}))}
				kind.call(t, serve(t, s, []grpc.ServerOption{grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream)}))
				if err := <-ended.heard; err != nil {
					t.Error(err)
				}
				for _, p := range []*answerSlots{outer, inner} {
					if err := p.one(t); err != nil {
						t.Errorf("answered with %v", err)
					}
				}
				slot.wantFree(t, false)
				if s := slot.breaker.Stats(); s.Successes != 2 || s.Failures+s.Ignored != 0 { // one is wantFree's
					t.Errorf("judged %+v", s)
				}
			})
		})
	}
}

// A policy that waits for a stream's answer gets the error of a client that left.
func TestServer_streamClientLeft(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		p := newAnswerSlots()
		began := make(chan struct{})
		r := serve(t, &service{duplex: func(st duplex) error {
			close(began)
			return hang(0)(st)
		}}, guardedServer(p))
		ctx, cancel := context.WithCancel(patience(t))
		st := r.open(t, ctx)
		wait(t, began)
		p.want(t, "in the handler", 1)
		cancel()
		if err := p.wait(t); !errors.Is(err, context.Canceled) {
			t.Errorf("heard %v", err)
		}
		_, err := st.Recv()
		wantCode(t, err, codes.Canceled)
		p.want(t, "at the end", 0)
	})
}

var errGone = errors.New("the client said good bye")

// A policy that waits for the answer gets the outcome of the handler.
func TestServer_answerError(t *testing.T) {
	late := resilience.Must(timeout.New(timeout.Config{Timeout: time.Millisecond}))
	limited := &resilience.Rejection{Policy: "limit", Reason: resilience.Limited}
	done := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	cancels := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return next.Run(ctx)
	})
	for name, test := range map[string]struct {
		inner   resilience.Policy // between the slots and the handler
		leaves  bool              // the client, while the handler runs
		handler func(ctx context.Context) error
		is, not []error // what is heard
		code    codes.Code
		judged  resilience.Outcome
	}{
		"success":                  {handler: func(context.Context) error { return nil }, judged: resilience.Success},
		"a status":                 {handler: func(context.Context) error { return status.Error(codes.NotFound, "it") }, code: codes.NotFound, judged: resilience.Success},
		"no status":                {handler: func(context.Context) error { return errBroken }, is: []error{errBroken}, code: codes.Unknown, judged: resilience.Failure},
		"gone, though it worked":   {leaves: true, handler: func(context.Context) error { return nil }, is: []error{context.Canceled, errGone}, code: codes.Canceled, judged: resilience.Failure},
		"gone, and it says so":     {leaves: true, handler: done, is: []error{context.Canceled, errGone}, code: codes.Canceled, judged: resilience.Failure},
		"gone, and it failed":      {leaves: true, handler: func(context.Context) error { return errDown }, is: []error{context.Canceled, errGone}, code: codes.Canceled, judged: resilience.Failure},
		"a limit of a policy":      {inner: late, handler: done, not: ends, code: codes.DeadlineExceeded, judged: resilience.Failure},
		"canceled by a policy":     {inner: cancels, handler: done, not: ends, code: codes.Canceled, judged: resilience.Ignored},
		"a deadline of its own":    {handler: func(context.Context) error { return context.DeadlineExceeded }, not: ends, code: codes.DeadlineExceeded, judged: resilience.Failure},
		"a call that it gave up":   {handler: func(context.Context) error { return context.Canceled }, not: ends, code: codes.Canceled, judged: resilience.Ignored},
		"a call that was rejected": {handler: func(context.Context) error { return limited }, not: []error{resilience.ErrRejected}, code: codes.ResourceExhausted, judged: resilience.Success},
		"rejected further in":      {inner: reject(bulkhead.Full, time.Time{}), is: []error{resilience.ErrRejected}, code: codes.Unknown, judged: resilience.Ignored},
		"no policy runs it":        {inner: misuse["nothing"], code: codes.Internal, judged: resilience.Failure},
		"too late for a policy":    {inner: testkit.Policy(func(context.Context, resilience.Next) error { return &timeout.Error{} }), not: ends, code: codes.DeadlineExceeded, judged: resilience.Failure},
		"run twice":                {inner: misuse["twice"], handler: func(context.Context) error { return errDown }, code: codes.Unavailable, judged: resilience.Failure},
		"its failure is kept back": {inner: misuse["drops"], handler: func(context.Context) error { return errDown }, code: codes.Unavailable, judged: resilience.Failure},
	} {
		for kind, run := range onServer {
			t.Run(name+", "+kind, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				p := newAnswerSlots()
				_ = run(ctx, resilience.Compose(p, test.inner), nil, func(ctx context.Context, _ grpc.ServerStream) error {
					if test.leaves {
						cancel(errGone)
					}
					p.want(t, "in the handler", 1)
					return test.handler(ctx)
				})
				err := p.one(t)
				if code := status.Code(err); test.leaves && err != nil {
					// an end of a context has no status of its own
				} else if code != test.code {
					t.Errorf("heard %v, want %v", err, test.code)
				}
				if got := resilience.OutcomeOf(context.Background(), err, nil); got != test.judged {
					t.Errorf("%v is a %v, want %v", err, got, test.judged)
				}
				for _, want := range test.is {
					if !errors.Is(err, want) {
						t.Errorf("heard %v, want %v", err, want)
					}
				}
				for _, not := range test.not {
					if errors.Is(err, not) {
						t.Errorf("heard %v, which is %v", err, not)
					}
				}
			})
		}
	}
}

// ends are what a limit takes for a client that has left.
var ends = []error{context.Canceled, context.DeadlineExceeded}

// A stream is answered with the first message that is sent.
func TestServer_firstMessageIsAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		sends  []error // what each Send returns
		leaves int     // the client, at that one
		end    error   // of the handler
		free   int     // the number of Sends after which the slot is free, 0 for the end
		is     error   // what is heard
	}{
		"the first":             {sends: []error{nil, nil, nil}, free: 1},
		"the first, and fails":  {sends: []error{nil}, end: errDown, free: 1},
		"the second":            {sends: []error{errBroken, nil, nil}, free: 2},
		"none":                  {sends: []error{errBroken, errBroken}, end: errBroken, is: errBroken},
		"none, and all is well": {},
		"to a left client":      {sends: []error{nil, nil}, leaves: 1, free: 1, is: context.Canceled},
		"before he left":        {sends: []error{nil, nil}, leaves: 2, free: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p, n := newAnswerSlots(), 0
			send := func() error {
				if n++; n == test.leaves {
					cancel()
				}
				return test.sends[n-1]
			}
			_ = onServer["stream"](ctx, p, send, func(_ context.Context, ss grpc.ServerStream) error {
				for i, want := range test.sends {
					if err := ss.SendMsg(nil); err != want {
						t.Errorf("Send returned %v, want %v", err, want)
					}
					taken := int32(1)
					if test.free > 0 && i+1 >= test.free {
						taken = 0
					}
					p.want(t, "when it has sent", taken)
				}
				return test.end
			})
			if err := p.one(t); !errors.Is(err, test.is) {
				t.Errorf("heard %v, want %v", err, test.is)
			}
		})
	}
}

// A handler that panics or calls runtime.Goexit releases its slot once.
func TestServer_unwindReleasesOnce(t *testing.T) {
	for how, end := range testkit.Aborts("boom") {
		unwinds := testkit.Policy(func(context.Context, resilience.Next) error { end.Abort(); return nil })
		for name, test := range map[string]struct {
			inner resilience.Policy
			sends bool
			want  error
		}{
			"at once":                {want: resilience.ErrAborted},
			"after a message":        {sends: true, want: nil},
			"in a policy further in": {inner: unwinds, want: resilience.ErrAborted},
		} {
			for kind, run := range onServer {
				if test.sends && kind == "unary" {
					continue
				}
				t.Run(name+", "+how+", "+kind, func(t *testing.T) {
					outer, p := newAnswerSlots(), newAnswerSlots()
					got := testkit.Unwind(func() error {
						return run(t.Context(), resilience.Compose(outer, p, test.inner), nil, func(_ context.Context, ss grpc.ServerStream) error {
							if test.sends {
								_ = ss.SendMsg(nil)
							}
							end.Abort()
							return nil
						})
					})
					if got != end {
						t.Errorf("ended with %+v", got)
					}
					for _, p := range []*answerSlots{outer, p} {
						if err := p.one(t); err != test.want {
							t.Errorf("heard %v, want %v", err, test.want)
						}
					}
				})
			}
		}
	}
}

// A policy that runs a handler again loses no slot.
func TestServer_secondRunReleasesAll(t *testing.T) {
	for name, test := range map[string]struct {
		around func(p resilience.Policy) resilience.Policy
		heard  []codes.Code
	}{
		"around the slots": {
			func(p resilience.Policy) resilience.Policy { return resilience.Compose(stubborn(3), p) },
			[]codes.Code{codes.Unavailable, codes.Unavailable, codes.Unavailable},
		},
		"inside": {
			func(p resilience.Policy) resilience.Policy { return resilience.Compose(p, stubborn(3)) },
			[]codes.Code{codes.Unavailable},
		},
		"around what is rejected": {
			func(p resilience.Policy) resilience.Policy {
				return resilience.Compose(stubborn(3), p, reject(bulkhead.Full, time.Time{}))
			},
			[]codes.Code{codes.Unknown, codes.Unknown, codes.Unknown},
		},
	} {
		for kind, run := range onServer {
			t.Run(name+", "+kind, func(t *testing.T) {
				p, runs := newAnswerSlots(), 0
				_ = run(t.Context(), test.around(p), nil, func(context.Context, grpc.ServerStream) error { runs++; return errDown })
				p.want(t, "at the end", 0)
				close(p.heard)
				var heard []codes.Code
				for err := range p.heard {
					heard = append(heard, status.Code(err))
				}
				if !slices.Equal(heard, test.heard) || runs > 1 {
					t.Errorf("heard %v, want %v; %d runs", heard, test.heard, runs)
				}
			})
		}
	}
}

// A policy that waits for the answer only after the handler has run is settled.
func TestServer_lateAwaitIsSettled(t *testing.T) {
	for kind, run := range onServer {
		p, runs := newAnswerSlots(), 0
		late := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			if runs++; runs == 1 {
				return next.Run(ctx)
			}
			return p.Apply(ctx, next)
		})
		_ = run(t.Context(), resilience.Compose(stubborn(2), late), nil, func(context.Context, grpc.ServerStream) error { return errDown })
		if p.want(t, kind, 0); len(p.heard) != 1 {
			t.Errorf("%s: settled %d times", kind, len(p.heard))
		}
	}
}

// A call whose context is done before the policies run is not counted.
func TestServer_doneCallIsNotCounted(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for kind, run := range onServer {
		p := newAnswerSlots()
		err := run(gone, p, nil, func(context.Context, grpc.ServerStream) error { t.Error("handled"); return nil })
		if wantCode(t, err, codes.Canceled); len(p.heard) != 0 || p.taken.Load() != 0 {
			t.Errorf("%s: heard of it", kind)
		}
	}
}
