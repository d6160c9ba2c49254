package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/e2e/results"
)

// matrixProgress says on stderr how a run of a matrix proceeds: each cell that
// did not pass, and now and then how many have ended.
type matrixProgress struct {
	w      io.Writer
	total  int
	totals results.Totals
	ended  int
}

// newMatrixProgress gives a display that moves on a terminal, and plain lines elsewhere.
func newMatrixProgress(e *env) results.Sink {
	f, ok := e.stderr.(*os.File)
	if !ok || !isTerminal(f) || os.Getenv("TERM") == "dumb" {
		return &matrixProgress{w: e.stderr}
	}
	size := func() (columns, rows int) {
		if s, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && s.Col > 0 && s.Row > 0 {
			return int(s.Col), int(s.Row)
		}
		return 80, 24 // a serial line does not know
	}
	return results.NewTerminal(f, size, os.Getenv("NO_COLOR") == "")
}

func (p *matrixProgress) Begin(h results.Header, cells []results.Queued) {
	p.total = len(cells)
	fmt.Fprintf(p.w, "snplaunch: %s: %d cells\n", h.Matrix, p.total)
}

func (p *matrixProgress) Start(*results.Cell)        {}
func (p *matrixProgress) Step(*results.Cell, string) {}
func (p *matrixProgress) Close()                     {}

func (p *matrixProgress) End(c *results.Cell) {
	p.ended++
	p.totals.Count(c.Status)
	if c.Status != results.Passed {
		fmt.Fprintf(p.w, "snplaunch: %s: %s: %s\n", c.Status, c.ID, c.Message)
	}
	if p.ended%50 == 0 || p.ended == p.total {
		fmt.Fprintf(p.w, "snplaunch: %d of %d\n", p.ended, p.total)
	}
}
