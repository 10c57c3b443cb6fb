package metrics

import (
	"math"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
)

// key identifies a series while reports are added up. labels points to the first label of
// the Value. Forks share their labels, so that their series are found without joining
// strings; send merges the keys of equal labels.
type key struct {
	id
	value  string
	labels *string
}

// sample is one series of a scrape.
type sample struct {
	metric *metric
	labels []string // values, the name of the policy first
	value  float64
}

// tally adds up the reports of policies that have the same kind and name.
type tally struct {
	found   *found
	samples map[key]*sample
}

// all returns the nodes to read, each policy once. A policy that is a template and also
// serves calls, such as a policy without state, is not returned as a template.
func (f *found) all() []resilience.Node {
	var nodes []resilience.Node
	index := map[resilience.Policy]int{}
	for _, p := range f.added {
		for n := range resilience.Walk(p) {
			if _, ok := reporter(n.Policy); !ok {
				continue
			}
			if i, seen := index[n.Policy]; seen {
				nodes[i].Template = nodes[i].Template && n.Template
				continue
			}
			index[n.Policy] = len(nodes)
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// add adds the report of n. The gauges of a template count as 0, because no call passes
// through it. A counter that is not a finite number counts as 0, so that a series keeps its
// last value.
func (t *tally) add(n resilience.Node) {
	report := n.Policy.(resilience.Reporter).Report(false)
	of := id{report.Kind, report.Name}
	if t.found.names[of] == nil {
		return // a fork made by user code, whose name may contain the key
	}
	for i := range report.Values {
		v := &report.Values[i]
		k := key{id: of, value: v.Name}
		if len(v.Labels) > 0 {
			k.labels = &v.Labels[0]
		}
		s := t.samples[k]
		if s == nil {
			if s = t.sample(of, v); s == nil {
				continue
			}
			t.samples[k] = s
		}
		switch {
		case s.metric.counter:
			if !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) { // which the sum would keep
				s.value += v.Value
			}
		case !n.Template:
			s.value += v.Value
		}
	}
}

// sample returns the first sample of a series, or nil if no metric has the labels of v.
func (t *tally) sample(of id, v *resilience.Value) *sample {
	m := t.found.metrics[metricName(of.kind, v.Name)]
	if m == nil || len(v.Labels) != 2*len(m.labels) {
		return nil
	}
	labels := make([]string, 1, 1+len(m.labels))
	labels[0] = of.name
	for i, l := range m.labels {
		if v.Labels[2*i] != l {
			return nil
		}
		labels = append(labels, strings.ToValidUTF8(v.Labels[2*i+1], "\uFFFD"))
	}
	return &sample{metric: m, labels: labels}
}

// send sends every series once, to ch.
func (t *tally) send(ch chan<- prometheus.Metric) {
	type series struct {
		*sample
		id
		text string
	}
	merged := map[string]*series{}
	for k, s := range t.samples {
		text := k.kind + "\xff" + k.value + "\xff" + strings.Join(s.labels, "\xff") // \xff is valid in no label
		if one := merged[text]; one != nil {
			one.value += s.value
			continue
		}
		merged[text] = &series{s, k.id, text}
	}
	for _, s := range merged {
		typ := prometheus.GaugeValue
		if s.metric.counter {
			typ = prometheus.CounterValue
			s.value = t.found.names[s.id].atLeast(s.text, s.value)
		}
		ch <- prometheus.MustNewConstMetric(s.metric.desc, typ, s.value, s.labels...)
	}
}
