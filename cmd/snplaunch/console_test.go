package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func plain(s string) string { return s }

func TestConsole(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"lines", "one\r\ntwo\n", "guest| one\nguest| two\n"},
		{"a screen that is cleared", "\x1b[2J\x1b[01;01Hone\n", "guest| one\n"},
		{"a line without an end", "one\ntwo", "guest| one\nguest| two\n"},
		{"control characters", "a\x07b\x00c\td\n", "guest| abc\td\n"},
		{"a line that is too long", strings.Repeat("x", consoleLine+1) + "\n", "guest| " + strings.Repeat("x", consoleLine) + "\nguest| x\n"},
	} {
		var out bytes.Buffer
		con := newConsole(&out, false, plain)
		if _, err := io.Copy(con, iotest.OneByteReader(strings.NewReader(c.in))); err != nil {
			t.Fatal(err)
		}
		con.finish()
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, &out, c.want)
		}
	}
}

// A line has the time of its first byte, however late its end comes.
func TestConsoleTimestamps(t *testing.T) {
	var out bytes.Buffer
	con := newConsole(&out, true, func(s string) string { return "<" + s + ">" })
	clock := con.start
	con.now = func() time.Time { return clock }
	for _, piece := range []struct {
		after time.Duration
		text  string
	}{{1500 * time.Millisecond, "be"}, {2 * time.Second, "gun\n"}, {12*time.Second + 5*time.Millisecond, "\nlate"}} {
		clock = con.start.Add(piece.after)
		io.WriteString(con, piece.text)
	}
	con.finish()
	if want := "<[    1.500] guest| >begun\n<[   12.005] guest| >\n<[   12.005] guest| >late\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}

func TestEscapeKey(t *testing.T) {
	for _, c := range []struct {
		typed, want string
		ends, helps bool
	}{
		{"ls\r\x03", "ls\r\x03", false, false},
		{"a\x1dcb", "ab", false, false},
		{"a\x1d\x1db", "a\x1db", false, false},
		{"a\x1d?b", "ab", false, true},
		{"a\x1dxb", "ab", false, true},
		{"a\x1dq", "a", true, false},
		{"\x1d", "", false, false},
	} {
		ended := false
		var help bytes.Buffer
		// One byte at a time, so that the keys come apart.
		got, err := io.ReadAll(&escapeReader{r: iotest.OneByteReader(strings.NewReader(c.typed)), help: &help, end: func() { ended = true }})
		if err != nil || string(got) != c.want || ended != c.ends || (help.Len() > 0) != c.helps {
			t.Errorf("%q: %q, %v; ended %v, help %q", c.typed, got, err, ended, &help)
		}
	}
	if _, err := io.ReadAll(&escapeReader{r: iotest.ErrReader(errors.New("gone"))}); err == nil {
		t.Error("a terminal that is gone is no error")
	}
}

// Colours are for terminals.
func TestNoColourInFiles(t *testing.T) {
	e := &env{}
	if got := e.dim(&bytes.Buffer{})("x"); got != "x" {
		t.Errorf("%q", got)
	}
}
