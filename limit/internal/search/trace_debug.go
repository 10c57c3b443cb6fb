package search

// Trace is for development.
var Trace func(now int64, f string, a ...any)

func (s *Search) tr(now int64, f string, a ...any) {
	if Trace != nil {
		Trace(now, f, a...)
	}
}
