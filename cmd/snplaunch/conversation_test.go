package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The moving line is drawn where it has changed, and is gone before the guest's command
// has the terminal.
func TestMovingLine(t *testing.T) {
	var screen bytes.Buffer
	c := newConversation(&env{stderr: &screen}, false, false)
	at := func(after time.Duration) { c.draw(c.since.Add(after)) }
	c.began("boot")
	at(progressAfter)
	at(2 * time.Second)
	at(2100 * time.Millisecond)
	at(3 * time.Second)
	c.began("command")
	screen.WriteString("out of the guest")
	at(4 * time.Second)
	at(5 * time.Second)
	screen.WriteString(" and more\n")
	c.end()
	const line = "\r\x1b[K"
	want := line + "booting the guest… 2 s" + line + "booting the guest… 3 s" + line + "out of the guest and more\n"
	if got := screen.String(); got != want {
		t.Errorf("on the screen is\n%q, want\n%q", got, want)
	}
}

// A line moves and text is dim on a terminal only, and not on each of them.
func TestTerminals(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		name          string
		to            *os.File
		console       bool
		term, noColor string
		moving, dim   bool
	}{
		{"a terminal", terminal, false, "xterm", "", true, true},
		{"one that shows the console", terminal, true, "xterm", "", false, true},
		{"a dumb one", terminal, false, "dumb", "", false, false},
		{"one without colours", terminal, false, "xterm", "1", true, false},
		{"a file", file, false, "xterm", "", false, false},
	} {
		t.Setenv("TERM", c.term)
		t.Setenv("NO_COLOR", c.noColor)
		e := &env{stderr: c.to}
		talk := newConversation(e, c.console, false)
		talk.end()
		if talk.moving != c.moving {
			t.Errorf("%s: a line moves: %t", c.name, talk.moving)
		}
		if dim := e.dim(c.to)("x") != "x"; dim != c.dim {
			t.Errorf("%s: text is dim: %t", c.name, dim)
		}
	}
}
