package results

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxLine bounds a line, in bytes: a header with the plan of a hundred thousand
// cells, or a cell with all its messages, is shorter.
const maxLine = 16 << 20

// ErrNoHeader is a file whose writer was killed before it had written its first
// line: nothing was run, and it may be begun anew.
var ErrNoHeader = errors.New("there is no header, so nothing was run; remove the file and run the matrix again")

// ReadFile reads a file of results, see Read.
func ReadFile(path string) (*Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	defer f.Close()
	run, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

// Read reads a file of results. It is strict: a field that it does not know, a
// cell that was not planned or that is there twice, a word that is no status
// are errors that name the line. The one thing forgiven is a last line that
// breaks off, see Run.Cut.
func Read(r io.Reader) (*Run, error) {
	run, _, err := read(r)
	return run, err
}

// read also gives the length of the whole lines.
func read(r io.Reader) (*Run, int64, error) {
	in := bufio.NewReader(r)
	run := &Run{}
	var whole int64
	planned := map[string]bool{} // of this shard: whether the cell was seen
	for n := 1; ; n++ {
		line, err := readLine(in)
		switch {
		case errors.Is(err, io.EOF) && n == 1:
			return nil, 0, ErrNoHeader
		case errors.Is(err, io.EOF):
			return run, whole, nil
		case err != nil:
			return nil, 0, fmt.Errorf("line %d: %w", n, err)
		}
		// No beginning of a JSON object is one itself: what breaks off cannot
		// be taken for a whole line, and what is whole lacks but the newline.
		ended := line[len(line)-1] == '\n'
		if !ended && !json.Valid(line) {
			if n == 1 {
				return nil, 0, ErrNoHeader
			}
			run.Cut = len(line)
			return run, whole, nil
		}
		if n == 1 {
			err = readHeader(line, &run.Header, planned)
		} else {
			run.Cells = append(run.Cells, Cell{})
			err = readCell(line, &run.Cells[len(run.Cells)-1], planned)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", n, err)
		}
		whole += int64(len(line))
	}
}

// readLine reads up to and with a newline, or the end; io.EOF comes alone.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("longer than %d bytes, so these are no results", maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0, err == nil:
			return line, nil
		default:
			return nil, err
		}
	}
}

func readHeader(line []byte, h *Header, planned map[string]bool) error {
	// The version first: a newer file may have fields that this reader does
	// not know, which is not what is wrong with it.
	var version struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(line, &version); err != nil || version.Format == nil {
		return errors.New(`this is no header of a file of results ({"format":…)`)
	}
	switch v := *version.Format; {
	case v > FormatVersion:
		return fmt.Errorf("the file has format %d, this snplaunch reads up to %d: use the snplaunch that wrote it, or a newer one", v, FormatVersion)
	case v < 1:
		return fmt.Errorf("there is no format %d", v)
	}
	if err := strict(line, h); err != nil {
		return err
	}
	own, of, err := h.shard()
	if err != nil {
		return err
	}
	count := 0
	all := map[string]bool{}
	for _, p := range h.Plan {
		switch {
		case p.ID == "":
			return errors.New("the plan has a cell without an id")
		case all[p.ID]:
			return fmt.Errorf("the plan has cell %s twice", p.ID)
		case p.Shard < 0 || p.Shard > of || (p.Shard == 0) != (of == 0):
			return fmt.Errorf("cell %s is planned for shard %d of %d", p.ID, p.Shard, of)
		}
		all[p.ID] = true
		if p.Shard == own {
			planned[p.ID] = false
			count++
		}
	}
	if count != h.Planned {
		return fmt.Errorf("%d cells are said to be planned, the plan lists %d", h.Planned, count)
	}
	return nil
}

// shard is the number of this shard and of all, 0 and 0 for a run that is not divided.
func (h *Header) shard() (own, of int, err error) {
	if h.Shard == "" {
		return 0, 0, nil
	}
	a, b, found := strings.Cut(h.Shard, "/")
	own, errA := strconv.Atoi(a)
	of, errB := strconv.Atoi(b)
	if !found || errA != nil || errB != nil || own < 1 || own > of || h.Shard != fmt.Sprintf("%d/%d", own, of) {
		return 0, 0, fmt.Errorf("shard %q is not of the form 3/8", h.Shard)
	}
	return own, of, nil
}

func readCell(line []byte, c *Cell, planned map[string]bool) error {
	if err := strict(line, c); err != nil {
		return err
	}
	seen, known := planned[c.ID]
	switch {
	case c.ID == "":
		return errors.New("a cell without an id")
	case !known:
		return fmt.Errorf("cell %s is not in the plan", c.ID)
	case seen:
		return fmt.Errorf("cell %s is there twice", c.ID)
	}
	planned[c.ID] = true
	if err := c.check(); err != nil {
		return fmt.Errorf("cell %s: %w", c.ID, err)
	}
	return nil
}

// check says what no run can have found.
func (c *Cell) check() error {
	if !slices.Contains(statuses, c.Status) {
		return fmt.Errorf("%q is no status (%s)", c.Status, list(statuses))
	}
	if c.Depth != LaunchOnly && c.Depth != Full {
		return fmt.Errorf("%q is no depth (%s, %s)", c.Depth, LaunchOnly, Full)
	}
	if c.DurationMS < 0 {
		return fmt.Errorf("it took %d ms", c.DurationMS)
	}
	for _, s := range c.Stages {
		if s.StartMS < 0 || s.EndMS < s.StartMS {
			return fmt.Errorf("stage %s goes from %d to %d ms", s.Name, s.StartMS, s.EndMS)
		}
	}
	for _, s := range c.Steps {
		if !slices.Contains(statuses, s.Status) {
			return fmt.Errorf("step %s: %q is no status (%s)", s.Name, s.Status, list(statuses))
		}
		if s.StartMS < 0 || s.EndMS < s.StartMS {
			return fmt.Errorf("step %s goes from %d to %d ms", s.Name, s.StartMS, s.EndMS)
		}
	}
	folders := []string{c.Artefacts}
	for _, a := range c.Attempts {
		folders = append(folders, a.Artefacts)
		if a.DurationMS < 0 {
			return fmt.Errorf("an attempt took %d ms", a.DurationMS)
		}
	}
	for _, f := range folders {
		if filepath.IsAbs(f) || strings.ContainsRune(f, 0) {
			return fmt.Errorf("its artefacts %q do not lie relative to the file of results", f)
		}
	}
	return nil
}

// strict decodes one JSON object whose fields are all known.
func strict(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON object")
	}
	return nil
}

func list[T ~string](words []T) string {
	var s []string
	for _, w := range words {
		s = append(s, string(w))
	}
	return strings.Join(s, ", ")
}
