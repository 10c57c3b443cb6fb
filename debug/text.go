package debug

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxText bounds names, keys, labels and error texts, in bytes.
	maxText = 200
	// maxSentence bounds sentences and settings, in which names occur, in bytes.
	maxSentence = 2000

	cut = "…"
)

// clip returns s cut to maxText, without characters that do not print.
func clip(s string) string { return clipTo(maxText, s) }

func clipTo(most int, s string) string {
	long := len(s) > 4*most
	if long {
		s = s[:4*most] // the rest is not read
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError // it could hide or reorder the text beside it
		}
		return r
	}, s) // which also replaces what is not UTF-8
	if !long && len(s) <= most {
		return s
	}
	end := most - len(cut)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + cut
}

// number is a value of a report.
type number float64

// finite reports whether JSON and a meter can express the number.
func (n number) finite() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON writes the number, or null for one that JSON does not have.
func (n number) MarshalJSON() ([]byte, error) {
	if !n.finite() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// String returns the number with at most one digit after the point.
func (n number) String() string {
	return strings.TrimSuffix(strconv.FormatFloat(float64(n), 'f', 1, 64), ".0")
}

// stamp is a time.
type stamp struct{ time.Time }

// MarshalJSON writes RFC 3339, or null for a time that has no such text, which a user's
// Clock may return.
func (s stamp) MarshalJSON() ([]byte, error) {
	b, err := s.Time.MarshalJSON()
	if err != nil {
		return []byte("null"), nil
	}
	return b, nil
}

// Machine is the time for machines.
func (s stamp) Machine() string { return s.Format(time.RFC3339Nano) }

// String is the time for people.
func (s stamp) String() string { return s.Format("2006-01-02 15:04:05.000 MST") }

// elapsed returns the longer of the wall time and the monotonic time between two times of
// one clock. Monotonic time stops during a suspend, and wall time may be set back.
func elapsed(from, to time.Time) time.Duration {
	return max(0, to.Sub(from), to.Round(0).Sub(from.Round(0))) // Round(0) keeps only the wall time
}

// seconds is a duration.
type seconds time.Duration

// MarshalJSON writes a number of seconds.
func (s seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// String is the duration, rounded for people.
func (s seconds) String() string {
	d := time.Duration(s)
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	minutes := int64(d.Round(time.Minute) / time.Minute)
	if d < 48*time.Hour {
		return fmt.Sprintf("%dh%dm", minutes/60, minutes%60)
	}
	return fmt.Sprintf("%dd%dh", minutes/60/24, minutes/60%24)
}
