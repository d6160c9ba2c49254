package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/snplaunch/snplaunch/snp"
)

// Bounds on what a guest may send, so that a hostile one cannot fill the
// host's memory or screen with anything but the output of its command.
const (
	maxCertTable = 16 << 10 // Linux's SEV_FW_BLOB_MAX_SIZE
	maxText      = 4 << 10  // one text field, bytes
	maxNotes     = 32
)

// donePatience is how long the host tries to say that it is done.
const donePatience = time.Second

// Handlers are called as the dialogue proceeds, from one goroutine and in
// order. Each may be nil. A handler that does not return stops the dialogue,
// not the guest.
type Handlers struct {
	Hello  func(Hello)
	Report func(Report)
	Output func(Stream, []byte)
}

// Result is what the guest said.
type Result struct {
	Hello  *Hello
	Report *Report
	// ExitCode is nil where no command was asked for or none was run.
	ExitCode *int
}

// Dialogue holds the host's side of one dialogue over conn, the host's end of
// port PortName, until the guest has sent its last message.
//
// The result is never nil; on failure it has what came before. An error that
// the guest itself reported is an *Error; a guest that closed the port in the
// middle gives io.ErrUnexpectedEOF; a ctx that ended gives its error. To end a
// waiting read, ctx uses conn's SetDeadline or else its Close; where conn has
// neither, Dialogue returns all the same and leaves the read behind.
func Dialogue(ctx context.Context, conn io.ReadWriter, req Request, h Handlers) (*Result, error) {
	if !req.NoReport && len(req.Nonce) != len(snp.ReportData{}) {
		return &Result{}, fmt.Errorf("nonce for the guest's report: got %d bytes, want %d", len(req.Nonce), len(snp.ReportData{}))
	}
	res := &Result{}
	// The conversation waits on conn in a goroutine of its own and touches
	// nothing of the caller's: what it learns comes over events and is put in
	// place here, so nothing changes once ctx has ended.
	events := make(chan func())
	end := make(chan error, 1)
	quit := make(chan struct{})
	defer close(quit)
	c := &conversation{conn: conn, req: req, emit: func(f func()) bool {
		select {
		case events <- f:
			return true
		case <-quit:
			return false
		}
	}}
	c.hello = func(m Hello) {
		res.Hello = &m
		if h.Hello != nil {
			h.Hello(m)
		}
	}
	c.report = func(m Report) {
		res.Report = &m
		if h.Report != nil {
			h.Report(m)
		}
	}
	c.output = func(m Output) {
		if h.Output != nil {
			h.Output(m.Stream, m.Data)
		}
	}
	c.exit = func(m Exit) { res.ExitCode = m.Code }
	go func() { end <- c.run() }()
	for {
		select {
		case f := <-events:
			f()
		case err := <-end:
			if err != nil && ctx.Err() != nil {
				return res, ctx.Err()
			}
			return res, err
		case <-ctx.Done():
			interrupt(conn)
			return res, ctx.Err()
		}
	}
}

// interrupt ends reads and writes that wait on conn.
func interrupt(conn io.ReadWriter) {
	if d, ok := conn.(interface{ SetDeadline(time.Time) error }); ok && d.SetDeadline(time.Unix(1, 0)) == nil {
		return
	}
	if c, ok := conn.(io.Closer); ok {
		c.Close()
	}
}

// conversation is one dialogue.
type conversation struct {
	conn io.ReadWriter
	req  Request
	emit func(func()) bool // runs a function on Dialogue's goroutine; false once that has gone

	hello  func(Hello)
	report func(Report)
	output func(Output)
	exit   func(Exit)
}

// errLeft ends a conversation whose result nobody waits for.
var errLeft = errors.New("dialogue abandoned")

func (c *conversation) run() error {
	m, err := c.read()
	if err != nil {
		return err
	}
	if m.Hello == nil {
		return errors.New("the guest's first message is not hello: something other than the agent answers on port " + PortName)
	}
	if err := checkHello(m.Hello); err != nil {
		return err
	}
	if !c.emit(func() { c.hello(*m.Hello) }) {
		return errLeft
	}
	if err := WriteMessage(c.conn, &Message{Request: &c.req}); err != nil {
		return fmt.Errorf("sending the request to the guest: %w", err)
	}
	reported := false
	for {
		m, err := c.read()
		if err != nil {
			return err
		}
		there := true
		switch {
		case m.Report != nil && !reported && !c.req.NoReport:
			reported = true
			if err := checkReport(m.Report); err != nil {
				return err
			}
			there = c.emit(func() { c.report(*m.Report) })
		case m.Output != nil && len(c.req.Command) > 0:
			if m.Output.Stream != Stdout && m.Output.Stream != Stderr {
				return errors.New("the guest sent output of a stream that is neither stdout nor stderr")
			}
			there = c.emit(func() { c.output(*m.Output) })
		case m.Exit != nil:
			if !c.req.NoReport && !reported {
				return errors.New("the guest said it is done without sending the report it was asked for")
			}
			if (m.Exit.Code != nil) != (len(c.req.Command) > 0) {
				return errors.New("the guest sent an exit code without a command, or none for the command it was given")
			}
			c.emit(func() { c.exit(*m.Exit) })
			c.sayDone()
			return nil
		default:
			return errors.New("the guest sent a message that has no place here; the agent in the guest and this program do not fit together")
		}
		if !there {
			return errLeft
		}
	}
}

// read gives the next message; an error that the guest reports is an error.
func (c *conversation) read() (*Message, error) {
	m, err := ReadMessage(c.conn)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("reading from the agent in the guest: %w", err)
	}
	if m.Error != nil {
		c.sayDone()
		return nil, &Error{Stage: printable(m.Error.Stage), Message: printable(m.Error.Message)}
	}
	return m, nil
}

// sayDone gives the guest leave to power off. A guest that does not take it
// powers off without, so no failure counts and nobody waits long.
func (c *conversation) sayDone() {
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = WriteMessage(c.conn, &Message{Done: &Done{}})
	}()
	select {
	case <-said:
	case <-time.After(donePatience):
	}
}

func checkReport(r *Report) error {
	if len(r.Raw) != snp.ReportSize {
		return fmt.Errorf("the guest sent a report of %d bytes, want %d", len(r.Raw), snp.ReportSize)
	}
	if len(r.Certs) > maxCertTable {
		return fmt.Errorf("the guest sent a certificate table of %d bytes, at most %d are allowed", len(r.Certs), maxCertTable)
	}
	return nil
}

func checkHello(h *Hello) error {
	if h.Protocol != Version {
		return fmt.Errorf("the agent in the guest speaks protocol version %d, this program %d: build the initrd anew", h.Protocol, Version)
	}
	switch h.Device {
	case DeviceReal, DeviceSimulated, DeviceNone:
	default:
		return errors.New("the guest names a device that is neither real, simulated nor none")
	}
	if len(h.Notes) > maxNotes {
		return fmt.Errorf("the guest's hello has %d notes, at most %d are allowed", len(h.Notes), maxNotes)
	}
	h.Kernel, h.Agent = printable(h.Kernel), printable(h.Agent)
	for i, n := range h.Notes {
		h.Notes[i] = printable(n)
	}
	return nil
}

// printable cuts a guest's text to a bearable length and takes out what could
// steer a terminal.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r < ' ' || r == 0x7F || (r >= 0x80 && r < 0xA0) || r == utf8.RuneError {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
