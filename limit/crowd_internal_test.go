package limit

import (
	"testing"
	"time"
)

// A crowd begins with a look that waited for long. It ends with a look that did not, unless
// there is an overload.
func TestCrowd_beginsAndEnds(t *testing.T) {
	const ms = int64(time.Millisecond)
	var c crowd
	enter := func(at int64, gives, looks bool) {
		t.Helper()
		if g, l := c.enter(at); g != gives || l != looks {
			t.Errorf("at %dms: gives way %v, looks %v; want %v, %v", at/ms, g, l, gives, looks)
		}
	}
	enter(0, true, true)
	enter(1*ms, false, false) // one look in lookEvery
	c.waited(0, 2*ms, nil)    // not for long
	enter(5*ms, true, true)
	c.waited(5*ms, 25*ms, nil) // not for longer than longWait
	enter(30*ms, true, true)
	c.waited(30*ms, 51*ms, nil)
	for at := 52 * ms; at < 1050*ms; at += 100 * ms {
		enter(at, true, false)
	}
	enter(1051*ms, true, true)
	enter(1052*ms, true, false)
	c.waited(1051*ms, 1053*ms, func() bool { return true })
	enter(2052*ms, true, false)
	enter(2053*ms, true, true)
	c.waited(2053*ms, 2054*ms, func() bool { return false })
	enter(2055*ms, false, false)
	enter(2059*ms, true, true)
}

// A clock that is set back delays no look.
func TestCrowd_clockSetBack(t *testing.T) {
	var c crowd
	c.enter(int64(time.Hour))
	if gives, looks := c.enter(0); !gives || !looks {
		t.Errorf("after the clock was set back: gives way %v, looks %v", gives, looks)
	}
}
