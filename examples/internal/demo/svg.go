package demo

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The colours of a chart. A chart has a background of its own, so that it reads the
// same on a light and on a dark page.
const (
	Ink   = "#1f2328"
	Faint = "#59636e"
	Grid  = "#d1d9e0"
	Shade = "#f3f6f9"
)

// The two lines of a chart. Their colours differ in lightness too, and one line is
// dashed, for readers who cannot tell the colours apart.
const (
	GuardedLine = `stroke="#0b5cad" stroke-width="2.5"`
	BareLine    = `stroke="#d1490c" stroke-width="2.5" stroke-dasharray="7 4"`
)

// Canvas is an SVG picture in the making.
type Canvas struct{ bytes.Buffer }

// NewCanvas begins a picture. Screen readers read the title aloud.
func NewCanvas(width, height int, title string) *Canvas {
	c := &Canvas{}
	c.Printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13" fill="%s">`+"\n",
		width, height, Ink)
	c.Printf("<title>%s</title>\n", escape(title))
	c.Printf(`<rect width="%d" height="%d" rx="8" fill="#ffffff" stroke="%s"/>`+"\n", width, height, Grid)
	return c
}

// Finish ends the picture and returns it.
func (c *Canvas) Finish() []byte {
	c.Printf("</svg>\n")
	return c.Bytes()
}

// Printf adds markup.
func (c *Canvas) Printf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// Text adds a text, whose characters it escapes.
func (c *Canvas) Text(x, y float64, anchor string, size int, fill, s string) {
	c.Printf(`<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>`+"\n", x, y, anchor, size, fill, escape(s))
}

// Polyline adds a line through points, each "x,y".
func (c *Canvas) Polyline(points []string, style string) {
	c.Printf(`<polyline points="%s" fill="none" stroke-linejoin="round" %s/>`+"\n", strings.Join(points, " "), style)
}

// Key is an entry of a legend.
type Key struct{ Style, What string }

// Legend adds two entries side by side.
func (c *Canvas) Legend(x, y float64, keys ...Key) {
	for _, k := range keys {
		c.Printf(`<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" %s/>`+"\n", x, y, x+34, y, k.Style)
		c.Text(x+42, y+4.5, "start", 13, Ink, k.What)
		x += 345
	}
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// WellFormed returns an error if a picture is not well-formed XML, or if a value in it
// could not be formatted.
func WellFormed(picture []byte) error {
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if bytes.Contains(picture, []byte(bad)) {
			return fmt.Errorf("it has %q in it", bad)
		}
	}
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("it is not well-formed: %w", err)
		}
	}
}
