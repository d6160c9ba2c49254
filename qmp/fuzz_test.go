package qmp

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// FuzzQMP lets the peer send whatever bytes to a client in command mode that
// has one command waiting. The connection must end with a reason and the
// command with an answer, however the bytes are cut; and what came before
// must not matter: one more event in front is one more event delivered.
func FuzzQMP(f *testing.F) {
	for _, s := range []string{
		``, `{`, `{}`, `[]`, `null`, "\xff", `{"return": {}, "id": 2}`, `{"return": {}, "id": 3}`,
		`{"error": {"class": "GenericError", "desc": "no"}}`,
		eventLine(1) + `{"return": 1e999, "id": 2}` + eventLine(2),
		eventLine(1) + `{"event": 3}`, `{"event": "X", "return": 1}`,
		`{"error": {"class": "A", "desc": "b"}, "id": 2}{"event": "LAST", "data": null}`,
		`{"QMP": {"version": {}}}`, `{"RETURN": 1, "ID": 2}`, `{"event": "", "return": 0, "id": 2.0}`,
		strings.Repeat("[", 200), `{"return": "` + strings.Repeat("é", 400) + `", "id": 2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16<<10 {
			t.Skip("writing it byte by byte takes too long")
		}
		events, end := hear(t, data, len(data)+1)
		again, sameEnd := hear(t, append([]byte(eventLine(9)), data...), 1)
		if again != "E9 "+events {
			t.Errorf("cut to bytes and after an event E9: events %q, want %q", again, "E9 "+events)
		}
		if sameEnd != end {
			t.Errorf("cut to bytes: ended with %q, want %q", sameEnd, end)
		}
	})
}

// hear has a client hear data in pieces of the given size, and returns the
// names of the events and how the waiting command and the connection ended.
func hear(t *testing.T, data []byte, piece int) (events, end string) {
	a, b := net.Pipe()
	c, p := connect(t, a, b)
	defer c.Close()
	defer b.Close()
	sub := c.Subscribe(len(data) + 1)
	var result any
	done := start(t.Context(), c, "query", &result)
	p.receive()
	go func() {
		for len(data) > 0 {
			n := min(piece, len(data))
			if _, err := b.Write(data[:n]); err != nil {
				return // the client hung up
			}
			data = data[n:]
		}
		b.Close()
	}()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection never ended")
	}
	err := <-done
	answer := fmt.Sprint(result)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		answer = refused.Error()
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrPeerClosed):
		answer = "no answer"
	case err != nil:
		answer = "an answer that does not decode"
	}
	for ev := range sub.C() {
		events += ev.Event + " "
	}
	if sub.Dropped() != 0 {
		t.Errorf("%d events dropped from %d bytes", sub.Dropped(), len(data))
	}
	switch err := c.Err(); {
	case errors.Is(err, ErrProtocol):
		return events, answer + ", not QMP"
	case errors.Is(err, ErrPeerClosed):
		return events, answer + ", closed"
	default:
		t.Errorf("the connection ended with %v", err)
		return events, answer
	}
}
