package adapter_test

import (
	"math/big"
	"strings"
	"testing"

	"github.com/resilience-go/resilience/internal/adapter"
)

// ParseAttempt accepts one number of at most three digits, and returns 1 for anything else.
func TestParseAttempt_values(t *testing.T) {
	for name, test := range map[string]struct {
		values []string
		want   int
	}{
		"none":                {nil, 1},
		"empty":               {[]string{""}, 1},
		"zero":                {[]string{"0"}, 1},
		"first":               {[]string{"1"}, 1},
		"second":              {[]string{"2"}, 2},
		"most":                {[]string{"999"}, 999},
		"too many digits":     {[]string{"1000"}, 1},
		"leading zero":        {[]string{"02"}, 1},
		"sign":                {[]string{"+2"}, 1},
		"negative":            {[]string{"-2"}, 1},
		"space":               {[]string{" 2"}, 1},
		"underscore":          {[]string{"1_0"}, 1},
		"hexadecimal":         {[]string{"0x9"}, 1},
		"digits of elsewhere": {[]string{"٣"}, 1},
		"two values":          {[]string{"2", "2"}, 1},
	} {
		if got := adapter.ParseAttempt(test.values); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// Any text of a client gives the number that it spells, or 1.
func FuzzParseAttempt(f *testing.F) {
	for _, seed := range []string{"", "1", "2", "999", "1000", "02", "+2", "2\x002", "99999999999999999999", "2\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, values string) {
		all := strings.Split(values, "\n")
		want := 1
		if n, ok := new(big.Int).SetString(all[0], 10); ok && len(all) == 1 && n.String() == all[0] &&
			n.Sign() > 0 && n.Cmp(big.NewInt(1000)) < 0 {
			want = int(n.Int64())
		}
		if got := adapter.ParseAttempt(all); got != want {
			t.Errorf("%q is %d, want %d", all, got, want)
		}
	})
}
