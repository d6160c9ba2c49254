//go:build unix

package certs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The cache holds what AMD's service gave:
//
//	Genoa/CHIP-ID/TCB.der    VCEKs; TCB as blSPL-teeSPL-snpSPL-ucodeSPL, a Turin's with fmcSPL first
//	Genoa/vcek.crl, vlek.crl revocation lists
//	wait, unreachable        until when the service is left alone
//	lock                     held while it is asked
//
// Nothing in it is trusted: what is read from it is judged as if it came from anywhere.

func (v VCEK) cachePath() string {
	tcb := fmt.Sprintf("%d-%d-%d-%d", v.TCB.BootLoader, v.TCB.TEE, v.TCB.SNP, v.TCB.Microcode)
	if v.Product == turin {
		tcb = fmt.Sprintf("%d-%s", v.TCB.FMC, tcb)
	}
	return filepath.Join(v.Product, v.id(), tcb+".der")
}

// kept reads a file of the cache, nil where it is not there.
func (f *Finder) kept(name string) []byte {
	if f.Cache == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(f.Cache, name))
	if err != nil {
		return nil
	}
	return data
}

// keep puts a file into the cache, whole or not at all.
func (f *Finder) keep(name string, data []byte) error {
	path := filepath.Join(f.Cache, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// ask fetches something from AMD's service and keeps it, unless another process has done
// so meanwhile. enough judges what the cache has, valid what the service gives.
func (f *Finder) ask(ctx context.Context, where, name string, enough, valid func([]byte) error) (data []byte, from string, err error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return nil, "", err
	}
	defer unlock()
	if data := f.kept(name); data != nil && enough(data) == nil {
		return data, fromCache, nil
	}
	if until := f.waiting(waitFile, time.Now()); !until.IsZero() {
		return nil, "", &RateLimitError{Until: until}
	}
	if until := f.waiting(unreachableFile, time.Now()); !until.IsZero() {
		return nil, "", &UnreachableError{Until: until}
	}
	data, err = f.get(ctx, where)
	var limited *RateLimitError
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &limited):
		err = errors.Join(err, f.wait(waitFile, limited.Until))
	case errors.As(err, &unreachable):
		err = errors.Join(err, f.wait(unreachableFile, time.Now().Add(unreachableWait)))
	}
	if err != nil {
		return nil, "", err
	}
	if err := valid(data); err != nil {
		return nil, "", fmt.Errorf("AMD's KDS answers %s with something else: %w", where, err)
	}
	if err := f.keep(name, data); err != nil {
		return nil, "", fmt.Errorf("keeping what AMD's KDS gave: %w (it is not used, as it would be asked again and again)", err)
	}
	return data, fromKDS, nil
}

// Files that say until when the service is left alone.
const (
	waitFile        = "wait"        // it has asked for that
	unreachableFile = "unreachable" // there is no way to it
)

func (f *Finder) wait(name string, until time.Time) error {
	return f.keep(name, []byte(until.UTC().Format(time.RFC3339)+"\n"))
}

// waiting gives the time until which the service is not asked, zero where it may be.
func (f *Finder) waiting(name string, now time.Time) time.Time {
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(string(f.kept(name))))
	if err != nil || !now.Before(until) || until.After(now.Add(maxWait)) {
		return time.Time{}
	}
	return until
}

// lock keeps the processes of a user from asking for the same at the same time.
func (f *Finder) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(f.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("the folder for certificates cannot be made: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(f.Cache, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("the folder for certificates cannot be used: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("the folder for certificates cannot be locked: %w", err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("waiting for another process that asks AMD's KDS: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
