package results

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// redrawEvery is how often a Terminal changes.
const redrawEvery = 200 * time.Millisecond

// Terminal shows on a terminal how a run proceeds: a line for each cell that is
// running, below them the totals and the time left. What did not pass is printed
// above and stays. It is a Sink.
type Terminal struct {
	w      io.Writer
	size   func() (columns, rows int)
	colour bool

	mu      sync.Mutex
	began   time.Time
	costs   map[string]int64 // in ms, of cells that have not ended
	total   int
	whole   int64 // the sum of all costs
	totals  Totals
	ended   int
	running []*runningCell // in the order in which they began
	above   []string       // lines that are to be printed above
	drawn   []int          // columns of each line on the screen that will be drawn anew

	quit chan struct{}
	done sync.WaitGroup
}

// runningCell is a cell as it was heard of: the run's own changes meanwhile.
type runningCell struct {
	id, step string
	started  time.Time
	cost     int64
}

// NewTerminal begins with nothing on the screen. The size is asked for each time
// that something is drawn, so that the window may be resized.
func NewTerminal(w io.Writer, size func() (columns, rows int), colour bool) *Terminal {
	return &Terminal{w: w, size: size, colour: colour, costs: map[string]int64{}}
}

// Begin implements Sink.
func (t *Terminal) Begin(h Header, cells []Queued) {
	t.begin(time.Now(), h, cells)
	t.quit = make(chan struct{})
	t.done.Go(func() {
		tick := time.NewTicker(redrawEvery)
		defer tick.Stop()
		for {
			select {
			case <-t.quit:
				return
			case now := <-tick.C:
				t.draw(now)
			}
		}
	})
}

func (t *Terminal) begin(now time.Time, h Header, cells []Queued) {
	t.began, t.total = now, len(cells)
	for _, c := range cells {
		t.costs[c.ID] = max(c.CostMS, 1)
		t.whole += t.costs[c.ID]
	}
	t.above = append(t.above, fmt.Sprintf("snplaunch: %s: %d cells", oneLine(h.Matrix), t.total))
}

// Start implements Sink.
func (t *Terminal) Start(c *Cell) { t.start(time.Now(), c) }

func (t *Terminal) start(now time.Time, c *Cell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = append(t.running, &runningCell{id: c.ID, started: now, cost: t.costs[c.ID]})
}

// Step implements Sink.
func (t *Terminal) Step(c *Cell, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.running {
		if r.id == c.ID {
			r.step = name
		}
	}
}

// End implements Sink.
func (t *Terminal) End(c *Cell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, r := range t.running {
		if r.id == c.ID {
			t.running = append(t.running[:i], t.running[i+1:]...)
			break
		}
	}
	delete(t.costs, c.ID)
	t.ended++
	t.totals.Count(c.Status)
	if c.Status == Passed {
		return
	}
	line := looks[c.Status].Symbol + " " + oneLine(c.ID)
	if c.Message != "" {
		line += ": " + oneLine(c.Message)
	}
	t.above = append(t.above, t.paint(c.Status, line))
}

// paint colours a line by how a cell ended.
func (t *Terminal) paint(s Status, line string) string {
	code := map[Status]string{Failed: "31", Errored: "31", Flaky: "33", Skipped: "2"}[s]
	if !t.colour || code == "" {
		return line
	}
	return "\x1b[" + code + "m" + line + "\x1b[0m"
}

// Close implements Sink: it leaves on the screen what stays.
func (t *Terminal) Close() {
	if t.quit != nil {
		close(t.quit)
		t.done.Wait()
	}
	t.mu.Lock()
	t.running, t.total = nil, 0
	t.mu.Unlock()
	t.draw(time.Now())
}

// draw writes without the lock, so that a terminal which is held (Ctrl-S)
// holds up no cell. Only one goroutine draws.
func (t *Terminal) draw(now time.Time) {
	columns, rows := t.size()
	t.mu.Lock()
	s := t.frame(now, columns, rows)
	t.mu.Unlock()
	io.WriteString(t.w, s) // a terminal that is gone is told by the run's end
}

// frame gives what takes the screen from what was drawn last to what is so now;
// the lock is held.
func (t *Terminal) frame(now time.Time, columns, rows int) string {
	// The last column stays free: a cursor behind it is where terminals differ.
	width := max(columns-1, 1)
	var b strings.Builder
	if len(t.drawn) > 0 {
		// A narrower window has broken the lines that were drawn for a wider one.
		up := 0
		for _, long := range t.drawn {
			up += max(1, (long+max(columns, 1)-1)/max(columns, 1))
		}
		fmt.Fprintf(&b, "\r\x1b[%dA", min(up, max(rows-1, 1)))
	}
	b.WriteString("\r\x1b[J")
	for _, line := range t.above {
		b.WriteString(line + "\n")
	}
	t.above, t.drawn = nil, nil
	lines := t.lines(now, width, rows)
	for _, line := range lines {
		t.drawn = append(t.drawn, columnsOf(line))
		b.WriteString(line + "\n")
	}
	return b.String()
}

// lines are those that will be drawn anew: running cells, as many as there is
// room for, and the totals.
func (t *Terminal) lines(now time.Time, width, rows int) []string {
	if t.total == 0 {
		return nil
	}
	var out []string
	room := max(rows-3, 1) // of the cursor's line, the totals, and what is above
	for i, r := range t.running {
		if i == room-1 && len(t.running) > room {
			out = append(out, fit(fmt.Sprintf("        … and %d more", len(t.running)-i), width))
			break
		}
		out = append(out, fit(fmt.Sprintf("%6s  %-9s %s", clock(now.Sub(r.started)), fit(oneLine(r.step), 9), oneLine(r.id)), width))
	}
	count := fmt.Sprintf("%d of %d", t.ended, t.total)
	if left, ok := t.left(now); ok && t.ended < t.total {
		count += ", " + clock(left) + " left"
	}
	if t.ended > 0 {
		count += "; " + t.totals.String()
	}
	const bar = 20
	if columnsOf(count)+bar+3 <= width {
		full := bar * t.ended / max(t.total, 1)
		count = "[" + strings.Repeat("#", full) + strings.Repeat(".", bar-full) + "] " + count
	}
	return append(out, fit(count, width))
}

// left is the time that the rest takes, if cells go on taking what they were
// thought to in the proportion in which they have, as many at a time.
func (t *Terminal) left(now time.Time) (time.Duration, bool) {
	rest := int64(0)
	for _, cost := range t.costs {
		rest += cost
	}
	for _, r := range t.running {
		rest -= min(now.Sub(r.started).Milliseconds(), r.cost)
	}
	did, took := t.whole-rest, now.Sub(t.began)
	if did <= 0 || took < time.Second {
		return 0, false
	}
	return max(time.Duration(float64(took)*float64(rest)/float64(did)), time.Second), true
}

// clock is a time as 1:05 or 1:00:05.
func clock(d time.Duration) string {
	s := max(int(d.Seconds()), 0)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
