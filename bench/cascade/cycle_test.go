package cascade_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience/limit"
)

var cycleFile = flag.String("cycle", "", "the file to draw a limit in an overload to, as docs/limit.svg is")

// cycled is the overload whose beginning is drawn: 2x.
var cycled = overload{name: "one cycle", workers: 10, mean: 10 * ms, trouble: 1500 * ms, load: constant(2)}

// A frame is what a limit says of itself at a time.
type frame struct {
	at time.Duration // since the overload has begun
	limit.Stats
}

// results is how many trials have ended.
func (f *frame) results() uint64 {
	t := f.Trials
	return t.Raised + t.NotRaised + t.Lowered + t.NotLowered + t.Inconclusive
}

// film is a run, a frame each millisecond.
type film []frame

// filmed runs the overload in virtual time.
func filmed(t *testing.T, seed uint64, from, to time.Duration) (f film) {
	o := cycled.withDefaults()
	synctest.Test(t, func(*testing.T) {
		begin := time.Now().Add(o.lead)
		r := newOverloaded(o, limitFront, begin, seed)
		over := make(chan struct{})
		go func() {
			defer close(over)
			time.Sleep(time.Until(begin.Add(from)))
			for at := from; at <= to; at += ms {
				f = append(f, frame{at, r.front.(*limit.Limit).Stats()})
				time.Sleep(ms)
			}
		}()
		r.call(plain, seed)
		r.servers.wait()
		<-over
	})
	return f
}

// A trial of another limit.
type trialOf struct {
	from, to time.Duration
	level    int
	before   limit.Stats
	after    limit.Stats
}

// outcome is the name of the counter that has counted it.
func (t *trialOf) outcome() string {
	a, b := t.after.Trials, t.before.Trials
	switch {
	case a.Lowered > b.Lowered:
		return "lowered"
	case a.NotLowered > b.NotLowered:
		return "not lowered"
	case a.Raised > b.Raised:
		return "raised"
	case a.NotRaised > b.NotRaised:
		return "not raised"
	}
	return "abandoned"
}

// trials returns the trials whose result f has. One begins when the limit changes last
// before its result.
func (f film) trials() (all []trialOf) {
	begun := -1
	for i := 1; i < len(f); i++ {
		ended := f[i].results() > f[i-1].results()
		if ended {
			if begun < 0 {
				begun = i - 1
			}
			all = append(all, trialOf{f[begun].at, f[i].at, f[begun].Limit, f[i-1].Stats, f[i].Stats})
			begun = -1
		}
		if f[i].Limit != f[i-1].Limit && !ended {
			begun = i
		}
	}
	return all
}

// first returns the first frame that is so, nil if there is none.
func (f film) first(is func(*frame) bool) *frame {
	for i := range f {
		if is(&f[i]) {
			return &f[i]
		}
	}
	return nil
}

// The cycle that docs/limit.svg shows can be drawn. With -cycle it is written to a file.
func TestCycle_drawn(t *testing.T) {
	f := filmed(t, 0, cycleFrom, cycleTo)
	svg := drawCycle(f)
	wellFormed(t, svg)
	text := string(svg)
	for _, want := range []string{"twice the load", "no more than", "a trial of", "is proven", "trials pause", "knee: "} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture does not contain %q", want)
		}
	}
	if n := len(f.trials()); n == 0 || n > 9 {
		t.Errorf("%d trials are drawn", n)
	}
	if *cycleFile != "" {
		if err := os.WriteFile(*cycleFile, svg, 0o644); err != nil {
			t.Error(err)
		}
	}
}

func TestCycle_pictureWellFormed(t *testing.T) {
	svg, err := os.ReadFile("../../docs/limit.svg")
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, svg)
	if !bytes.Contains(svg, []byte("<title>")) {
		t.Error("it has no title for screen readers")
	}
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Error(err)
			return
		}
	}
}
