package debug

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/resilience-go/resilience/internal/describe"
)

const (
	// maxText bounds names, keys and what policies of others say, in bytes, and
	// maxSentence what the policies of this module say, in which these occur.
	maxText, maxSentence = 200, 2000

	cut = "…"
)

// clip returns s for people, as much as fits.
func clip(s string) string { return clipTo(maxText, s) }

func clipTo(most int, s string) string {
	long := len(s) > 4*most
	if long {
		s = s[:4*most] // more need not be looked at
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError // it could hide or reorder what stands beside it
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

// stamp is a time.
type stamp struct{ time.Time }

// MarshalJSON writes RFC 3339, or null for a time that it has no text for: a Clock
// may say anything.
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
func (s stamp) String() string { return describe.Time(s.Time) }

// seconds is a duration.
type seconds time.Duration

// MarshalJSON writes a number of seconds.
func (s seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// String is the duration with as many digits as people care for.
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

// reasons are counts by reason, in an order of their own.
type reasons []reason

type reason struct {
	key   string // in JSON, as in the metrics
	Words string
	Count uint64
}

// MarshalJSON writes an object.
func (r reasons) MarshalJSON() ([]byte, error) {
	all := make(map[string]uint64, len(r))
	for _, one := range r {
		all[one.key] = one.Count
	}
	return json.Marshal(all)
}

// Some are those that have happened.
func (r reasons) Some() (some reasons) {
	for _, one := range r {
		if one.Count > 0 {
			some = append(some, one)
		}
	}
	return some
}
