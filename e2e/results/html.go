package results

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed report.html.tmpl
var reportTemplate string

//go:embed report.css
var reportStyle string

//go:embed report.js
var reportScript string

var reportHTML = template.Must(template.New("report").Parse(reportTemplate))

// HTMLOptions say what an HTML report has besides its run.
type HTMLOptions struct {
	// Files lists the names of the files in a folder of artefacts, which is
	// given as the run has it; nil for links to the folders only.
	Files func(folder string) []string
}

// HTML writes a run as one page that needs nothing besides: no other file, no
// network, no script even, except to filter and to search. The page forbids
// itself, by a Content-Security-Policy, to load or to run anything else.
func HTML(w io.Writer, run *Run, o HTMLOptions) error {
	p := newPage(run, o)
	var b bytes.Buffer
	if err := reportHTML.Execute(&b, p); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// page is what the template shows.
type page struct {
	Policy        string
	Style, Script template.HTML
	Name          string
	Holds         bool
	Verdict       string
	Simulated     bool
	Tiles         []tile
	Facts         []fact
	Parts         []partView
	Attention     []*cellView // what did not pass at once
	NotRun        []string
	Groups        []groupView
	Inputs        []inputView
	Count         int
}

type tile struct {
	Status
	look
	Count int
}

type fact struct {
	Label, Value string
	Code         bool
}

type partView struct {
	Shard, Started, Host string
	Cells                int
}

type groupView struct {
	Name   string
	Anchor string
	Grid   grid
	Cells  []*cellView
	Totals string
	Open   bool // its list of cells
}

// At is a cell of the grid.
func (g groupView) At(i int) *cellView { return g.Cells[i] }

type cellView struct {
	Cell
	look
	Anchor   string
	Open     bool
	Took     string
	Found    string
	Ended    string
	Digests  []digestView
	Stages   []bar
	Steps    []bar
	Files    []link
	Attempts []attemptView
}

// digestView is a digest with everything that has it.
type digestView struct {
	Names string // "computed, launched and reported"
	Hex   string
	Other bool // it is not the one that was computed
}

// bar is a stretch of time, in percent of the cell's.
type bar struct {
	Name          string
	Start, Length string
	Took          string
	look
	Status  Status // of a step
	Message string
	Hint    string
}

type link struct{ Name, URL string }

type attemptView struct {
	Attempt
	Took  string
	Files []link
}

type inputView struct {
	Name, SHA256 string
	Cells        int
}

// openCells is how many cells that did not pass are shown with all details from
// the start, and openGroup how many cells a run may have for its lists to be
// open. Beyond that the page would be long rather than telling.
const (
	openCells = 10
	openGroup = 60
)

func newPage(run *Run, o HTMLOptions) *page {
	h, t := run.Header, run.Totals()
	p := &page{
		Style:  template.HTML("<style>" + reportStyle + "</style>"),    //nolint:gosec // embedded, not input
		Script: template.HTML("<script>" + reportScript + "</script>"), //nolint:gosec // embedded, not input
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", source(reportStyle), source(reportScript)),
		Name:   h.Matrix, Holds: t.Holds(), Simulated: run.simulated(), NotRun: run.NotRun(), Count: len(run.Cells), Facts: facts(run),
	}
	p.Verdict = fmt.Sprintf("All %d cells did what is expected of them", len(run.Cells))
	if bad := t.Failed + t.Errored + t.NotRun; bad > 0 {
		p.Verdict = fmt.Sprintf("%d of %d cells did not do what is expected of them", bad, h.Planned)
	}
	for _, s := range statuses {
		if n := t.Of(s); n > 0 {
			p.Tiles = append(p.Tiles, tile{s, looks[s], n})
		}
	}
	for _, s := range h.Shards {
		p.Parts = append(p.Parts, partView{name(s.Shard), when(s.Started), hostLine(s.Host), s.Cells})
	}
	inputs := map[Input]int{}
	n := 0
	for gi, g := range run.groups() {
		v := groupView{Name: g.name, Anchor: fmt.Sprintf("g%d", gi+1), Grid: newGrid(g.cells), Open: len(run.Cells) <= openGroup}
		var gt Totals
		for _, c := range g.cells {
			n++
			cv := newCellView(c, fmt.Sprintf("c%d", n), o)
			gt.Count(c.Status)
			v.Cells = append(v.Cells, cv)
			if c.Status == Failed || c.Status == Errored || c.Status == Flaky {
				p.Attention = append(p.Attention, cv)
			}
			for _, in := range c.Inputs {
				inputs[in]++
			}
		}
		v.Totals = gt.String()
		p.Groups = append(p.Groups, v)
	}
	slices.SortStableFunc(p.Attention, func(a, b *cellView) int {
		return cmp.Compare(slices.Index(statuses, a.Status), slices.Index(statuses, b.Status))
	})
	if t.Failed+t.Errored <= openCells {
		for _, c := range p.Attention {
			c.Open = c.Status != Flaky
		}
		for i := range p.Groups {
			p.Groups[i].Open = p.Groups[i].Open || slices.ContainsFunc(p.Groups[i].Cells, func(c *cellView) bool { return c.Open })
		}
	}
	for in, cells := range inputs {
		p.Inputs = append(p.Inputs, inputView{in.Name, in.SHA256, cells})
	}
	slices.SortFunc(p.Inputs, func(a, b inputView) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Cells, a.Cells), cmp.Compare(a.SHA256, b.SHA256))
	})
	return p
}

// source names an embedded script or style in a Content-Security-Policy.
func source(text string) string {
	h := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(h[:])
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func hostLine(h Host) string {
	if h == (Host{}) {
		return ""
	}
	return fmt.Sprintf("Linux %s, %s, %d CPUs", h.Kernel, h.CPU, h.CPUs)
}

func facts(run *Run) []fact {
	h := run.Header
	out := []fact{
		{"Started", when(h.Started), false},
		{"Took", "", false},
		{"Shard", h.Shard, false},
		{"Host", hostLine(h.Host), false},
		{"snplaunch", h.Tool, false},
		{"Matrix", cmp.Or(h.MatrixFile, h.Matrix), false},
		{"SHA-256 of the matrix", h.MatrixSum, true},
	}
	if d := run.took(); d > 0 {
		out[1].Value = about(d)
	}
	return slices.DeleteFunc(out, func(f fact) bool { return f.Value == "" })
}

func newCellView(c Cell, anchor string, o HTMLOptions) *cellView {
	v := &cellView{Cell: c, look: looks[c.Status], Anchor: anchor, Took: took(c.DurationMS), Found: c.Message, Ended: c.ended()}
	if c.Status == Flaky && c.Message == "" && len(c.Attempts) > 0 {
		v.Found = fmt.Sprintf("passed at attempt %d; before: %s", len(c.Attempts)+1, c.Attempts[len(c.Attempts)-1].Message)
	}
	for _, d := range c.digests() {
		i := slices.IndexFunc(v.Digests, func(o digestView) bool { return o.Hex == d.Hex })
		if i < 0 {
			v.Digests = append(v.Digests, digestView{d.Name, d.Hex, d.Other})
			continue
		}
		v.Digests[i].Names = strings.ReplaceAll(v.Digests[i].Names, " and ", ", ") + " and " + d.Name
	}
	end := c.DurationMS
	for _, s := range c.Stages {
		end = max(end, s.EndMS)
	}
	for _, s := range c.Steps {
		end = max(end, s.EndMS)
	}
	for _, s := range c.Stages {
		v.Stages = append(v.Stages, newBar(s.Name, s.StartMS, s.EndMS, end))
	}
	for _, s := range c.Steps {
		b := newBar(s.Name, s.StartMS, s.EndMS, end)
		b.Status, b.look, b.Message, b.Hint = s.Status, looks[s.Status], s.Message, s.Hint
		v.Steps = append(v.Steps, b)
	}
	if c.DurationMS == 0 { // it was not run
		v.Took = ""
	}
	v.Files = links(c.Artefacts, o)
	for _, a := range c.Attempts {
		v.Attempts = append(v.Attempts, attemptView{a, took(a.DurationMS), links(a.Artefacts, o)})
	}
	return v
}

func took(ms int64) string { return about(time.Duration(ms) * time.Millisecond) }

// newBar never makes a bar so short that it is not seen.
func newBar(name string, start, end, whole int64) bar {
	const shortest = 0.6
	at, long := 0.0, 100.0
	if whole > 0 {
		at, long = 100*float64(start)/float64(whole), 100*float64(end-start)/float64(whole)
	}
	long = max(long, shortest)
	at = min(at, 100-long)
	return bar{Name: name, Start: fmt.Sprintf("%.2f%%", at), Length: fmt.Sprintf("%.2f%%", long), Took: took(end - start)}
}

// links lead to a folder of artefacts and to what is in it. They begin with ./,
// so that no folder's name is taken for a scheme.
func links(folder string, o HTMLOptions) []link {
	if folder == "" {
		return nil
	}
	base := "./"
	for _, part := range strings.Split(filepath.ToSlash(folder), "/") {
		base += url.PathEscape(part) + "/"
	}
	out := []link{{folder + "/", base}}
	if o.Files != nil {
		for _, f := range o.Files(folder) {
			out = append(out, link{f, base + url.PathEscape(f)})
		}
	}
	return out
}
