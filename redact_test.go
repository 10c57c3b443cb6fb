package resilience_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/resilience-go/resilience"
)

func causeText(s string) string {
	return (&resilience.Rejection{Cause: errors.New(s)}).CauseText()
}

// patterns are the secrets of URLs, in the order in which CauseText replaces them. The two
// slashes may be escaped, as in JSON, and the scheme may be missing. The quoted patterns
// are for the texts of Go's own errors.
var patterns = []struct {
	secret *regexp.Regexp
	by     string
}{
	{regexp.MustCompile(`(\\?/\\?/)[^\s/?#"<>]*@`), "$1"},
	{regexp.MustCompile(`(\\?/\\?/)[^\s/?#"<>:@\[]*:\d*[^\s\d/?#"][^\s"]*@`), "$1"},
	{regexp.MustCompile(`("[A-Za-z][\w+.-]*://)[^/?#"<>:@\[]*:\d*(?:[^\d/?#"\\]|\\.)(?:[^"\\]|\\.)*@`), "$1"},
	{regexp.MustCompile(`("[A-Za-z][\w+.-]*://(?:[^"\\?#]|\\.)*)[?#](?:[^"\\]|\\.)*`), "$1?…"},
	{regexp.MustCompile(`(\\?/\\?/[^\s?#"<>]*)[?#][^\s"<>]*`), "$1?…"},
	{regexp.MustCompile(`(invalid port )"(?:[^"\\]|\\.)*"`), `$1"…"`},
}

// inPatterns returns s without what the patterns find, on one line.
func inPatterns(s string) string {
	s = strings.ToValidUTF8(s, "")
	for _, p := range patterns {
		s = p.secret.ReplaceAllString(s, p.by)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, s)
}

// hostile are texts that a dependency could choose to make CauseText slow.
var hostile = map[string]string{
	"plain":    strings.Repeat("x", 8<<10),
	"slashes":  strings.Repeat("//", 4<<10),
	"user":     strings.Repeat("//a:1", 1600) + "@",
	"password": strings.Repeat("//a:1x", 1300) + ` @`,
	"quotes":   strings.Repeat(`"a://b:1c`, 900) + "@",
	"escapes":  strings.Repeat(`"h://\"`, 1100) + "?@",
	"ports":    strings.Repeat(`invalid port "`, 600) + "//",
	"all":      strings.Repeat(`"h://u:1x@//?#\/`, 500),
}

// CauseText leaves out what the patterns find, in one bounded line. If the bound of 1 KiB
// cuts the text after n of its bytes, it may leave out more, and shows nothing else.
func FuzzRejection_causeText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s[:100], uint16(50))
	}
	f.Add(`Get "https://ann:hunter2@a.example/b?token=abc#d": EOF`, uint16(20))
	f.Add(`parse "http://u:h\"u@a.example/\x7f": invalid port ":hun" after host`, uint16(15))
	f.Add(`{"url":"http:\/\/ann:hunter2@a.example\/b?c=d"} //u:7#x@`+"\u2028\xff", uint16(60))
	// The bound cuts these in a user or password that shows only when others are removed.
	f.Add(`"h://u s:p>x:y//\"x:y:@<>`, uint16(17))
	f.Add(`"h://@x:yx:y[x:y#[@ `, uint16(18))
	f.Add(`//@\/x:y@\.[ `, uint16(7))
	f.Fuzz(func(t *testing.T, s string, n uint16) {
		const url = "https://b.example/"
		s = s[:min(len(s), 1<<10-len(url)-len("? "))]
		query := strings.Repeat("q", 1<<10-len(url)-len("? ")-min(int(n), len(s)))
		for _, s := range []string{url + " " + s, url + "?" + query + " " + s + " "} {
			want := inPatterns(s)
			got := causeText(s)
			if len(got) > 200 || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
				t.Errorf("%q has the text %q", s, got)
			}
			if len(s) <= 1<<10 && len(want) <= 200 && got != want {
				t.Errorf("%q has the text\n%q, want\n%q", s, got, want)
			}
			if shown := strings.TrimRight(got, "…"); !strings.HasPrefix(want, shown) {
				t.Errorf("%q has the text\n%q, which is not in\n%q", s, got, want)
			}
		}
	})
}

// A URL that the bound of 1 KiB cuts shows no user, password or query, wherever it is cut.
func TestRejection_causeCutInURL(t *testing.T) {
	for _, url := range []string{
		"https://SECRET:SECRET@a.example/",
		"https://SECRET:SEC/RET@a.example/",
		"https://SECRET@a.example/?SECRET",
		`http:\/\/SECRET:SECRET@a.example\/b?SECRET`,
		`Get "https://SECRET:SECRET@a.example/?q=SECRET": EOF`,
		`parse "http://SECRET SECRET:SECRET SECRET@a.example/": net/url: invalid userinfo`,
		`parse "http://u:SEC\"RET SECRET@a.example/": net/url: invalid control character`,
		`parse "http://u:SECRET?/SECRET@a.example/": invalid port ":SECRET" after host`,
	} {
		for n := range len(url) + 1 {
			// The query before the URL leaves no more than the URL to show.
			s := "https://b.example/?" + strings.Repeat("q", 1<<10-20-n) + " " + url + strings.Repeat("x", 1<<10)
			if got := causeText(s); strings.Contains(got, "S") {
				t.Errorf("cut after %q: %q", url[:n], got)
			}
		}
	}
}

// BenchmarkRejection_causeText is the cost of the text of a hostile error.
func BenchmarkRejection_causeText(b *testing.B) {
	for name, s := range hostile {
		b.Run(name, func(b *testing.B) {
			r := &resilience.Rejection{Cause: errors.New(s)}
			for b.Loop() {
				_ = r.CauseText()
			}
		})
	}
}
