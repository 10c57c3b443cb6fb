package window

import (
	"testing"

	"github.com/resilience-go/resilience/internal/vclock"
)

func TestAPartThatIsFullKeepsItsRatio(t *testing.T) {
	c := vclock.New(nil)
	o := NewOver(1<<62, 0, &c)
	r := o.ring.Load()
	n := r.latest.Load()
	r.slots[n%parts].Store(pack(n, countMask/4, countMask))
	if hits, calls := o.Add(0, true); hits != countMask/8+1 || calls != countMask/2+1 {
		t.Errorf("%d of %d, want one of each more than half of %d of %d", hits, calls, countMask/4, countMask)
	}
}
