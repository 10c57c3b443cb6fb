package main

import (
	"maps"
	"os"
	"testing"
)

// The constants are found, and each is changed in its place only.
func TestConstants(t *testing.T) {
	src, err := os.ReadFile("../../" + source)
	if err != nil {
		t.Fatal(err)
	}
	all, err := constants(src)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][2]string{}
	for _, c := range all {
		for i, ch := range c.changes() {
			changed, err := constants(ch.apply(src))
			if err != nil || len(changed) != len(all) {
				t.Fatalf("%s %s: %d constants, %v", c.name, ch.what, len(changed), err)
			}
			for j, now := range changed {
				if same := now.text == all[j].text; same == (now.name == c.name) {
					t.Errorf("%s %s: %s is %s", c.name, ch.what, now.name, now.text)
				}
			}
			v := values[c.name]
			v[i] = ch.value
			values[c.name] = v
		}
	}
	if len(all) > 20 {
		t.Errorf("%d constants, at most 20 are wanted", len(all))
	}
	for name, want := range map[string][2]string{
		"Least": {"(4) / 2", "(4) * 2"}, "head": {"1.25", "2"}, "step": {"(1.0 / 16) / 2", "(1.0 / 16) * 2"},
	} {
		if values[name] != want {
			t.Errorf("%s: %q", name, values[name])
		}
	}
}

// The logs of the tests are read.
func TestMeans(t *testing.T) {
	got := means([]byte(`=== RUN   TestGate_attacks
=== RUN   TestGate_attacks/an_attack
    attack_internal_test.go:379: seed 0: limit 90.00 rejected 0 held 0
    attack_internal_test.go:379: seed 1: limit 100.00 rejected 0 held 0
    attack_internal_test.go:381: seed 0: none 50.00
`), attackLine)
	if want := map[string]float64{"an_attack": 95}; !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	got = means([]byte("=== RUN   TestLimit_servesUnderOverload/2x,_no_policy\n    overload_test.go:181: limit    good 99.6 ([99.6]), first\n"), overloadLine)
	if want := map[string]float64{"2x,_no_policy": 99.6}; !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// The worst row is the one that has lost most of what is possible.
func TestWorst(t *testing.T) {
	before := map[string]float64{"a": 130, "b_c": 99, "d": 50}
	if got := worst(before, map[string]float64{"a": 99.5, "b_c": 98, "d": 60}); got != "-1.0 b c" {
		t.Error(got)
	}
	base := result{attacks: before}
	if n, none := base.below(base), (result{}).below(base); n != 1 || none != 3 {
		t.Errorf("%d, %d of no result", n, none)
	}
}
