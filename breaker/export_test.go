package breaker

import "time"

// PresentOpen is presentOpen for tests in package breaker_test.
func (b *Breaker) PresentOpen() time.Duration { return b.presentOpen() }
