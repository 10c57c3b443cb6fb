package resilience_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/resilience-go/resilience"
)

// model is a slow and simple Tail. It records the settled Settlers and the results of
// the calls.
type model struct {
	run             uint32
	begun, answered bool
	ended           bool
	err             error
	waiting         []waiter
	lines           []string
}

type waiter struct {
	token uint64
	at    resilience.Moment
}

func (m *model) settle(token uint64, err error) {
	m.lines = append(m.lines, fmt.Sprintf("settle %d: %v", token, err))
}

func (m *model) begin() {
	waiting := m.waiting
	*m = model{run: m.run + 1, begun: true, lines: m.lines}
	for _, w := range waiting {
		m.settle(w.token, resilience.ErrAborted)
	}
	m.lines = append(m.lines, fmt.Sprintf("run %d", m.run))
}

func (m *model) answer(run uint32) {
	if run != m.run || !m.begun || m.ended {
		return
	}
	m.answered = true
	for _, w := range m.waiting {
		if w.at == resilience.Answered {
			m.settle(w.token, nil)
		}
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(w waiter) bool { return w.at == resilience.Answered })
}

func (m *model) end(run uint32, err error) {
	if run != m.run || !m.begun || m.ended {
		return
	}
	m.ended, m.err = true, err
	for _, w := range m.waiting {
		m.settle(w.token, err)
	}
	m.waiting = nil
}

func (m *model) hold(at resilience.Moment, token uint64) {
	held := m.begun && !(at == resilience.Answered && m.answered)
	switch {
	case held && m.ended:
		m.settle(token, m.err)
	case held:
		m.waiting = append(m.waiting, waiter{token, at})
	}
	m.lines = append(m.lines, fmt.Sprintf("hold %d: %v", token, held))
}

func (m *model) held() {
	m.lines = append(m.lines, fmt.Sprintf("held %v", len(m.waiting) > 0))
}

// FuzzTail applies the same operations to a Tail and to its model. Two bits of a byte
// choose the run, the others the operation.
func FuzzTail(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 3, 4, 1, 2, 5})             // a run with both moments
	f.Add([]byte{0, 3, 3, 3, 3, 3, 3, 3, 1, 2}) // more than fit inline
	f.Add([]byte{0, 3, 0, 0x42, 0x81, 2, 3, 4}) // a second run, late ends
	f.Add([]byte{0, 0, 0, 4, 0x82, 5, 2, 5})    // a late end when there have been several
	f.Add([]byte{0, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 1, 5, 3, 3, 3, 3, 3, 2, 5, 3, 4, 6})
	f.Fuzz(func(t *testing.T, data []byte) {
		var tail resilience.Tail
		var m model
		var lines []string
		log := settler(func(token uint64, err error) {
			lines = append(lines, fmt.Sprintf("settle %d: %v", token, err))
		})
		for i, b := range data {
			run, token := m.run-uint32(b>>6)+1, uint64(i)
			if b>>6 == 0 {
				run = m.run
			}
			switch b & 0x3f % 7 {
			case 0:
				lines = append(lines, fmt.Sprintf("run %d", tail.Begin()))
				m.begin()
			case 1:
				tail.Answer(run)
				m.answer(run)
			case 2:
				tail.End(run, errDown)
				m.end(run, errDown)
			case 3:
				lines = append(lines, fmt.Sprintf("hold %d: %v", token, tail.Hold(resilience.Answered, log, token)))
				m.hold(resilience.Answered, token)
			case 4:
				lines = append(lines, fmt.Sprintf("hold %d: %v", token, tail.Hold(resilience.Ended, log, token)))
				m.hold(resilience.Ended, token)
			case 5:
				lines = append(lines, fmt.Sprintf("held %v", tail.Held()))
				m.held()
			case 6:
				tail.End(run, nil)
				m.end(run, nil)
			}
		}
		if !slices.Equal(lines, m.lines) {
			t.Errorf("did\n%q\nwant\n%q", lines, m.lines)
		}
	})
}
