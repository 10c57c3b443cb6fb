package metrics

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/metrics/internal/series"
)

// found is the policies of a Collector and the policies inside them. It is immutable.
type found struct {
	added      []resilience.Policy
	members    map[resilience.Policy]*member
	names      map[id]*past
	histograms []*Histogram
	metrics    map[string]*metric // by the name of the metric; never fewer than before
}

// member is a policy that has metrics and is not a fork made by a group.
type member struct {
	id
	// owner is the outermost group in which the policy was first found, or else the policy
	// itself. Members of one owner may share an id. The owner stays when that group is
	// removed, so that its former members may still share one.
	owner resilience.Policy
}

// id is the kind and the name of a policy. The reports of one id add up.
type id struct{ kind, name string }

// past holds the counters of an id at the last scrape, so that no sum falls. The time of an
// OPEN moves from a fork to its origin when it ends, and a scrape may then miss it in both.
type past struct {
	mu       sync.Mutex
	counters map[string]float64 // guarded by mu; by series
}

// atLeast returns v or the last value of the series, whichever is greater.
func (p *past) atLeast(series string, v float64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	v = max(v, p.counters[series])
	p.counters[series] = v
	return v
}

// metric describes the series of one name.
type metric struct {
	kind    string // of the policies that report it
	desc    *prometheus.Desc
	counter bool
	labels  []string // without series.NameLabel
}

// tableMetrics are the metrics of internal/series, by name.
var tableMetrics = func() map[string]*metric {
	all := map[string]*metric{}
	for _, m := range series.All {
		kind, _, _ := strings.Cut(strings.TrimPrefix(m.Name, series.Prefix), "_")
		if m == series.CallDuration {
			kind = histogramKind // which is not part of the name
		}
		all[m.Name] = newMetric(kind, m.Name, m.Help, m.LabelNames()[1:])
	}
	return all
}()

// tableKinds are the kinds of the policies of this module.
var tableKinds = func() map[string]bool {
	kinds := map[string]bool{}
	for _, m := range tableMetrics {
		kinds[m.kind] = true
	}
	return kinds
}()

// ofHistogram reports whether a scrape of the metric of Histograms has a metric of the name.
func ofHistogram(name string) bool {
	suffix, ok := strings.CutPrefix(name, series.CallDuration.Name)
	return ok && slices.Contains([]string{"_bucket", "_count", "_sum"}, suffix)
}

func newMetric(kind, name, help string, labels []string) *metric {
	desc := prometheus.NewDesc(name, help, append([]string{series.NameLabel}, labels...), nil)
	return &metric{kind, desc, strings.HasSuffix(name, "_total"), labels}
}

// reporter returns p as a Reporter. ok is false for a policy that cannot be a map key,
// because two such policies cannot be compared.
func reporter(p resilience.Policy) (r resilience.Reporter, ok bool) {
	r, ok = p.(resilience.Reporter)
	return r, ok && reflect.ValueOf(p).Comparable()
}

// find finds the policies inside added. It takes over from old the ids, the owners and the
// counters of members that old has. Its error says what to change.
func find(added []resilience.Policy, old *found) (*found, error) {
	s := search{
		found: &found{
			added: added, members: map[resilience.Policy]*member{}, names: map[id]*past{}, metrics: maps.Clone(old.metrics),
		},
		old: old, owners: map[id]resilience.Policy{}, outermost: map[resilience.Policy]resilience.Policy{},
	}
	var inGroups, alone []resilience.Node
	var groups templates
	for _, p := range added {
		for n := range resilience.Walk(p) {
			groups.see(n)
			switch {
			case n.Group == nil:
				alone = append(alone, n)
			case !n.Fork:
				inGroups = append(inGroups, n)
			}
		}
	}
	if err := groups.err(); err != nil {
		return nil, err
	}
	// A policy inside a group that was also added alone belongs to the group.
	for _, n := range slices.Concat(inGroups, alone) {
		if err := s.add(n); err != nil {
			return nil, err
		}
	}
	// The sums of the members that stay are lower than before. With the old past, their
	// counters would not grow until they reach the old sums.
	for p, m := range old.members {
		if s.members[p] == nil && s.names[m.id] != nil {
			s.names[m.id] = &past{counters: map[string]float64{}}
		}
	}
	return s.found, nil
}

type search struct {
	*found
	old       *found
	owners    map[id]resilience.Policy
	outermost map[resilience.Policy]resilience.Policy // of each group
}

func (s *search) add(n resilience.Node) error {
	if !reflect.ValueOf(n.Policy).Comparable() {
		return nil // see reporter
	}
	owner := n.Policy
	if n.Group != nil {
		if owner = s.outermost[n.Group]; owner == nil {
			owner = n.Group
		}
		s.outermost[n.Policy] = owner
	}
	h, isHistogram := n.Policy.(*Histogram)
	r, ok := reporter(n.Policy)
	if !ok && !isHistogram || s.members[n.Policy] != nil {
		return nil
	}
	m := &member{owner: owner}
	before := s.old.members[n.Policy]
	if before != nil {
		m.id = before.id
		if before.owner != n.Policy {
			m.owner = before.owner
		}
	}
	if isHistogram {
		m.id = id{histogramKind, h.Name()}
		s.histograms = append(s.histograms, h)
	} else if before == nil {
		report := r.Report(false)
		m.id = id{report.Kind, report.Name}
		if err := s.describe(&report); err != nil {
			return err
		}
	}
	return s.name(n.Policy, m)
}

// name adds m as the member for p. Its id must not belong to another owner.
func (s *search) name(p resilience.Policy, m *member) error {
	if !utf8.ValidString(m.name) {
		return fmt.Errorf("metrics: the name of the %s %q is not valid UTF-8: give it another Name", m.kind, m.name)
	}
	// Two Histograms of one name would send the same series, even inside one group.
	if owner, taken := s.owners[m.id]; taken && (owner != m.owner || m.kind == histogramKind) {
		if m.name == "" {
			return fmt.Errorf("metrics: there is more than one %s without a name: give each a Name", m.kind)
		}
		return fmt.Errorf("metrics: there is more than one %s with the name %q: give each a Name of its own", m.kind, m.name)
	}
	s.owners[m.id] = m.owner
	if s.names[m.id] = s.old.names[m.id]; s.names[m.id] == nil {
		s.names[m.id] = &past{counters: map[string]float64{}}
	}
	s.members[p] = m
	return nil
}

// validName matches the kinds, the names of values and the labels that a report may have.
var validName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// describe adds the metrics of the values of r, or returns an error that says what to
// change.
func (s *search) describe(r *resilience.Report) error {
	if !validName.MatchString(r.Kind) {
		return fmt.Errorf("metrics: a report has the Kind %q: it must be in snake_case, such as rate_limit", r.Kind)
	}
	bad := func(what string, args ...any) error {
		return fmt.Errorf("metrics: the %s %q reports "+what, append([]any{r.Kind, r.Name}, args...)...)
	}
	seen := map[string]bool{}
	for i := range r.Values {
		v := &r.Values[i]
		one := v.Name + "\xff" + strings.Join(v.Labels, "\xff")
		if seen[one] {
			return bad("%s with the labels %q twice: report each value once", v.Name, v.Labels)
		}
		seen[one] = true
		if !validName.MatchString(v.Name) {
			return bad("a value with the Name %q: it must be in snake_case, such as calls_total", v.Name)
		}
		if len(v.Labels)%2 != 0 {
			return bad("%s with the Labels %q: they must be pairs of label and value", v.Name, v.Labels)
		}
		labels := make([]string, 0, 2)
		for j := 0; j < len(v.Labels); j += 2 {
			l := v.Labels[j]
			if !validName.MatchString(l) || l == series.NameLabel || slices.Contains(labels, l) {
				return bad("%s with the label %q: it must be in snake_case, must not be %q, and must not be repeated", v.Name, l, series.NameLabel)
			}
			labels = append(labels, l)
		}
		name := metricName(r.Kind, v.Name)
		m := tableMetrics[name]
		if tableKinds[r.Kind] && (m == nil || !slices.Equal(m.labels, labels)) {
			return bad("%s with the labels %q: the kind %s is taken: choose another Kind", v.Name, labels, r.Kind)
		}
		if ofHistogram(name) {
			return bad("%s, whose metric %s is a part of a histogram: give the value another Name", v.Name, name)
		}
		if m == nil {
			m = s.metrics[name]
		}
		if m == nil {
			help := v.Help
			if help == "" {
				help = "Reported by policies of the kind " + r.Kind + "."
			}
			m = newMetric(r.Kind, name, help, labels)
		}
		if m.kind != r.Kind {
			return bad("%s, whose metric %s belongs to the kind %q: give the value another Name", v.Name, name, m.kind)
		}
		if !slices.Equal(m.labels, labels) {
			return bad("%s with the labels %q, and elsewhere with %q: report the same labels", v.Name, labels, m.labels)
		}
		s.metrics[name] = m
	}
	return nil
}

func metricName(kind, value string) string { return series.Prefix + kind + "_" + value }
