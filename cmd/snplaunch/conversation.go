package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/launcher"
)

// dim gives a function that makes text less prominent: on a terminal, unless NO_COLOR
// says otherwise (no-color.org).
func (e *env) dim(w io.Writer) func(string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !isTerminal(w) {
		return func(s string) string { return s }
	}
	return func(s string) string { return "\x1b[2m" + s + "\x1b[0m" }
}

// conversation is what run says on stderr beside the guest's console: what is being
// done, and on a terminal that shows no console a line that moves while it is.
type conversation struct {
	w       io.Writer
	verbose bool
	moving  bool // whether there is such a line

	mu    sync.Mutex
	stage string
	since time.Time
	drawn string // the line that stands there
	tick  *time.Ticker
	quit  chan struct{}
	done  sync.WaitGroup
}

func newConversation(e *env, consoleShown, verbose bool) *conversation {
	c := &conversation{w: e.stderr, verbose: verbose, quit: make(chan struct{})}
	if c.moving = !consoleShown && isTerminal(e.stderr) && os.Getenv("TERM") != "dumb"; c.moving {
		c.tick = time.NewTicker(progressEvery)
		c.done.Go(c.move)
	}
	return c
}

// stageWords say what is being done in a stage. While the guest's command runs the terminal
// is the command's, which writes to it as it likes.
var stageWords = map[string]string{
	"launch": "launching", "boot": "booting the guest", "attest": "waiting for the report",
}

func (c *conversation) move() {
	for {
		select {
		case <-c.quit:
			return
		case now := <-c.tick.C:
			c.draw(now)
		}
	}
}

// draw shows the moving line, where there is one and it is another than the one that
// stands there.
func (c *conversation) draw(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := now.Sub(c.since)
	words := stageWords[c.stage]
	if words == "" || took <= progressAfter {
		return
	}
	if line := fmt.Sprintf("%s… %.0f s", words, took.Seconds()); line != c.drawn {
		fmt.Fprint(c.w, "\r\x1b[K"+line)
		c.drawn = line
	}
}

// clear takes the moving line away; the lock is held.
func (c *conversation) clear() {
	if c.drawn != "" {
		fmt.Fprint(c.w, "\r\x1b[K")
		c.drawn = ""
	}
}

func (c *conversation) say(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	fmt.Fprintln(c.w, "snplaunch: "+s)
}

func (c *conversation) began(stage string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	c.stage, c.since = stage, time.Now()
}

func (c *conversation) ended(s launcher.Stage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	if s.Name == c.stage {
		c.stage = ""
	}
	if c.verbose {
		fmt.Fprintf(c.w, "snplaunch: %-8s %7.3f s\n", s.Name, float64(s.EndMS-s.StartMS)/1000)
	}
}

// end takes the moving line away for good.
func (c *conversation) end() {
	if c.moving {
		close(c.quit)
		c.done.Wait()
		c.tick.Stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}
