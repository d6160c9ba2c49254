package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"io/fs"
)

// Put gives the guest a file with the permission bits of mode: what r gives, up
// to its end. path is absolute in the guest; folders on the way are made. The file
// is there whole or not at all, and what was there before stays until then.
func (c *Client) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	return c.request(ctx, &Message{Put: &Put{Path: path, Mode: uint32(mode.Perm())}}, func() error {
		u := &upload{c: c}
		u.from(r)
		defer u.leave()
		sum := newSummer()
		for {
			select {
			case p := <-u.next():
				switch {
				case p.err == io.EOF:
					u.end(sum.end())
				case p.err != nil:
					return c.giveUp(fmt.Errorf("reading what the guest is to have as %s: %w", path, p.err))
				default:
					sum.Write(p.b)
					u.send(p.b)
				}
			case err := <-u.sent:
				if u.sent = nil; err != nil {
					return err
				}
			case m := <-c.said:
				m, err := c.heard(m)
				switch {
				case err != nil: // the guest drops what is still on its way, up to the end
					if settled := u.settle(); settled != nil {
						return settled
					}
					if !u.ended {
						c.passEnd()
					}
					return err
				case m.End != nil && u.ended:
					return sum.check(m.End)
				}
				return errPlace
			case <-c.end:
				return c.Err()
			case <-ctx.Done():
				if err := u.settle(); err != nil {
					return err
				}
				return c.giveUp(ctx.Err())
			}
		}
	})
}

// Get writes a file of the guest to w and gives its permission bits. Where it
// fails, w may have got a part of it. A file larger than MaxFile is refused.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) (fs.FileMode, error) {
	var mode fs.FileMode
	err := c.request(ctx, &Message{Get: &Get{Path: path}}, func() error {
		sum := newSummer()
		for {
			m, err := c.next(ctx)
			if err != nil {
				if ctx.Err() != nil && c.Err() == nil {
					return c.giveUp(err)
				}
				return err
			}
			switch {
			case m.Chunk != nil && m.Chunk.Stream == Data:
				if sum.n+int64(len(m.Chunk.Bytes)) > MaxFile {
					return c.giveUp(fmt.Errorf("the guest's %s has more than %d bytes", path, int64(MaxFile)))
				}
				sum.Write(m.Chunk.Bytes)
				if _, err := w.Write(m.Chunk.Bytes); err != nil {
					return c.giveUp(fmt.Errorf("keeping the guest's %s: %w", path, err))
				}
			case m.End != nil:
				mode = fs.FileMode(m.End.Mode).Perm()
				return sum.check(m.End)
			default:
				return errPlace
			}
		}
	})
	return mode, err
}

// summer counts and hashes a file on its way.
type summer struct {
	hash.Hash
	n int64
}

func newSummer() *summer { return &summer{Hash: sha256.New()} }

func (s *summer) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.Hash.Write(p)
}

func (s *summer) end() *End { return &End{Size: s.n, SHA256: s.Sum(nil)} }

// check holds what came against what the other side says it was.
func (s *summer) check(e *End) error {
	if e.Size != s.n || !bytes.Equal(e.SHA256, s.Sum(nil)) {
		return fmt.Errorf("the file changed between host and guest: here it has %d bytes with SHA-256 %x, there %d with %x", s.n, s.Sum(nil), e.Size, e.SHA256)
	}
	return nil
}
