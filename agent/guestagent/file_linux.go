package guestagent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/snplaunch/snplaunch/agent"
)

func fileError(err error) error { return &agent.Error{Stage: agent.StageFile, Message: err.Error()} }

// put takes a file: beside its place under another name, until it is whole.
func (s *session) put(r *agent.Put) error {
	f, err := newFile(r)
	if err != nil {
		return s.refuse(err)
	}
	sum, n := sha256.New(), int64(0)
	for m := range s.in {
		switch {
		case m.Chunk != nil:
			if _, err := f.Write(m.Chunk.Bytes); err != nil {
				discard(f)
				return s.refuse(err)
			}
			sum.Write(m.Chunk.Bytes)
			n += int64(len(m.Chunk.Bytes))
		case m.End != nil:
			digest := sum.Sum(nil)
			if m.End.Size != n || !bytes.Equal(m.End.SHA256, digest) {
				discard(f)
				return fileError(fmt.Errorf("%s: %d bytes with SHA-256 %x came, the host sent %d with %x", r.Path, n, digest, m.End.Size, m.End.SHA256))
			}
			if err := errors.Join(f.Chmod(fs.FileMode(r.Mode).Perm()), f.Close()); err != nil {
				discard(f)
				return fileError(err)
			}
			if err := os.Rename(f.Name(), r.Path); err != nil {
				discard(f)
				return fileError(err)
			}
			return s.send(&agent.Message{End: &agent.End{Size: n, SHA256: digest}})
		case m.Cancel != nil:
			discard(f)
			return fileError(fmt.Errorf("%s: given up by the host", r.Path))
		default:
			discard(f)
			return errors.New("the host sent a request in the midst of a file")
		}
	}
	discard(f)
	return s.readErr
}

// refuse tells the host that it need not go on, and drops what it has sent
// meanwhile.
func (s *session) refuse(err error) error {
	if err := s.send(&agent.Message{Error: &agent.Error{Stage: agent.StageFile, Message: err.Error()}}); err != nil {
		return err
	}
	return s.drop(true)
}

func newFile(r *agent.Put) (*os.File, error) {
	if !filepath.IsAbs(r.Path) {
		return nil, fmt.Errorf("%q is not an absolute path", r.Path)
	}
	dir, name := filepath.Split(r.Path)
	if name == "" {
		return nil, fmt.Errorf("%s names a folder, not a file", r.Path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, "."+name+".*")
}

func discard(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// get sends a file.
func (s *session) get(r *agent.Get) error {
	if !filepath.IsAbs(r.Path) {
		return fileError(fmt.Errorf("%q is not an absolute path", r.Path))
	}
	f, err := os.Open(r.Path)
	if err != nil {
		return fileError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fileError(err)
	}
	if !info.Mode().IsRegular() {
		return fileError(fmt.Errorf("%s is not a regular file", r.Path))
	}
	sum, n := sha256.New(), int64(0)
	buf := make([]byte, agent.ChunkSize)
	for {
		select {
		case m, open := <-s.in:
			if !open {
				return s.readErr
			}
			if m.Cancel == nil {
				return errors.New("the host sent a request in the midst of a file")
			}
			return fileError(fmt.Errorf("%s: given up by the host", r.Path))
		default:
		}
		k, err := f.Read(buf)
		if k > 0 {
			sum.Write(buf[:k])
			n += int64(k)
			if err := s.send(&agent.Message{Chunk: &agent.Chunk{Stream: agent.Data, Bytes: buf[:k]}}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return s.send(&agent.Message{End: &agent.End{Size: n, SHA256: sum.Sum(nil), Mode: uint32(info.Mode().Perm())}})
		}
		if err != nil {
			return fileError(err)
		}
	}
}
