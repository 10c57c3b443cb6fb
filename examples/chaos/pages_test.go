package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resilience-go/resilience/examples/internal/demo"
)

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// hasSeries parses what is scraped.
func hasSeries(t *testing.T, url, metric, series string) {
	t.Helper()
	_, text := get(t, url)
	want := strings.Join(regexp.MustCompile("(?m)^# .* "+metric+" .*$").FindAllString(text, -1), "\n") + "\n" + series
	if err := testutil.ScrapeAndCompare(url, strings.NewReader(want), metric); err != nil {
		t.Error(err)
	}
}

// The pages show the policies of both routes.
func TestPages_bothRoutes(t *testing.T) {
	service := httptest.NewServer(http.NotFoundHandler())
	defer service.Close()
	addr := service.Listener.Addr().String()
	f, _, _, err := newFront(theScript(time.Second), protected, [2]string{addr, addr})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := newPages(f.policies)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(pages)
	defer server.Close()
	for range 3 {
		f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/broken", nil))
	}
	hasSeries(t, server.URL+"/metrics", "resilience_keyed_keys", `
resilience_keyed_keys{name="broken"} 1
resilience_keyed_keys{name="healthy"} 0
`)
	hasSeries(t, server.URL+"/metrics", "resilience_timeout_calls_total", `
resilience_timeout_calls_total{name="broken"} 3
resilience_timeout_calls_total{name="healthy"} 0
`)
	if _, text := get(t, server.URL+"/metrics"); !strings.Contains(text, `resilience_call_duration_seconds_count{name="broken",outcome="success"} 3`) {
		t.Errorf("the calls are not timed:\n%s", text)
	}
	status, text := get(t, server.URL+"/debug/resilience")
	if status != http.StatusOK || !strings.Contains(text, "healthy") || !strings.Contains(text, "broken") {
		t.Errorf("the page that explains: %d %s", status, text)
	}
	if _, text = get(t, server.URL); !strings.Contains(text, `"/metrics"`) || !strings.Contains(text, `"/debug/resilience"`) {
		t.Errorf("the index links to: %s", text)
	}
	if status, _ = get(t, server.URL+"/other"); status != http.StatusNotFound {
		t.Errorf("a page that does not exist: %d", status)
	}
}

// browse returns a URL that a browser can open, for an address of all interfaces too.
func TestBrowse(t *testing.T) {
	for addr, want := range map[string]string{
		"[::]:6060":      "http://localhost:6060/",
		"0.0.0.0:6060":   "http://localhost:6060/",
		"127.0.0.1:6060": "http://127.0.0.1:6060/",
		"[::1]:6060":     "http://[::1]:6060/",
	} {
		if got := browse(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// A taken port for the pages ends the program before the run.
func TestRun_portTaken(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	taken, err := net.Listen("tcp", demo.Loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	var out, errs bytes.Buffer
	code := run(t.Context(), options{listen: addr}, theScript(time.Second), &screen{Writer: &out}, &errs)
	if code != 1 || !strings.Contains(errs.String(), addr) || !strings.Contains(errs.String(), "choose another") {
		t.Errorf("exit code %d, printed %q", code, &errs)
	}
	if out.Len() > 0 {
		t.Errorf("printed %q", &out)
	}
}

// background is a run of the program in the background.
type background struct {
	out, errs *lines
	interrupt context.CancelFunc
	code      chan int
}

func begin(t *testing.T, o options, s script) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &background{out: newLines(), errs: newLines(), interrupt: cancel, code: make(chan int, 1)}
	go func() {
		p.code <- run(ctx, o, s, &screen{Writer: p.out}, p.errs)
		p.out.end()
	}()
	t.Cleanup(func() { cancel(); <-p.out.ended })
	return p
}

// pages waits for the header and returns the address of the pages in it.
func (p *background) pages(t *testing.T) string {
	t.Helper()
	return strings.TrimSuffix(strings.TrimSpace(p.await(t, "/metrics")), "metrics")
}

// await returns the next line with text in it.
func (p *background) await(t *testing.T, text string) string {
	t.Helper()
	line, ok := p.out.find(text, time.Minute)
	if !ok {
		t.Fatalf("the program did not print %q but %q, and %q", text, p.out, p.errs)
	}
	return line
}

// lines is what a program writes while others read it.
type lines struct {
	mu    sync.Mutex // guards text
	text  bytes.Buffer
	more  chan struct{} // has a token after each Write
	ended chan struct{}
	read  int // by find
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1), ended: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) end() { close(l.ended) }

func (l *lines) find(text string, within time.Duration) (line string, ok bool) {
	late := time.After(within)
	for {
		for line := range strings.Lines(l.String()[l.read:]) {
			if !strings.HasSuffix(line, "\n") {
				break // it is not complete
			}
			l.read += len(line)
			if strings.Contains(line, text) {
				return line, true
			}
		}
		select {
		case <-l.more:
		case <-l.ended:
			return "", false
		case <-late:
			return "", false
		}
	}
}

// With -wait the pages stay until the program is interrupted.
func TestRun_wait(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, tt := range []struct {
		name  string
		check bool
		want  int
	}{{"without a check", false, 0}, {"with a check that fails", true, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			p := begin(t, options{listen: demo.Loopback, wait: true, check: tt.check}, theScript(30*time.Millisecond))
			url := p.pages(t)
			if status, _ := get(t, url); status != http.StatusOK {
				t.Errorf("the index: %d", status)
			}
			p.await(t, "until Ctrl-C: "+url)
			status, text := get(t, url+"metrics")
			if status != http.StatusOK || !strings.Contains(text, `resilience_keyed_keys{name="broken"} 1`) {
				t.Errorf("after the run: %d %s", status, text)
			}
			p.interrupt()
			if code := <-p.code; code != tt.want {
				t.Errorf("exit code %d, want %d, printed %q", code, tt.want, p.errs)
			}
			addr := strings.Trim(strings.TrimPrefix(url, "http:"), "/")
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Errorf("a process still listens at %s", addr)
			}
		})
	}
}
