package ops

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/resilience-go/resilience/metrics/internal/series"
)

// A Row is a row of panels with a title.
type Row struct {
	Title  string
	Panels []*Panel
}

// A Panel is one graph.
type Panel struct {
	Title, Description string
	Unit               string
	Queries            []Query
	Width              int // of 24 columns, 8 if 0
	Look               look
}

// A Query is one expression of a panel and the legend of its series.
type Query struct{ Expr, Legend string }

// A look is how a panel draws its series.
type look int

const (
	lines look = iota
	stacked
	share    // lines between 0 and 1
	timeline // of states, 0 to 2
)

const (
	columns     = 24
	panelHeight = 8
)

type object = map[string]any

var source = object{"type": "prometheus", "uid": "${datasource}"}

// Dashboard returns dashboard.json.
func Dashboard() []byte {
	board := object{
		"uid": "resilience", "title": "Resilience", "tags": []string{"resilience"},
		"description":   "Breakers, retries, bulkheads, limits, timeouts and fallbacks. Each panel has a description; " + Page + " explains the metrics.",
		"schemaVersion": 39, "version": 1, "id": nil, "editable": true, "graphTooltip": 1, "fiscalYearStartMonth": 0,
		"links": []any{object{
			"type": "link", "title": "How to read it", "url": Page, "icon": "doc", "tooltip": "", "tags": []string{},
			"asDropdown": false, "targetBlank": true, "includeVars": false, "keepTime": false,
		}},
		"time": object{"from": "now-1h", "to": "now"}, "timepicker": object{}, "timezone": "", "weekStart": "", "refresh": "30s",
		"annotations": object{"list": []any{object{
			"builtIn": 1, "name": "Annotations & Alerts", "type": "dashboard", "enable": true, "hide": true,
			"iconColor": "rgba(0, 211, 255, 1)", "datasource": object{"type": "grafana", "uid": "-- Grafana --"},
		}}},
		"templating": object{"list": variables()},
		"panels":     layout(Rows()),
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(board); err != nil {
		panic(err) // unreachable: all values can be encoded
	}
	return b.Bytes()
}

func variables() []any {
	all := `{__name__=~"` + series.Prefix + `.+"`
	return []any{
		object{
			"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "regex": "",
			"current": object{}, "hide": 0, "includeAll": false, "multi": false, "options": []any{}, "refresh": 1, "skipUrlSync": false,
		},
		variable("job", "Job", all+"}"),
		variable("instance", "Instance", all+`,job=~"$job"}`),
		variable(series.NameLabel, "Name", all+`,job=~"$job",instance=~"$instance"}`),
	}
}

// variable returns a variable for the values of a label. "All" is ".*", which also matches
// series without the label.
func variable(label, title, selector string) object {
	query := "label_values(" + selector + ", " + label + ")"
	return object{
		"name": label, "label": title, "type": "query", "datasource": source,
		"definition": query, "query": object{"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
		"includeAll": true, "allValue": ".*", "multi": true, "current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		"hide": 0, "options": []any{}, "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1,
	}
}

// layout places the panels from left to right, in lines of 24 columns.
func layout(rows []Row) (panels []any) {
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, row := range rows {
		panels = append(panels, object{
			"id": next(), "type": "row", "title": row.Title, "collapsed": false, "panels": []any{},
			"gridPos": object{"x": 0, "y": y, "w": columns, "h": 1},
		})
		y++
		x := 0
		for _, p := range row.Panels {
			w := p.Width
			if w == 0 {
				w = columns / 3
			}
			if x+w > columns {
				x, y = 0, y+panelHeight
			}
			o := p.object()
			o["id"] = next()
			o["gridPos"] = object{"x": x, "y": y, "w": w, "h": panelHeight}
			panels = append(panels, o)
			x += w
		}
		y += panelHeight
	}
	return panels
}

func (p *Panel) object() object {
	o := object{
		"type": "timeseries", "title": p.Title, "description": p.Description, "datasource": source, "targets": p.targets(),
		"fieldConfig": object{"defaults": p.defaults(), "overrides": []any{}},
		"options": object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
	if p.Look == timeline {
		o["type"] = "state-timeline"
		o["options"] = object{
			"alignValue": "left", "mergeValues": true, "rowHeight": 0.9, "showValue": "never",
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": object{"mode": "single", "sort": "none"},
		}
	}
	return o
}

func (p *Panel) targets() (targets []any) {
	for i, q := range p.Queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source, "expr": q.Expr, "legendFormat": q.Legend, "editorMode": "code", "range": true,
		})
	}
	return targets
}

func (p *Panel) defaults() object {
	custom := object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": false}
	d := object{"unit": p.Unit, "min": 0, "custom": custom, "color": object{"mode": "palette-classic"}, "mappings": []any{}}
	switch p.Look {
	case stacked:
		custom["fillOpacity"] = 30
		custom["stacking"] = object{"mode": "normal", "group": "A"}
	case share:
		d["max"] = 1
	case timeline:
		d["custom"] = object{"fillOpacity": 80, "lineWidth": 0}
		options := object{}
		for i, s := range []struct{ text, color string }{{"closed", "green"}, {"half open", "yellow"}, {"open", "red"}} {
			options[fmt.Sprint(i)] = object{"text": s.text, "color": s.color, "index": i}
		}
		d["mappings"] = []any{object{"type": "value", "options": options}}
		d["color"] = object{"mode": "thresholds"}
		d["thresholds"] = object{"mode": "absolute", "steps": []any{
			object{"color": "green", "value": nil}, object{"color": "yellow", "value": 1}, object{"color": "red", "value": 2},
		}}
	case lines:
	}
	return d
}
