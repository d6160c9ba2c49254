package qmp

import (
	"context"
	"sync/atomic"
)

// Subscription receives QEMU's events from the moment of [Client.Subscribe].
type Subscription struct {
	client  *Client
	ch      chan Event
	dropped atomic.Uint64
}

// Subscribe starts a subscription that holds up to buffer events (at least
// one). When it is full, the oldest event makes room and is counted in
// Dropped. Events that QEMU sent before are not delivered: subscribe while
// the guest is still stopped.
func (c *Client) Subscribe(buffer int) *Subscription {
	s := &Subscription{client: c, ch: make(chan Event, max(buffer, 1))}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		close(s.ch)
		return s
	}
	c.subs[s] = struct{}{}
	return s
}

// C delivers the events in QEMU's order. It is closed, after what it still
// holds, when the connection ends or Close is called.
func (s *Subscription) C() <-chan Event { return s.ch }

// Dropped is the number of events lost so far because C was read too slowly.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if _, open := s.client.subs[s]; open {
		delete(s.client.subs, s)
		close(s.ch)
	}
}

// put never blocks. The client's lock makes the reader the only sender.
func (s *Subscription) put(ev Event) {
	for {
		select {
		case s.ch <- ev:
			return
		default:
		}
		select {
		case <-s.ch:
			s.dropped.Add(1)
		default: // the receiver took one meanwhile
		}
	}
}

// eventBuffer is how many events a go-qemu user may leave unread; QEMU's
// whole run rarely has more than a few dozen.
const eventBuffer = 256

// Events is go-qemu's way to subscribe. The channel is closed when ctx is done
// or the connection ends. Oldest events are dropped from a channel that holds
// 256 unread ones; use [Client.Subscribe] to be told of that.
func (c *Client) Events(ctx context.Context) (<-chan Event, error) {
	if err := c.Err(); err != nil {
		return nil, err
	}
	s := c.Subscribe(eventBuffer)
	context.AfterFunc(ctx, s.Close)
	return s.C(), nil
}
