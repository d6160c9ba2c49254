package main

import (
	"fmt"
	"io"
	"time"
)

// consoleLine is how much of one line is kept until it ends, in bytes; a longer one is
// shown in parts.
const consoleLine = 4 << 10

// console passes the guest's serial output on line by line, without what a
// firmware sends to clear and colour the screen.
type console struct {
	w      io.Writer
	start  time.Time // zero: lines have no times
	dim    func(string) string
	line   []byte
	begun  time.Time // when the line did
	escape int       // 0 text, 1 after ESC, 2 in a control sequence
	now    func() time.Time
}

func newConsole(w io.Writer, timestamps bool, dim func(string) string) *console {
	c := &console{w: w, dim: dim, now: time.Now}
	if timestamps {
		c.start = time.Now()
	}
	return c
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case c.escape == 1:
			c.escape = 0
			if b == '[' {
				c.escape = 2
			}
		case c.escape == 2:
			if b >= 0x40 && b <= 0x7E {
				c.escape = 0
			}
		case b == 0x1B:
			c.escape = 1
		case b == '\n':
			c.flush()
		case b == '\r':
		case b >= 0x20 || b == '\t':
			if len(c.line) == consoleLine {
				c.flush()
			}
			if len(c.line) == 0 && !c.start.IsZero() {
				c.begun = c.now()
			}
			c.line = append(c.line, b)
		}
	}
	return len(p), nil
}

func (c *console) flush() {
	prefix := "guest| "
	if !c.start.IsZero() {
		if len(c.line) == 0 {
			c.begun = c.now()
		}
		prefix = fmt.Sprintf("[%9.3f] guest| ", c.begun.Sub(c.start).Seconds())
	}
	fmt.Fprintf(c.w, "%s%s\n", c.dim(prefix), c.line)
	c.line = c.line[:0]
}

func (c *console) finish() {
	if len(c.line) > 0 {
		c.flush()
	}
}
