package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Client is a QMP connection in command mode. Its methods may be called from
// several goroutines.
type Client struct {
	conn     net.Conn
	greeting Greeting
	oob      bool          // out-of-band execution is enabled
	writing  chan struct{} // holds one token while a command is being written
	done     chan struct{} // closed after the reader has ended

	mu         sync.Mutex
	err        error // why the connection ended; nil while it lives
	ended      bool  // the reader has ended: no reply or event comes any more
	lastID     uint64
	pending    map[uint64]*call
	subs       map[*Subscription]struct{}
	runTimeout time.Duration
}

// call is a command whose reply is due. It stays in Client.pending after its
// caller gave up, so that a late reply is recognised.
type call struct {
	command string
	reply   chan message // has room for the one reply
}

// capOOB is the capability of out-of-band execution.
const capOOB = "oob"

// Dial takes over conn, reads QEMU's greeting and enters command mode. Out-of-band
// execution is enabled where the greeting offers it, nothing else ever. When Dial
// fails it closes conn; otherwise [Client.Close] does.
func Dial(ctx context.Context, conn net.Conn) (*Client, error) {
	return dial(ctx, conn, maxMessage)
}

func dial(ctx context.Context, conn net.Conn, limit int64) (*Client, error) {
	c := &Client{
		conn:       conn,
		writing:    make(chan struct{}, 1),
		done:       make(chan struct{}),
		pending:    make(map[uint64]*call),
		subs:       make(map[*Subscription]struct{}),
		runTimeout: DefaultRunTimeout,
	}
	greeted := make(chan Greeting, 1)
	go c.read(newMessageReader(conn, limit), greeted)
	select {
	case c.greeting = <-greeted:
	case <-c.done:
		// The greeting may have come just before the end.
		select {
		case c.greeting = <-greeted:
		default:
			return nil, fmt.Errorf("QMP greeting: %w", c.Err())
		}
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("QMP greeting: QEMU has not sent it: %w", ctx.Err())
	}
	var args any
	if c.oob = slices.Contains(c.greeting.Capabilities, capOOB); c.oob {
		args = map[string][]string{"enable": {capOOB}}
	}
	if err := c.Execute(ctx, "qmp_capabilities", args, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Greeting is what QEMU said first.
func (c *Client) Greeting() Greeting { return c.greeting }

// Version is QEMU's version, from the greeting.
func (c *Client) Version() Version { return c.greeting.Version }

// Done is closed when the connection has ended, by either side.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then why it ended: [ErrClosed],
// [ErrPeerClosed], or an error that wraps ErrPeerClosed or [ErrProtocol].
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection, fails what is waiting on it with [ErrClosed], and
// returns when its goroutine is gone. It does not stop QEMU; see [Client.Quit].
func (c *Client) Close() error {
	c.fail(ErrClosed)
	<-c.done
	return nil
}

// Execute runs a command: args is marshalled to its "arguments" (nil: none),
// and its "return" is unmarshalled into result (nil: not wanted).
//
// It waits until QEMU answers, ctx is done or the connection ends. QEMU runs
// commands in turn, so one whose caller gave up still delays the next ones.
// The error is an [*Error] when QEMU refused the command, else it wraps
// ctx.Err() or the connection's error.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	return c.execute(ctx, command, result, func(id uint64) ([]byte, error) {
		return json.Marshal(struct {
			Execute   string `json:"execute"`
			Arguments any    `json:"arguments,omitempty"`
			ID        uint64 `json:"id"`
		}{command, args, id})
	})
}

// ErrNoOOB reports a QEMU that offers no out-of-band execution on this channel.
var ErrNoOOB = errors.New("QEMU offers no out-of-band execution on this channel")

// ExecuteOOB is [Client.Execute] for a command that does not wait for its turn: QEMU
// runs it even while an earlier command keeps it busy. Few commands allow that, among
// them yank and migrate-pause; QEMU refuses the others.
func (c *Client) ExecuteOOB(ctx context.Context, command string, args, result any) error {
	if !c.oob {
		return fmt.Errorf("QMP command %s: %w", command, ErrNoOOB)
	}
	return c.execute(ctx, command, result, func(id uint64) ([]byte, error) {
		return json.Marshal(struct {
			Execute   string `json:"exec-oob"`
			Arguments any    `json:"arguments,omitempty"`
			ID        uint64 `json:"id"`
		}{command, args, id})
	})
}

func (c *Client) execute(ctx context.Context, command string, result any, encode func(id uint64) ([]byte, error)) error {
	ret, err := c.roundTrip(ctx, command, encode)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(ret, result); err != nil {
		return fmt.Errorf("QMP command %s: its answer is not as expected: %w", command, err)
	}
	return nil
}

// roundTrip sends what encode makes and returns the "return" member.
func (c *Client) roundTrip(ctx context.Context, command string, encode func(id uint64) ([]byte, error)) (json.RawMessage, error) {
	failed := func(what string, err error) error {
		return fmt.Errorf("QMP command %s: %s%w", command, what, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, failed("not sent: ", err)
	}
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, failed("not sent, an earlier command still is being: ", ctx.Err())
	case <-c.done:
		return nil, failed("", c.Err())
	}
	call, err := c.send(ctx, command, encode)
	<-c.writing
	if err != nil {
		return nil, failed("", err)
	}

	var m message
	select {
	case m = <-call.reply:
	case <-ctx.Done():
		return nil, failed("no answer from QEMU: ", ctx.Err())
	case <-c.done:
		// The answer may have been the last thing before the end.
		select {
		case m = <-call.reply:
		default:
			return nil, failed("", c.Err())
		}
	}
	if m.Error != nil {
		return nil, &Error{Class: m.Error.Class, Desc: m.Error.Desc, Command: command}
	}
	return m.Return, nil
}

// send gives the command an id and writes it. The caller holds the writing
// token, so that ids grow in the order of writing.
func (c *Client) send(ctx context.Context, command string, encode func(id uint64) ([]byte, error)) (*call, error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.lastID++
	id := c.lastID
	c.mu.Unlock()

	b, err := encode(id)
	if err != nil {
		return nil, fmt.Errorf("its arguments cannot be written as JSON: %w", err)
	}
	call := &call{command: command, reply: make(chan message, 1)}
	c.mu.Lock()
	c.pending[id] = call
	c.mu.Unlock()

	n, err := c.write(ctx, append(b, '\n'))
	if err == nil {
		return call, nil
	}
	if ctx.Err() != nil && n == 0 {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return nil, fmt.Errorf("not sent, QEMU takes no more commands: %w", ctx.Err())
	}
	if ctx.Err() != nil {
		// Half a command is on its way and nothing can be sent after it.
		c.fail(fmt.Errorf("QMP command %s was only sent in part: %w", command, ctx.Err()))
		return nil, c.Err()
	}
	// QEMU's last words may still be unread: leave the reader the time to
	// find the end itself.
	select {
	case <-c.done:
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	c.fail(connectionEnd(err))
	return nil, c.Err()
}

// write writes b unless ctx is done first, and reports how much was written.
func (c *Client) write(ctx context.Context, b []byte) (int, error) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	n, err := c.conn.Write(b)
	if !stop() {
		<-interrupted
		c.conn.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// fail ends the connection for the reason err, unless it has ended already.
// The reader does the rest.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.conn.Close()
}

// read is the one reader. It never waits for anything but the connection.
func (c *Client) read(r *messageReader, greeted chan<- Greeting) {
	for seenGreeting := false; ; {
		raw, err := r.next()
		var m message
		var ev *Event
		if err == nil {
			m, ev, err = decodeMessage(raw)
		}
		switch {
		case err != nil:
		case m.Greeting != nil && !seenGreeting:
			seenGreeting = true
			greeted <- *m.Greeting
		case ev != nil:
			c.publish(*ev)
		case !seenGreeting:
			err = fmt.Errorf("%w: want its greeting first, got %s", ErrProtocol, excerpt(raw))
		default:
			err = c.answer(m, raw)
		}
		if err != nil {
			c.fail(connectionEnd(err))
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for s := range c.subs {
		close(s.ch)
	}
	c.subs = nil
	close(c.done)
}

func (c *Client) publish(ev Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.subs {
		s.put(ev)
	}
}

// answer hands a reply to the command it belongs to.
func (c *Client) answer(m message, raw []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, err := c.replyID(m)
	if err != nil {
		return fmt.Errorf("%w: %v: %s", ErrProtocol, err, excerpt(raw))
	}
	c.pending[id].reply <- m
	delete(c.pending, id)
	return nil
}

// replyID finds the waiting command that a reply is for. A reply without id is
// QEMU's complaint about a command that it could not parse; QEMU works in
// turn, so it is for the oldest.
func (c *Client) replyID(m message) (uint64, error) {
	if m.ID != nil {
		var id uint64
		if err := json.Unmarshal(m.ID, &id); err != nil || c.pending[id] == nil {
			return 0, errors.New("a reply to no command of ours")
		}
		return id, nil
	}
	if m.Error == nil || len(c.pending) == 0 {
		return 0, errors.New("a reply without id")
	}
	oldest := c.lastID
	for id := range c.pending {
		oldest = min(oldest, id)
	}
	return oldest, nil
}
