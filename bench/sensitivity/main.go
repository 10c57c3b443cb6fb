// Command sensitivity shows what each named constant of the limit's search is worth:
//
//	go run ./bench/sensitivity -markdown
//
// It halves and doubles one constant after another, and runs the attacks of package limit and
// the overloads of bench/cascade with it. A ratio between a half and two moves half as far from
// 1, and twice as far. The source is not changed: the go command compiles a changed copy of one
// file instead, with -overlay. Overloads run with one seed. A change of less than about a point
// is the luck of the seeds.
//
// A run takes a minute for each of the changes on one core.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/resilience-go/resilience/bench/internal/table"
)

// source has the constants, as seen from the root of the module.
const source = "limit/internal/search/search.go"

func main() {
	markdown := flag.Bool("markdown", false, "print Markdown")
	only := flag.String("const", ".", "change the constants that match this regular expression")
	seeds := flag.Int("seeds", 2, "run attacks with so many seeds")
	flag.Parse()
	if err := run(os.Stdout, *only, *seeds, *markdown); err != nil {
		fmt.Fprintln(os.Stderr, "sensitivity:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, only string, seeds int, markdown bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return err
	}
	root := strings.TrimSpace(string(out))
	text, err := os.ReadFile(filepath.Join(root, source))
	if err != nil {
		return err
	}
	all, err := constants(text)
	if err != nil {
		return err
	}
	base, err := measure(root, text, seeds)
	if err != nil {
		return err
	}
	rows := [][]string{{"constant", "", fmt.Sprintf("attacks below %.0f %%", low), "worst attack, points", "worst overload, points"}}
	rows = append(rows, []string{"none", "", strconv.Itoa(base.below(base)), "", ""})
	for _, c := range all {
		if !match.MatchString(c.name) {
			continue
		}
		for _, ch := range c.changes() {
			got, err := measure(root, ch.apply(text), seeds)
			if err != nil {
				return fmt.Errorf("%s %s: %w", c.name, ch.what, err)
			}
			rows = append(rows, []string{c.name, ch.what, strconv.Itoa(got.below(base)), worst(base.attacks, got.attacks), worst(base.overloads, got.overloads)})
		}
	}
	return table.Write(w, rows, markdown)
}

// A constant is a named value in a source text.
type constant struct {
	name       string
	text       string // of the value
	start, end int    // of text in the source
}

// constants returns the numbers among the constants of a source text.
func constants(src []byte) (all []constant, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, source, src, 0)
	if err != nil {
		return nil, err
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if len(v.Values) != 1 || v.Type != nil { // the states
				continue
			}
			start, end := files.Position(v.Values[0].Pos()).Offset, files.Position(v.Values[0].End()).Offset
			all = append(all, constant{v.Names[0].Name, string(src[start:end]), start, end})
		}
	}
	return all, nil
}

// A change replaces the value of a constant.
type change struct {
	constant
	what, value string
}

func (c constant) changes() []change {
	if x, err := strconv.ParseFloat(c.text, 64); err == nil && strings.Contains(c.text, ".") && x >= .5 && x <= 2 {
		near, far := 1+(x-1)/2, 1+2*(x-1)
		return []change{{c, fmt.Sprintf("%.4g", near), fmt.Sprint(near)}, {c, fmt.Sprintf("%.4g", far), fmt.Sprint(far)}}
	}
	return []change{{c, "halved", "(" + c.text + ") / 2"}, {c, "doubled", "(" + c.text + ") * 2"}}
}

func (c change) apply(src []byte) []byte {
	return slices.Concat(src[:c.start], []byte(c.value), src[c.end:])
}

// result has the success of attacks and the goodput of overloads, in percent of what is possible.
type result struct{ attacks, overloads map[string]float64 }

// low is the success in percent below which an attack is counted.
const low = 97.0

// below counts the attacks of base with less than low. One that has not ended has 0.
func (r result) below(base result) (n int) {
	for name := range base.attacks {
		if r.attacks[name] < low {
			n++
		}
	}
	return n
}

// worst returns the row that has lost most, and how much. More than 100 % counts as 100 %.
func worst(before, after map[string]float64) string {
	name, least := "", math.Inf(1)
	for _, n := range slices.Sorted(maps.Keys(before)) {
		if x := min(after[n], 100) - min(before[n], 100); x < least {
			name, least = n, x
		}
	}
	return fmt.Sprintf("%+.1f %s", least, strings.ReplaceAll(name, "_", " "))
}

// measure runs the tests with another text of the source.
func measure(root string, text []byte, seeds int) (result, error) {
	dir, err := os.MkdirTemp("", "sensitivity")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	changed := filepath.Join(dir, filepath.Base(source))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, source): changed}})
	if err != nil {
		return result{}, err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := cmp.Or(os.WriteFile(changed, text, 0o600), os.WriteFile(file, overlay, 0o600)); err != nil {
		return result{}, err
	}
	test := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", append([]string{"test", "-overlay", file, "-count=1", "-v", "-timeout=30m"}, args...)...)
		cmd.Dir = root
		out, err := cmd.Output()
		if _, failed := err.(*exec.ExitError); failed && strings.Contains(string(out), "=== RUN") {
			err = nil // a test that fails is a result
		}
		return out, err
	}
	attacks, err := test("-run", "TestGate_attacks", "./limit", "-args", "-seeds", strconv.Itoa(seeds))
	if err != nil {
		return result{}, err
	}
	overloads, err := test("-run", "TestLimit_servesUnderOverload/no_policy", "./bench/cascade", "-args", "-arm", "limit", "-seed", "0")
	if err != nil {
		return result{}, err
	}
	return result{means(attacks, attackLine), means(overloads, overloadLine)}, nil
}

var (
	runLine      = regexp.MustCompile(`^=== RUN\s+[^/]+/(.*)`)
	attackLine   = regexp.MustCompile(`seed \d+: limit ([\d.]+) `)
	overloadLine = regexp.MustCompile(`: limit +good ([\d.]+) `)
)

// means returns the mean of the numbers that a test has logged, by the name of the subtest.
func means(log []byte, line *regexp.Regexp) map[string]float64 {
	sum, n, name := map[string]float64{}, map[string]float64{}, ""
	for l := range strings.Lines(string(log)) {
		if m := runLine.FindStringSubmatch(l); m != nil {
			name = strings.TrimSpace(m[1])
		}
		if m := line.FindStringSubmatch(l); m != nil {
			x, _ := strconv.ParseFloat(m[1], 64)
			sum[name] += x
			n[name]++
		}
	}
	for name := range sum {
		sum[name] /= n[name]
	}
	return sum
}
