package grpcmw_test

import (
	"io"
	"sync"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// message is message number n.
func message(n int) *request {
	return &request{Payload: &pb.Payload{Body: []byte{byte(n >> 8), byte(n)}}}
}

// number returns which message it is.
func number(p *pb.Payload) int { return int(p.Body[0])<<8 | int(p.Body[1]) }

// echo sends back what it gets.
func echo(st duplex) error {
	for {
		m, err := st.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := st.Send(&response{Payload: m.Payload}); err != nil {
			return err
		}
	}
}

// One goroutine may send while another receives.
func TestClient_streamSendWhileReceive(t *testing.T) {
	const messages = 500
	for name, n := range networks {
		t.Run(name, func(t *testing.T) {
			client, server := newGuards(), newGuards()
			r := n.serve(t, &service{duplex: echo}, guardedServer(server.around()), guarded(resilience.Compose(retries(t, retry.Config{}), client.around())))
			st := r.open(t, patience(t))
			var sender sync.WaitGroup
			sender.Go(func() {
				for i := range messages {
					if err := st.Send(message(i)); err != nil {
						t.Error(err)
						return
					}
				}
				for range 2 {
					if err := st.CloseSend(); err != nil {
						t.Error(err)
					}
				}
			})
			for want := range messages {
				m, err := st.Recv()
				if err != nil {
					t.Fatal(err)
				}
				if got := number(m.Payload); got != want {
					t.Fatalf("got message %d, want %d", got, want)
				}
			}
			if m, err := st.Recv(); err != io.EOF {
				t.Errorf("got %v, %v at the end", m, err)
			}
			sender.Wait()
			client.end(t, codes.OK, codes.OK, resilience.Success)
			server.end(t, codes.OK, codes.OK, resilience.Success)
		})
	}
}

// Sender and receiver may get the end of a stream at the same time.
func TestClient_streamConcurrentEnd(t *testing.T) {
	g := newGuards()
	r := memory.serve(t, &service{duplex: answer(1, status.Error(codes.Internal, "broken"))}, nil, guarded(g.around()))
	st := r.open(t, patience(t))
	errs := make([]error, 2)
	testkit.AtOnce(2, func(i int) {
		for errs[i] == nil {
			if i == 0 {
				errs[i] = st.Send(&request{})
			} else {
				_, errs[i] = st.Recv()
			}
		}
	})
	if errs[0] != io.EOF {
		t.Errorf("SendMsg says %v", errs[0])
	}
	wantCode(t, errs[1], codes.Internal)
	g.end(t, codes.OK, codes.Internal, resilience.Success)
}

// No message of a stream arrives twice.
func TestClient_streamMessagesOnce(t *testing.T) {
	for name, c := range map[string]struct {
		config string // of the service
		calls  int
	}{
		"retry in the policy":                 {`{}`, 1},
		"retry in the service config as well": {quickRetries, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var calls [][]int
			s := &service{duplex: func(st duplex) error {
				var got []int
				for range 3 {
					m, err := st.Recv()
					if err != nil {
						return err
					}
					got = append(got, number(m.Payload))
				}
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, got)
				return errDown
			}}
			ended := newWitness(resilience.Ended)
			r := memory.serve(t, s, nil, guarded(resilience.Compose(persistent(t), ended)), grpc.WithDefaultServiceConfig(c.config))
			st := r.open(t, patience(t))
			for i := range 3 {
				if err := st.Send(message(i)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := st.Recv()
			wantCode(t, err, codes.Unavailable)
			<-ended.heard
			mu.Lock()
			defer mu.Unlock()
			if len(calls) != c.calls {
				t.Errorf("%d calls of the handler, want %d", len(calls), c.calls)
			}
			for _, got := range calls {
				for i, n := range got {
					if i != n {
						t.Errorf("a handler got %v", got)
					}
				}
			}
			if len(ended.heard) != 0 {
				t.Error("ended more than once")
			}
		})
	}
}

const quickRetries = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// Headers and trailers of streams arrive.
func TestClient_streamMetadata(t *testing.T) {
	s := &service{duplex: func(st duplex) error {
		if err := st.SetHeader(metadata.Pairs("head", "h")); err != nil {
			return err
		}
		st.SetTrailer(metadata.Pairs("tail", "t"))
		return answer(1, errDown)(st)
	}}
	for name, n := range networks {
		t.Run(name, func(t *testing.T) {
			g := newGuards()
			r := n.serve(t, s, guardedServer(newGuards().around()), guarded(g.around()))
			var header, trailer metadata.MD
			st := r.open(t, patience(t), grpc.Header(&header), grpc.Trailer(&trailer))
			md, err := st.Header()
			if got := md.Get("head"); err != nil || len(got) != 1 {
				t.Errorf("Header says %v, %v", md, err)
			}
			g.pending(t) // headers are not the first message
			recv(t, st, 1)
			_, err = st.Recv()
			wantCode(t, err, codes.Unavailable)
			for _, md := range []metadata.MD{st.Trailer(), trailer} {
				if got := md.Get("tail"); len(got) != 1 {
					t.Errorf("trailer %v", md)
				}
			}
			if got := header.Get("head"); len(got) != 1 {
				t.Errorf("the option collected %v", header)
			}
			g.end(t, codes.OK, codes.Unavailable, resilience.Success)
		})
	}
}
