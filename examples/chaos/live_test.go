package main

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func idealMonitor() *monitor {
	m := &monitor{measured: ideal(), script: theScript(time.Second)}
	for i, breaker := range []string{"no breaker", "HALF_OPEN"} {
		m.last[i] = frontReport{Busy: slots - i, Breaker: breaker, Attempts: m.attempts[i]}
	}
	return m
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]|\r")

// The live view shows both systems in 80 columns.
func TestScreen_live80Columns(t *testing.T) {
	var out bytes.Buffer
	s := &screen{Writer: &out, live: true, colour: true}
	s.show(idealMonitor(), 25*time.Second)
	text := escapes.ReplaceAllString(out.String(), "")
	for _, want := range []string{"RECOVERED", "of 25 s", "unprotected", "22 ms", "128 of 128", "127 of 128", "no breaker", "HALF_OPEN", "300/s"} {
		if !strings.Contains(text, want) {
			t.Errorf("the view lacks %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n >= 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// The live view is redrawn over the one before, and the terminal is restored.
func TestScreen_liveRedrawn(t *testing.T) {
	var out bytes.Buffer
	s := &screen{Writer: &out, live: true}
	m := idealMonitor()
	s.show(m, 12*time.Second)
	lines := strings.Count(out.String(), "\n")
	out.Reset()
	s.show(m, 13*time.Second)
	if up := "\x1b[" + strconv.Itoa(lines) + "A"; !strings.HasPrefix(out.String(), up) {
		t.Errorf("the second view begins with %q, want %q", out.String()[:10], up)
	}
	out.Reset()
	s.settle()
	if got := out.String(); !strings.Contains(got, "\x1b[?25h") || !strings.Contains(got, "\x1b[?7h") {
		t.Errorf("the terminal is left as %q", got)
	}
}

// Without a terminal the screen prints a line for each unit and no escape sequences.
func TestScreen_plainLines(t *testing.T) {
	var out bytes.Buffer
	s := &screen{Writer: &out}
	m := idealMonitor()
	for now := time.Duration(0); now < 27*time.Second; now += 700 * ms {
		s.show(m, now)
	}
	text := out.String()
	if strings.Contains(text, "\x1b") {
		t.Errorf("escape sequences without a terminal: %q", text)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if want := 3 + 25; len(lines) != want {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), want, text)
	}
	for i, want := range map[int]string{3: "   1  healthy ", 3 + 9: "  10  slow ", 3 + 10: "  11  hanging ", 3 + 24: "  25  recovered "} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if got := strings.Fields(lines[3+10]); got[2] != "80" || got[5] != "0" {
		t.Errorf("goodput in %q", lines[3+10])
	}
}

// A sparkline has a bar of eight heights for each percentage.
func TestScreen_sparkline(t *testing.T) {
	if got := (&screen{}).sparkline([]int{0, 12, 13, 50, 99, 100}); got != "▁▁▂▅██" {
		t.Errorf("%s", got)
	}
}
