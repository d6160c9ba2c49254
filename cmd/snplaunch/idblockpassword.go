package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/snplaunch/snplaunch/idblock"
)

// maxPassword bounds a password file, in bytes.
const maxPassword = 4096

// passwordFlags say where the password of an encrypted key comes from. There
// is no flag that takes the password itself: a command line can be read by
// every user of the machine.
type passwordFlags struct {
	env, file  string
	flagPrefix string // "" or "author-"
}

// addPasswordFlags adds --[prefix]password-env and --[prefix]password-file.
func addPasswordFlags(fs *flag.FlagSet, prefix, whose string) *passwordFlags {
	p := &passwordFlags{flagPrefix: prefix}
	fs.StringVar(&p.env, prefix+"password-env", "", "`NAME`: environment variable with the password of "+whose)
	fs.StringVar(&p.file, prefix+"password-file", "", "`FILE`: file whose first line is the password of "+whose+"; without either it is asked for")
	return p
}

func (p *passwordFlags) given() bool { return p.env != "" || p.file != "" }

func (p *passwordFlags) check() error {
	if p.env != "" && p.file != "" {
		return usageError("--%spassword-env and --%spassword-file: give one of them", p.flagPrefix, p.flagPrefix)
	}
	return nil
}

// of gives the password of a key, from where the flags say or from the
// terminal.
func (p *passwordFlags) of(e *env, path string) idblock.Password {
	return func() ([]byte, error) { return p.read(e, "Password of "+path) }
}

func (p *passwordFlags) read(e *env, prompt string) ([]byte, error) {
	switch {
	case p.env != "":
		v, ok := os.LookupEnv(p.env)
		if !ok {
			return nil, usageError("--%spassword-env: the environment has no %s", p.flagPrefix, p.env)
		}
		return []byte(v), nil
	case p.file != "":
		f, err := os.Open(p.file)
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxPassword))
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		b, _, _ = bytes.Cut(b, []byte("\n"))
		return bytes.TrimSuffix(b, []byte("\r")), nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, usageError("its password is needed and there is no terminal to ask for it: give --%spassword-env NAME or --%spassword-file FILE", p.flagPrefix, p.flagPrefix)
	}
	defer tty.Close()
	return askTerminal(e.ctx, tty, prompt)
}

// askTerminal reads a line without echo. It gives up when ctx ends, that is at
// ^C, and leaves the terminal as it was.
func askTerminal(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	defer hold()()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("asking for a password: %w", err)
	}
	type answer struct {
		password []byte
		err      error
	}
	got := make(chan answer, 1)
	fmt.Fprint(tty, prompt+": ")
	go func() {
		b, err := term.ReadPassword(int(tty.Fd()))
		got <- answer{b, err}
	}()
	select {
	case a := <-got:
		fmt.Fprintln(tty)
		if errors.Is(a.err, io.EOF) {
			return nil, errors.New("no password was given")
		}
		return a.password, a.err
	case <-ctx.Done():
		fmt.Fprintln(tty)
		return nil, errors.Join(errors.New("interrupted while waiting for a password"), term.Restore(int(tty.Fd()), before))
	}
}

// newPassword asks for a password that is about to protect something: twice,
// when it is typed.
func (p *passwordFlags) newPassword(e *env, path string) ([]byte, error) {
	first, err := p.read(e, "New password of "+path)
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, usageError("the password of %s is empty, which protects nothing", path)
	}
	if p.given() {
		return first, nil
	}
	second, err := p.read(e, "The same again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usageError("the two passwords differ; nothing was written")
	}
	return first, nil
}
