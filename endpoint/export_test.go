package endpoint

// Add is add.
func (t *Trail) Add(e *Endpoint) { t.add(e) }

// Has is has.
func (t *Trail) Has(e *Endpoint) bool { return t.has(e) }

// PickAt starts an attempt at e, as Endpoint.Apply does.
func (e *Endpoint) PickAt() Pick {
	now := e.set.now()
	return Pick{endpoint: e, at: now, generation: e.start(now)}
}
