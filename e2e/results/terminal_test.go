package results

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// screen is a terminal of so many columns, with as many rows as are wanted. It
// breaks long lines, and breaks them anew when it is resized, as most do.
type screen struct {
	t       *testing.T
	columns int
	rows    []screenRow
	x, y    int
}

type screenRow struct {
	text   []rune // of a column each; 0 is the second half of a wide one
	goesOn bool   // into the next row: it is one line with that
}

func (s *screen) row() *screenRow {
	for len(s.rows) <= s.y {
		s.rows = append(s.rows, screenRow{})
	}
	return &s.rows[s.y]
}

func (s *screen) put(r rune) {
	if s.x+columns(r) > s.columns {
		s.row().goesOn = true
		s.y, s.x = s.y+1, 0
	}
	row := s.row()
	for range columns(r) {
		if s.x < len(row.text) {
			row.text[s.x] = r
		} else {
			row.text = append(row.text, r)
		}
		s.x, r = s.x+1, 0
	}
}

// Write obeys what Terminal uses, and fails the test for whatever else would be obeyed.
func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		var n int
		switch {
		case strings.HasPrefix(text, "\x1b[J"):
			s.row().text = s.row().text[:min(s.x, len(s.row().text))]
			s.row().goesOn = false
			s.rows, text = s.rows[:s.y+1], text[3:]
			continue
		case strings.HasPrefix(text, "\x1b[") && strings.IndexByte(text, 'A') > 0:
			if _, err := fmt.Sscanf(text, "\x1b[%dA", &n); err == nil {
				if s.y -= n; s.y < 0 {
					s.t.Errorf("goes %d rows above what was ever written", -s.y)
					s.y = 0
				}
				text = text[strings.IndexByte(text, 'A')+1:]
				continue
			}
		}
		if m := strings.IndexByte(text, 'm'); strings.HasPrefix(text, "\x1b[") && m > 0 && strings.Trim(text[2:m], "0123456789;") == "" {
			text = text[m+1:]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch {
		case r == '\r':
			s.x = 0
		case r == '\n':
			s.y, s.x = s.y+1, 0
			s.row()
		case printable(r) != r:
			s.t.Errorf("%q came to the terminal", r)
		default:
			s.put(r)
		}
	}
	return len(p), nil
}

func (s *screen) resize(columns int) {
	old := s.rows
	s.rows, s.columns, s.x, s.y = nil, columns, 0, 0
	for i, row := range old {
		for _, r := range row.text {
			if r != 0 {
				s.put(r)
			}
		}
		if !row.goesOn && i < len(old)-1 {
			s.y, s.x = s.y+1, 0
			s.row()
		}
	}
}

func (s *screen) String() string {
	var b strings.Builder
	for _, row := range s.rows {
		b.WriteString(strings.ReplaceAll(string(row.text), "\x00", "") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// show is a Terminal on a screen, with a clock that the test moves.
type show struct {
	*screen
	*Terminal
	now  time.Time
	tall int
}

func newShow(t *testing.T, columns int, cells ...Queued) *show {
	s := &show{screen: &screen{t: t, columns: columns}, now: time.Unix(1_000_000_000, 0), tall: 24}
	s.Terminal = NewTerminal(s.screen, func() (int, int) { return s.columns, s.tall }, true)
	s.begin(s.now, Header{Matrix: "smoke"}, cells)
	return s
}

func (s *show) after(d time.Duration) string {
	s.now = s.now.Add(d)
	s.draw(s.now)
	return s.screen.String()
}

func (s *show) starts(id string) *Cell {
	c := &Cell{ID: id}
	s.start(s.now, c)
	return c
}

func four() (cells []Queued) {
	for _, id := range []string{"boot/vcpus=1", "boot/vcpus=2", "direct/vcpus=1", "direct/vcpus=2"} {
		cells = append(cells, Queued{ID: id, CostMS: 10_000})
	}
	return cells
}

func wants(t *testing.T, got, want string) {
	t.Helper()
	if got != strings.TrimPrefix(want, "\n") {
		t.Errorf("the screen shows\n%s\nwant%s", got, want)
	}
}

func TestTerminal(t *testing.T) {
	s := newShow(t, 80, four()...)
	a, b := s.starts("boot/vcpus=1"), s.starts("boot/vcpus=2")
	s.Step(a, "boot")
	wants(t, s.after(5*time.Second), `
snplaunch: smoke: 4 cells
  0:05  boot      boot/vcpus=1
  0:05            boot/vcpus=2
[....................] 0 of 4, 0:15 left
`)
	a.Status, b.Status, b.Message = Passed, Failed, "launch-failed: SNP_LAUNCH_FINISH fw_error=11"
	s.End(a)
	s.Step(b, "attest")
	c := s.starts("direct/vcpus=1")
	wants(t, s.after(5*time.Second), `
snplaunch: smoke: 4 cells
  0:10  attest    boot/vcpus=2
  0:05            direct/vcpus=1
[#####...............] 1 of 4, 0:06 left; 1 passed
`)
	s.End(b)
	c.Status = Passed
	s.End(c)
	d := s.starts("direct/vcpus=2")
	wants(t, s.after(5*time.Second), `
snplaunch: smoke: 4 cells
✗ boot/vcpus=2: launch-failed: SNP_LAUNCH_FINISH fw_error=11
  0:05            direct/vcpus=2
[###############.....] 3 of 4, 0:02 left; 1 failed, 2 passed
`)
	d.Status = Passed
	s.End(d)
	s.Close()
	wants(t, s.screen.String(), `
snplaunch: smoke: 4 cells
✗ boot/vcpus=2: launch-failed: SNP_LAUNCH_FINISH fw_error=11
`)
}

func TestTerminalIsResized(t *testing.T) {
	s := newShow(t, 100, four()...)
	s.tall = 1000 // what has left the screen at its top stays as it is
	s.starts("boot/vcpus=1")
	failed := s.starts(strings.Repeat("long/", 16))
	s.after(time.Second)
	for _, columns := range []int{40, 17, 3, 60, 1, 200, 80} {
		s.resize(columns)
		text := s.after(time.Second)
		if strings.Count(text, "boot/v") > 1 || columns > 30 && strings.Count(text, " of 4") != 1 {
			t.Errorf("of %d columns, something of what was drawn before stays:\n%s", columns, text)
		}
		for i, row := range s.rows[1:] {
			if columns > 30 && (row.goesOn || len(row.text) >= columns) {
				t.Errorf("row %d fills all %d columns: %q", i, columns, string(row.text))
			}
		}
	}
	failed.Status, failed.Message = Errored, "no such file"
	s.End(failed)
	wants(t, s.after(time.Second), `
snplaunch: smoke: 4 cells
! `+strings.Repeat("long/", 15)+`lon
g/: no such file
  0:09            boot/vcpus=1
[#####...............] 1 of 4, 0:31 left; 1 could not be tried
`)
}

// Ids come from a matrix and messages from guests; both may have what a
// terminal obeys. The screen fails for that.
func TestTerminalShowsHostileText(t *testing.T) {
	s := newShow(t, 30, four()...)
	c := s.starts("boot/\x1b[2J\r\n\u202e機密機密機密機密機密機密機密")
	s.Step(c, "\x1b]0;x\a")
	text := s.after(time.Second)
	if !strings.Contains(text, "boot/\uFFFD[2J") || !strings.Contains(text, "…") {
		t.Errorf("the screen shows\n%s", text)
	}
	for _, row := range s.rows {
		if row.goesOn {
			t.Errorf("a line of wide characters is broken:\n%s", text)
		}
	}
	c.Status, c.Message = Failed, "\x1b[31mPASS\x1b[0m\x1b[9A\x9b2J"
	s.End(c)
	if text := s.after(time.Second); !strings.Contains(text, "PASS") {
		t.Errorf("the screen shows\n%s", text)
	}
}

func TestTerminalOfFewRows(t *testing.T) {
	s := newShow(t, 60, four()...)
	s.tall = 5
	for _, q := range four() {
		s.starts(q.ID)
	}
	wants(t, s.after(time.Second), `
snplaunch: smoke: 4 cells
  0:01            boot/vcpus=1
        … and 3 more
[....................] 0 of 4, 0:09 left
`)
}

func TestTerminalWithoutColour(t *testing.T) {
	for _, colour := range []bool{true, false} {
		var b bytes.Buffer
		s := NewTerminal(&b, func() (int, int) { return 80, 24 }, colour)
		s.begin(time.Unix(0, 0), Header{Matrix: "m"}, four())
		for _, status := range statuses {
			s.End(&Cell{ID: "x", Status: status})
		}
		s.draw(time.Unix(1, 0))
		if is := strings.Contains(b.String(), "m✗"); is != colour || strings.Contains(b.String(), "\x1b[0m") != colour {
			t.Errorf("colours asked for: %v, given: %q", colour, b.String())
		}
	}
}

// The display moves by itself while a cell runs.
func TestTerminalTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, columns: 80}
		d := NewTerminal(s, func() (int, int) { return 80, 24 }, true)
		d.Begin(Header{Matrix: "smoke"}, four())
		c := &Cell{ID: "boot/vcpus=1", Status: Passed}
		d.Start(c)
		time.Sleep(65*time.Second + redrawEvery/2)
		synctest.Wait()
		if !strings.Contains(s.String(), "  1:05  ") {
			t.Errorf("after 65 s the screen shows\n%s", s)
		}
		d.End(c)
		d.Close()
		wants(t, s.String(), "\nsnplaunch: smoke: 4 cells\n")
	})
}
