package qmp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	goqmp "github.com/digitalocean/go-qemu/qmp"
)

// maxMessage bounds one message from QEMU. The largest that QEMU 10 sends,
// query-qmp-schema's reply, is about 230 KiB; the bound only stops a peer that
// never finishes a message from filling memory.
const maxMessage = 64 << 20

// Event is go-qemu's event: name, data as QEMU sent it, and time stamp.
type Event = goqmp.Event

// Version is go-qemu's QEMU version: numbers and the package's version string.
type Version = goqmp.Version

// Greeting is what QEMU says first.
type Greeting struct {
	Version      Version  `json:"version"`
	Capabilities []string `json:"capabilities"` // e.g. "oob"
}

// message is any message from QEMU. Which of greeting, event, return and
// error is present tells what it is.
type message struct {
	Greeting *Greeting       `json:"QMP"`
	Event    string          `json:"event"`
	ID       json.RawMessage `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class ErrorClass `json:"class"`
		Desc  string     `json:"desc"`
	} `json:"error"`
}

// decodeMessage reads one JSON value as a message of QEMU, and as an event
// when it is one.
func decodeMessage(raw json.RawMessage) (message, *Event, error) {
	var m message
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, nil, fmt.Errorf("%w: %v in %s", ErrProtocol, err, excerpt(raw))
	}
	kinds := 0
	for _, is := range []bool{m.Greeting != nil, m.Event != "", m.Return != nil, m.Error != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return m, nil, fmt.Errorf("%w: want one of QMP, event, return and error, got %s", ErrProtocol, excerpt(raw))
	}
	if m.Event == "" {
		return m, nil, nil
	}
	ev := new(Event)
	if err := json.Unmarshal(raw, ev); err != nil {
		return m, nil, fmt.Errorf("%w: %v in event %s", ErrProtocol, err, excerpt(raw))
	}
	return m, ev, nil
}

// excerpt shows the beginning of a message in an error.
func excerpt(raw []byte) string {
	const most = 80
	if len(raw) <= most {
		return fmt.Sprintf("%q", raw)
	}
	return fmt.Sprintf("%q… (%d bytes)", raw[:most], len(raw))
}

// messageReader reads JSON values one after the other, however they are split
// or joined in the stream, and refuses one longer than limit.
type messageReader struct {
	dec   *json.Decoder
	bound *boundedReader
	limit int64
}

func newMessageReader(r io.Reader, limit int64) *messageReader {
	b := &boundedReader{r: r}
	return &messageReader{dec: json.NewDecoder(b), bound: b, limit: limit}
}

func (r *messageReader) next() (json.RawMessage, error) {
	r.bound.left = r.limit
	var raw json.RawMessage
	err := r.dec.Decode(&raw)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("%w: %v at byte %d of its output", ErrProtocol, err, syntax.Offset)
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("%w: one message is longer than %d bytes", ErrProtocol, r.limit)
	case err != nil:
		return nil, err
	}
	return bytes.TrimSpace(raw), nil
}

var errTooLong = errors.New("message too long")

// boundedReader passes on at most left bytes between two resets of left.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}
