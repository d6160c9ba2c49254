package agent

import (
	"context"
	"errors"
	"io"
)

// Command is what is to be run in a guest.
type Command struct {
	Args []string // the first word is looked up in the guest's PATH unless it has a slash
	Env  []string // NAME=value, beside the agent's own
	Dir  string   // "/" where it is empty
	// Stdin is what the command reads; nothing where it is nil. A Read that is
	// under way when the command ends is left behind.
	Stdin io.Reader
	// Stdout and Stderr take what the command writes; nil drops it. A writer
	// that fails does not stop the command; one that does not return holds it up.
	Stdout, Stderr io.Writer
	// Console gives the command the guest's console for its terminal, in the place of
	// the three above, which must be nil.
	Console bool
}

// Run has the guest run a command. Where ctx ends first, the command and what it
// has started in its process group are killed.
func (c *Client) Run(ctx context.Context, cmd Command) (Exit, error) {
	if len(cmd.Args) == 0 {
		return Exit{}, errors.New("there is no command to run in the guest")
	}
	if cmd.Console && (cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil) {
		return Exit{}, errors.New("a command at the guest's console has no other streams")
	}
	var exit Exit
	err := c.request(ctx, &Message{Run: &Run{Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Stdin: cmd.Stdin != nil, Console: cmd.Console}}, func() error {
		var err error
		exit, err = c.converse(ctx, cmd)
		return err
	})
	return exit, err
}

func (c *Client) converse(ctx context.Context, cmd Command) (exit Exit, err error) {
	u := &upload{c: c}
	if cmd.Stdin != nil {
		u.from(cmd.Stdin)
		defer func() {
			u.leave()
			// The end of stdin always comes, so that both sides know where the next
			// request begins.
			if u.settle() == nil && !u.ended && c.Err() == nil {
				c.passEnd()
			}
		}()
	}
	credit := Window
	for {
		pieces := u.next()
		if credit == 0 {
			pieces = nil
		}
		select {
		case p := <-pieces:
			credit--
			if p.err != nil {
				u.end(&End{})
			} else {
				u.send(p.b)
			}
		case err := <-u.sent:
			if u.sent = nil; err != nil {
				return exit, err
			}
		case m := <-c.said:
			if m, err = c.heard(m); err != nil {
				return exit, err
			}
			switch {
			case m.More != nil && cmd.Stdin != nil && credit < Window:
				credit++
			case m.Exit != nil:
				return *m.Exit, checkExit(*m.Exit)
			case m.Chunk != nil && m.Chunk.Stream != Data:
				w := cmd.Stdout
				if m.Chunk.Stream == Stderr {
					w = cmd.Stderr
				}
				if w != nil {
					_, _ = w.Write(m.Chunk.Bytes)
				}
			default:
				return exit, errPlace
			}
		case <-c.end:
			return exit, c.Err()
		case <-ctx.Done():
			if err := u.settle(); err != nil {
				return exit, err
			}
			return exit, c.giveUp(ctx.Err())
		}
	}
}

// maxSignal is the largest number of a signal on Linux.
const maxSignal = 64

func checkExit(e Exit) error {
	if e.Code < 0 || e.Code > 255 || e.Signal < 0 || e.Signal > maxSignal || e.Code != 0 && e.Signal != 0 {
		return errors.New("the guest sent an exit code or a signal that no Linux process ends with")
	}
	return nil
}
