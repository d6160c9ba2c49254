package agent

import (
	"context"
	"errors"
	"io"
	"time"
)

// upload is what a request sends after itself. It is read, at most one piece
// ahead, and sent on goroutines of its own: neither a reader that does not return
// nor a guest that has something to say before it listens holds up the request.
type upload struct {
	c      *Client
	pieces chan piece
	quit   chan struct{}
	sent   chan error // what is on its way; nil: nothing
	ended  bool       // the end is on its way
}

// piece is either bytes or the error that ended the reading, io.EOF included.
type piece struct {
	b   []byte
	err error
}

func (u *upload) from(r io.Reader) {
	u.pieces, u.quit = make(chan piece), make(chan struct{})
	go func() {
		for {
			b := make([]byte, ChunkSize)
			n, err := r.Read(b)
			if n > 0 && !u.give(piece{b: b[:n]}) || err != nil {
				u.give(piece{err: err})
				return
			}
		}
	}()
}

func (u *upload) give(p piece) bool {
	select {
	case u.pieces <- p:
		return true
	case <-u.quit:
		return false
	}
}

// leave ends the reading; a Read under way is left behind.
func (u *upload) leave() { close(u.quit) }

// next gives the next piece, once the one before has been sent; nil where there is
// none to wait for.
func (u *upload) next() <-chan piece {
	if u.sent != nil || u.ended {
		return nil
	}
	return u.pieces
}

func (u *upload) send(b []byte) { u.start(&Message{Chunk: &Chunk{Data, b}}) }

func (u *upload) end(e *End) {
	u.ended = true
	u.start(&Message{End: e})
}

func (u *upload) start(m *Message) {
	sent := make(chan error, 1)
	u.sent = sent
	go func() { sent <- u.c.send(context.Background(), m) }()
}

// settle waits until nothing is on its way. A guest that takes nothing for too
// long ends the conversation.
func (u *upload) settle() error {
	if u.sent == nil {
		return nil
	}
	defer func() { u.sent = nil }()
	select {
	case err := <-u.sent:
		return err
	case <-time.After(cancelPatience):
	}
	err := errors.New("the guest does not take what is sent to it")
	u.c.fail(err)
	<-u.sent
	return err
}
