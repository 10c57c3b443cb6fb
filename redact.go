package resilience

import (
	"fmt"
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
	// maxInput is how many bytes of a text redact reads, so that a hostile text costs
	// microseconds. It is five times maxText, because long URLs become short.
	maxInput = 1 << 10
)

// redact makes the text of an error fit to print: one line of at most maxText bytes,
// with no control characters and no secrets of URLs. It reads each byte a fixed number of
// times, whatever the text is.
func redact(s string) string {
	cut := len(s) > maxInput
	s = strings.ToValidUTF8(s[:min(len(s), maxInput)], "")
	if strings.Contains(s, "//") || strings.Contains(s, `\/`) {
		s = redactURLs(s, cut)
	}
	s = strings.Map(printed, s[:min(len(s), 3*(maxText+1))]) // printed makes one byte of at most three
	if !cut && len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:min(len(s), maxText-len("…"))], "") + "…"
}

// printed returns a space for a rune that could hide or reorder the text beside it.
func printed(r rune) rune {
	if unicode.IsControl(r) || r > unicode.MaxASCII && unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
		return ' '
	}
	return r
}

// redactURLs removes user, password, query and fragment from the URLs in s. cut
// reports whether the end of s is missing.
func redactURLs(s string, cut bool) string {
	if cut {
		s = withoutCutUser(strings.TrimRight(s, `\`)) // the last \ may have lost what it escapes
	}
	if strings.Contains(s, "@") { // most texts have none and need no search
		s = replace(s, "", userInfo)
		s = replace(s, "", badUserInfo)
		s = replace(s, "", quotedUserInfo)
	}
	if cut {
		s = withoutCutUser(s) // what is left may look like a user
	}
	if strings.ContainsAny(s, "?#") {
		s = replace(s, "?…", quotedQuery)
		s = replace(s, "?…", urlQuery)
	}
	if strings.Contains(s, invalidPort) {
		s = replace(s, "…", func(s string, i int) (from, to int) { return portInError(s, i, cut) })
	}
	return s
}

// replace replaces each secret in s with by. find is called with the end of the last secret
// and returns where the next one begins and ends, or a negative number if there is none.
func replace(s, by string, find func(s string, i int) (from, to int)) string {
	var b strings.Builder
	i := 0
	for from, to := find(s, 0); from >= 0; from, to = find(s, i) {
		b.WriteString(s[i:from])
		b.WriteString(by)
		i = to
	}
	if i == 0 {
		return s
	}
	b.WriteString(s[i:])
	return b.String()
}

// The characters that end a part of a URL in a text. The slashes of a URL may be escaped,
// as in JSON, and its scheme may be missing. Go's own errors print a URL in quotes, in
// which the only end is a quote that is not escaped.
var (
	urlEnd   = setOf(" \t\n\f\r\"")
	queryEnd = setOf(" \t\n\f\r\"<>")
	pathEnd  = setOf(" \t\n\f\r\"<>?#")
	hostEnd  = setOf(" \t\n\f\r\"<>?#/")
	nameEnd  = setOf(" \t\n\f\r\"<>?#/:@[")
	portEnd  = setOf(" \t\n\f\r\"?#/")

	quotedEnd     = setOf("\"")
	quotedPathEnd = setOf("\"?#")
	quotedHostEnd = setOf("\"<>?#/@[")
	quotedNameEnd = setOf("\"<>?#/@[:")
	quotedPortEnd = setOf("\"?#/")
)

// invalidPort is the text of net/url before the text that it took for a port.
const invalidPort = `invalid port "`

// set is a set of ASCII characters.
type set [2]uint64

func setOf(chars string) (s set) {
	for _, c := range []byte(chars) {
		s[c/64] |= 1 << (c % 64)
	}
	return s
}

func (s *set) has(c byte) bool { return c < 128 && s[c/64]>>(c%64)&1 == 1 }

// until returns the index of the first character of ends in s at or after i, or len(s).
func until(s string, i int, ends *set) int {
	for i < len(s) && !ends.has(s[i]) {
		i++
	}
	return i
}

// authority finds the next two slashes in s at or after i. It returns the index after them,
// or -1.
func authority(s string, i int) int {
	for {
		n := strings.IndexByte(s[i:], '/')
		if n < 0 {
			return -1
		}
		i += n + 1
		if rest := strings.TrimPrefix(s[i:], `\`); strings.HasPrefix(rest, "/") {
			return len(s) - len(rest) + 1
		}
	}
}

// quotedAuthority is authority for a URL in quotes. It finds the next quote that a scheme, a
// colon and two slashes follow.
func quotedAuthority(s string, i int) int {
	for {
		n := strings.IndexByte(s[i:], '"')
		if n < 0 {
			return -1
		}
		i += n + 1
		scheme := i
		for i < len(s) && (letter(s[i]) || i > scheme && (digit(s[i]) || strings.IndexByte("_+.-", s[i]) >= 0)) {
			i++
		}
		if i > scheme && strings.HasPrefix(s[i:], "://") {
			return i + len("://")
		}
	}
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// unquoted returns end, the index of the first character of ends in s at or after i that no
// backslash escapes, or len(s) if there is none. at is the index of the last @ before end, or
// -1.
func unquoted(s string, i int, ends *set) (end, at int) {
	at = -1
	for ; i < len(s) && !ends.has(s[i]); i++ {
		switch s[i] {
		case '@':
			at = i
		case '\\':
			if i++; i == len(s) || s[i] == '\n' {
				return i - 1, at // nothing is escaped
			}
		}
	}
	return i, at
}

// password finds the password of the authority at p, which follows a name and a colon. It
// returns the index after the password's first character that is not a digit, or -1 if there
// is none: digits alone are a port.
func password(s string, p int, nameEnd, portEnd *set) int {
	p = until(s, p, nameEnd)
	if p == len(s) || s[p] != ':' {
		return -1
	}
	for p++; p < len(s) && digit(s[p]); p++ {
	}
	if p == len(s) || portEnd.has(s[p]) {
		return -1
	}
	return p + 1
}

// quotedPassword is password for a URL in quotes.
func quotedPassword(s string, p int) int {
	p = password(s, p, &quotedNameEnd, &quotedPortEnd)
	if p > 0 && s[p-1] == '\\' {
		if p == len(s) || s[p] == '\n' {
			return -1
		}
		p++
	}
	return p
}

// userInfo finds user and password.
func userInfo(s string, i int) (from, to int) {
	for p := authority(s, i); p >= 0; p = authority(s, p-1) {
		if host, _ := hostOf(s, p); host > p {
			return p, host
		}
	}
	return -1, 0
}

// hostOf returns where the host of the authority at p begins, after an @ if there is one,
// and where it ends.
func hostOf(s string, p int) (begin, end int) {
	end = until(s, p, &hostEnd)
	return p + strings.LastIndexByte(s[p:end], '@') + 1, end
}

// badUserInfo finds user and password if the password has characters that a URL must
// escape.
func badUserInfo(s string, i int) (from, to int) {
	for end := 0; i < len(s); i = end + 1 {
		end = until(s, i, &urlEnd)
		at := i + strings.LastIndexByte(s[i:end], '@')
		if at < i {
			continue
		}
		for p := authority(s[:at], i); p >= 0; p = authority(s[:at], p-1) {
			if secret := password(s[:at], p, &nameEnd, &portEnd); secret >= 0 {
				return p, at + 1
			}
		}
	}
	return -1, 0
}

// quotedUserInfo is badUserInfo for a URL in quotes.
func quotedUserInfo(s string, i int) (from, to int) {
	end, at := -1, -1
	for p := quotedAuthority(s, i); p >= 0; p = quotedAuthority(s, p) {
		secret := quotedPassword(s, p)
		if secret > end { // otherwise end and at are right for this URL too
			end, at = unquoted(s, secret, &quotedEnd)
		}
		if secret >= 0 && secret <= at {
			return p, at + 1
		}
	}
	return -1, 0
}

// urlQuery finds query and fragment, and the character before them.
func urlQuery(s string, i int) (from, to int) {
	for p := authority(s, i); p >= 0; p = authority(s, p) {
		if p = until(s, p, &pathEnd); p < len(s) && (s[p] == '?' || s[p] == '#') {
			return p, until(s, p, &queryEnd)
		}
	}
	return -1, 0
}

// quotedQuery is urlQuery for a URL in quotes.
func quotedQuery(s string, i int) (from, to int) {
	for p := quotedAuthority(s, i); p >= 0; p = quotedAuthority(s, p) {
		if p, _ = unquoted(s, p, &quotedPathEnd); p < len(s) && (s[p] == '?' || s[p] == '#') {
			to, _ = unquoted(s, p, &quotedEnd)
			return p, to
		}
	}
	return -1, 0
}

// portInError finds the text that net/url took for a port, which is part of a password. cut
// reports whether the end of s is missing.
func portInError(s string, i int, cut bool) (from, to int) {
	for {
		n := strings.Index(s[i:], invalidPort)
		if n < 0 {
			return -1, 0
		}
		i += n + len(invalidPort)
		to, _ = unquoted(s, i, &quotedEnd)
		if to == len(s) && cut || to < len(s) && s[to] == '"' {
			return i, to
		}
	}
}

// withoutCutUser returns s, a text whose end is missing, without what may be the user or
// password of a URL at its end.
func withoutCutUser(s string) string {
	word := len(s) // where the last word begins
	for word > 0 && !urlEnd.has(s[word-1]) {
		word--
	}
	for p := authority(s, 0); p >= 0; p = authority(s, p-1) {
		name, host := hostOf(s, p)
		if host == len(s) || password(s, name, &nameEnd, &portEnd) > word {
			s = s[:p]
			break
		}
	}
	end := -1
	for p := quotedAuthority(s, 0); p >= 0; p = quotedAuthority(s, p) {
		name, _ := hostOf(s, p)
		secret := quotedPassword(s, name)
		if secret > end { // otherwise end is right for this URL too
			end, _ = unquoted(s, secret, &quotedEnd)
		}
		if until(s, name, &quotedHostEnd) == len(s) || secret >= 0 && end == len(s) {
			return s[:p]
		}
	}
	return s
}
