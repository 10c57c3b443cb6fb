package resilience

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// errorText returns err.Error(). If that method panics, errorText returns the
// error's type instead.
func errorText(err error) (s string) {
	defer func() {
		if recover() != nil {
			s = fmt.Sprintf("%T, whose Error method panics", err)
		}
	}()
	return err.Error()
}

const (
	// maxText is the longest text, in bytes, that redact returns. It is enough for a
	// sentence in a log line.
	maxText = 200
	// maxInput is how many bytes of an error text redact reads, so that a hostile
	// text costs a bounded time.
	maxInput = 8 << 10
)

// The patterns find what may be secret in a URL. In each, the two slashes may be
// escaped, as in JSON, and the scheme may be missing.
var (
	userInfo = regexp.MustCompile(`(\\?/\\?/)[^\s/?#"<>]*@`)
	// badUserInfo finds a password with characters that a URL must escape.
	badUserInfo = regexp.MustCompile(`(\\?/\\?/)[^\s/?#"<>:@\[]*:\d*[^\s\d/?#"][^\s"]*@`)
	// cutUser finds a user or a host at the end of a text that was cut.
	cutUser  = regexp.MustCompile(`(\\?/\\?/)([^\s/?#"<>]*|[^\s/?#"<>:@\[]*:\d*[^\s\d/?#"][^\s"]*)$`)
	urlQuery = regexp.MustCompile(`(\\?/\\?/[^\s?#"<>]*)[?#][^\s"<>]*`)
	// The quoted patterns find a URL in quotes, as Go's own errors print it. They end
	// at the first quote that is not escaped.
	quotedUserInfo = regexp.MustCompile(`("[A-Za-z][\w+.-]*://)[^/?#"<>:@\[]*:\d*(?:[^\d/?#"\\]|\\.)(?:[^"\\]|\\.)*@`)
	quotedQuery    = regexp.MustCompile(`("[A-Za-z][\w+.-]*://(?:[^"\\?#]|\\.)*)[?#](?:[^"\\]|\\.)*`)
	// invalidPort finds the port that net/url repeats in its error.
	invalidPort = regexp.MustCompile(`(invalid port )"(?:[^"\\]|\\.)*"`)
)

// redact makes the text of an error fit to print: one line of at most maxText bytes,
// with no control characters and no secrets of URLs.
func redact(s string) string {
	cut := len(s) > maxInput
	s = strings.ToValidUTF8(s[:min(len(s), maxInput)], "")
	if strings.Contains(s, "//") || strings.Contains(s, `\/`) {
		s = redactURLs(s, cut)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, s)
	if !cut && len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:min(len(s), maxText-len("…"))], "") + "…"
}

// redactURLs removes user, password, query and fragment from the URLs in s. cut
// reports whether the end of s is missing.
func redactURLs(s string, cut bool) string {
	if cut {
		s = cutUser.ReplaceAllString(s, "$1")
	}
	if strings.Contains(s, "@") { // most texts have none and need no search
		for _, user := range []*regexp.Regexp{userInfo, badUserInfo, quotedUserInfo} {
			s = user.ReplaceAllString(s, "$1")
		}
	}
	if strings.ContainsAny(s, "?#") {
		for _, query := range []*regexp.Regexp{quotedQuery, urlQuery} {
			s = query.ReplaceAllString(s, "$1?…")
		}
	}
	return invalidPort.ReplaceAllString(s, `$1"…"`)
}
