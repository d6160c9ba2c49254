package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// errLeft is a person who has left the guest.
var errLeft = errors.New("ended from the keyboard")

// runInteractive connects the terminal to the guest's serial console until the guest
// ends, its command does, or the person at the terminal ends it. Nothing but a timeout
// of the description ends it otherwise.
func runInteractive(e *env, g *guest.Guest, o launcher.Options) (*launcher.Result, error) {
	tty, ok := e.stdin.(*os.File)
	if !ok || !isTerminal(tty) {
		return nil, usageError("run: --interactive needs a terminal on stdin")
	}
	defer hold()() // the terminal's settings
	restore, err := rawInput(tty)
	if err != nil {
		return nil, err
	}
	defer restore()
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	if g.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, g.Timeout)
		defer stop()
	}
	o.Console = e.stdout
	o.Keyboard = &escapeReader{r: tty, help: e.stderr, end: func() { cancel(errLeft) }}
	fmt.Fprintln(e.stderr, "snplaunch: the guest's console; Ctrl-] q ends the guest, Ctrl-] ? helps")
	s, err := launcher.Start(ctx, g, o)
	if err != nil {
		return nil, err
	}
	if s.Ready() && s.Attest(ctx) == nil {
		_, err := s.Command(ctx, consoleCommand(g))
		var none *agent.Error
		if errors.As(err, &none) && len(g.Command) == 0 {
			<-ctx.Done() // no shell: the guest has whatever it has on its console
		}
	}
	left := errors.Is(context.Cause(ctx), errLeft)
	_ = s.Stop(context.Background()) // Wait gives the error
	res, err := s.Wait()
	switch {
	case left && res == nil:
		return nil, &exitError{exitNo, errLeft}
	case !left && e.ctx.Err() != nil:
		return nil, errors.New("interrupted")
	}
	return res, err
}

// consoleCommand is the command, or a shell, at the console.
func consoleCommand(g *guest.Guest) agent.Command {
	args := g.Command
	if len(args) == 0 {
		args = []string{"/bin/sh"}
	}
	return agent.Command{Args: args, Env: g.Env, Console: true}
}

// rawInput has a terminal pass every key on, unseen, at once. Its output stays as it
// was, so that messages begin at the left.
func rawInput(tty *os.File) (restore func(), err error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("reading the terminal's settings: %w", err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("reading the terminal's settings: %w", err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("changing the terminal's settings: %w", err)
	}
	return func() { _ = term.Restore(fd, before) }, nil
}

// escapeKey is Ctrl-].
const escapeKey = 0x1D

// escapeReader takes the keys that follow the escape key out of what is typed.
type escapeReader struct {
	r       io.Reader
	help    io.Writer
	end     func()
	escaped bool
}

const escapeHelp = `
Ctrl-] q       end the guest
Ctrl-] c       go on
Ctrl-] Ctrl-]  send Ctrl-] to the guest
Ctrl-] ?       show this
`

// Read implements io.Reader. It gives no bytes and no error where all that was typed
// was for itself.
func (e *escapeReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	out := p[:0]
	for _, b := range p[:n] {
		if !e.escaped {
			if e.escaped = b == escapeKey; !e.escaped {
				out = append(out, b)
			}
			continue
		}
		e.escaped = false
		switch b {
		case 'q':
			e.end()
		case 'c':
		case escapeKey:
			out = append(out, b)
		default:
			fmt.Fprint(e.help, escapeHelp)
		}
	}
	return len(out), err
}
