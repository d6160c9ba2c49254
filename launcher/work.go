package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/guest"
)

// work is what Run does with a guest that is ready: it attests, and only then gets the
// description's files, runs its command, and gives files back.
func (s *Session) work(ctx context.Context) {
	err := s.Attest(ctx)
	if err == nil {
		err = s.errand(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		s.err = &interrupted{s.r.stage}
	case errors.Is(err, context.DeadlineExceeded):
		s.timedOut(ctx, err)
	case s.r.res.Error == nil: // it attested, and then something could not be done
		s.r.res.Outcome = OutcomeGuestFailed
		s.r.res.Error = &Failure{Message: err.Error()}
	}
}

// errand is what the description asks of a guest that has attested.
func (s *Session) errand(ctx context.Context) error {
	g := s.r.g
	for _, f := range g.Files.In {
		if err := s.putFile(ctx, f); err != nil {
			return err
		}
	}
	var err error
	if len(g.Command) > 0 {
		s.r.o.Began("command")
		_, err = s.Command(ctx, agent.Command{Args: g.Command, Env: g.Env, Stdin: s.r.o.Stdin, Stdout: s.r.o.Stdout, Stderr: s.r.o.Stderr})
	}
	// What a command that failed has left is what one wants to see.
	for _, f := range g.Files.Out {
		if ctx.Err() != nil || s.gone() {
			break
		}
		err = errors.Join(err, s.getFile(ctx, f))
	}
	return err
}

// gone says whether nobody is there any more to be asked.
func (s *Session) gone() bool { return s.guest.agent.Err() != nil }

func (s *Session) putFile(ctx context.Context, f guest.FileIn) error {
	src, err := os.Open(f.Host)
	if err != nil {
		return fmt.Errorf("files.in: %w", err)
	}
	defer src.Close()
	mode := f.Mode
	if mode == 0 {
		info, err := src.Stat()
		if err != nil {
			return fmt.Errorf("files.in: %w", err)
		}
		mode = info.Mode()
	}
	if err := s.Put(ctx, f.Guest, mode, src); err != nil {
		return fmt.Errorf("files.in: %s for %s in the guest: %w", f.Host, f.Guest, err)
	}
	return nil
}

// getFile keeps a guest's file, whole or not at all.
func (s *Session) getFile(ctx context.Context, f guest.FileOut) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(f.Host), "."+filepath.Base(f.Host)+".*")
	if err != nil {
		return fmt.Errorf("files.out: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("files.out: %s of the guest for %s: %w", f.Guest, f.Host, err), os.Remove(tmp.Name()))
		}
	}()
	if err := s.Get(ctx, f.Guest, tmp); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.Host)
}

// checkFiles refuses files for the guest that are not there, before anything is
// launched.
func (r *run) checkFiles() error {
	var errs []error
	for i, f := range r.g.Files.In {
		if err := checkFileIn(f.Host); err != nil {
			errs = append(errs, fmt.Errorf("files.in[%d]: %s: %w (give the path of a readable file)", i, f.Host, err))
		}
	}
	for i, f := range r.g.Files.Out {
		dir := filepath.Dir(f.Host)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			errs = append(errs, fmt.Errorf("files.out[%d]: there is no folder %s for %s (make it first)", i, dir, filepath.Base(f.Host)))
		}
	}
	return errors.Join(errs...)
}

func checkFileIn(path string) error {
	info, err := os.Stat(path) // opening a FIFO would block
	if err != nil {
		return cause(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if err := unix.Access(path, unix.R_OK); err != nil {
		return err
	}
	return nil
}
