package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// When a progress bar appears, and how often it changes.
const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// progress is a bar for work that takes long enough to need one. A nil progress
// shows nothing.
type progress struct {
	w     io.Writer
	what  string
	total int
	start time.Time
	next  time.Time // when to draw again
	drawn bool
}

// progressBar gives a bar on a terminal, and none elsewhere. Where the answer
// goes to a terminal, it shows by itself how far it is.
func (e *env) progressBar(what string, total int) *progress {
	if !isTerminal(e.stderr) || isTerminal(e.stdout) {
		return nil
	}
	return newProgress(e.stderr, what, total, time.Now())
}

func newProgress(w io.Writer, what string, total int, now time.Time) *progress {
	return &progress{w: w, what: what, total: total, start: now, next: now.Add(progressAfter)}
}

// at draws the bar anew when it is time to.
func (p *progress) at(done int, now time.Time) {
	if p == nil || now.Before(p.next) {
		return
	}
	p.next, p.drawn = now.Add(progressEvery), true
	const width = 30
	full := width * done / p.total
	left := "?"
	if done > 0 {
		rest := now.Sub(p.start).Seconds() * float64(p.total-done) / float64(done)
		left = fmt.Sprintf("%.0f s", rest)
	}
	fmt.Fprintf(p.w, "\r\x1b[K[%s%s] %d of %d %s, %s left", strings.Repeat("#", full), strings.Repeat(".", width-full), done, p.total, p.what, left)
}

// end takes the bar away.
func (p *progress) end() {
	if p != nil && p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
