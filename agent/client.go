package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/snplaunch/snplaunch/snp"
)

// Bounds on what a guest may send, so that a hostile one cannot fill the
// host's memory or screen with anything but what it was asked for.
const (
	maxCertTable = 16 << 10 // Linux's SEV_FW_BLOB_MAX_SIZE
	maxText      = 4 << 10  // one text field, bytes
	maxNotes     = 32
	// MaxFile is the largest file that is taken from a guest.
	MaxFile = 4 << 30
)

// cancelPatience is how long a guest has to end an answer that nobody wants any more.
const cancelPatience = 5 * time.Second

// Client is the host's end of a conversation. Its methods may be called from
// several goroutines; requests are made one after the other.
//
// An error that the guest itself reported is an *Error, and the conversation goes
// on. So it does after a context that ended, where the guest ends its answer
// within a few seconds. Any other error ends it: Err gives it from then on,
// io.ErrUnexpectedEOF among them, which means that the guest closed the port.
type Client struct {
	conn  net.Conn
	hello Hello
	turn  chan struct{}  // holds one token while a request is under way
	said  chan *Message  // from the reader
	end   chan struct{}  // closed by the reader when there is nothing more to come
	quit  chan struct{}  // closed by fail
	done  sync.WaitGroup // the reader

	mu   sync.Mutex
	err  error // why the conversation ended
	over bool  // Bye was said
}

// ErrClosed is what a conversation has ended with after Close or Bye.
var ErrClosed = errors.New("the conversation with the guest's agent was ended on this side")

// Connect waits for the guest's hello on conn, the host's end of port PortName.
// Close closes conn; where Connect fails, it has done so itself.
func Connect(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, turn: make(chan struct{}, 1), said: make(chan *Message),
		end: make(chan struct{}), quit: make(chan struct{})}
	c.done.Go(c.read)
	m, err := c.next(ctx)
	if err == nil && m.Hello == nil {
		err = errors.New("the guest's first message is not hello: something other than the agent answers on port " + PortName)
	}
	if err == nil {
		err = checkHello(m.Hello)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.hello = *m.Hello
	return c, nil
}

// Hello is what the guest said first.
func (c *Client) Hello() Hello { return c.hello }

// Err is nil while the conversation lives, then why it ended.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return ErrClosed
	}
	return c.err
}

// Close ends the conversation without a word. It does not wait for a request
// under way, which it ends.
func (c *Client) Close() {
	c.fail(ErrClosed)
	c.done.Wait()
}

// Bye asks the guest to power off. The port stays open until Close: what is on its
// way through a port that the host closes may be lost.
func (c *Client) Bye(ctx context.Context) error {
	return c.request(ctx, &Message{Bye: &Bye{}}, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
		return nil
	})
}

// Attest has the guest fetch a report over nonce (REPORT_DATA); extended asks for
// the certificate table as well. The report has the right size and nothing else
// is known of it.
func (c *Client) Attest(ctx context.Context, nonce snp.ReportData, extended bool) (*Report, error) {
	var out *Report
	err := c.request(ctx, &Message{Attest: &Attest{Nonce: nonce[:], Extended: extended}}, func() error {
		m, err := c.answer(ctx)
		if err != nil {
			return err
		}
		if m.Report == nil {
			return errPlace
		}
		out = m.Report
		return checkReport(out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

var errPlace = errors.New("the guest sent a message that has no place here; the agent in the guest and this program do not fit together")

// fail ends the conversation.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.err = err; c.over {
		c.err = ErrClosed
	}
	close(c.quit)
	c.conn.Close()
}

// read is the one reader. It holds one message, so what nobody asks for waits in
// the guest.
func (c *Client) read() {
	defer close(c.end)
	for {
		m, err := ReadMessage(c.conn)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			c.fail(fmt.Errorf("reading from the agent in the guest: %w", err))
			return
		}
		select {
		case c.said <- m:
		case <-c.quit:
			return
		}
	}
}

// next gives the guest's next message.
func (c *Client) next(ctx context.Context) (*Message, error) {
	select {
	case m := <-c.said:
		return c.heard(m)
	case <-c.end:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// heard turns an error that the guest reports into one.
func (c *Client) heard(m *Message) (*Message, error) {
	if m.Error != nil {
		return nil, &Error{Stage: printable(m.Error.Stage), Message: printable(m.Error.Message)}
	}
	return m, nil
}

// request makes a request when it is its turn, and has talk take the answer. An
// error of talk other than the guest's own ends the conversation, unless ctx
// ended and the guest ends its answer.
func (c *Client) request(ctx context.Context, m *Message, talk func() error) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	if err := c.Err(); err != nil {
		return err
	}
	err := c.send(ctx, m)
	if err == nil {
		err = talk()
	}
	var told *Error
	var cut *cutShort
	switch {
	case err == nil, errors.As(err, &told), errors.As(err, &cut):
		return err
	}
	c.fail(err)
	return err
}

// cutShort is an error that did not end the conversation: what was asked for is
// not wanted any more, and the guest has given it up.
type cutShort struct{ err error }

func (e *cutShort) Error() string { return e.err.Error() }
func (e *cutShort) Unwrap() error { return e.err }

// answer is next for an answer of one message: one that ctx cuts short is waited
// for all the same, so that the conversation goes on.
func (c *Client) answer(ctx context.Context) (*Message, error) {
	m, err := c.next(ctx)
	if err != nil && ctx.Err() != nil && c.Err() == nil {
		return nil, c.giveUp(err)
	}
	return m, err
}

// giveUp asks the guest to end its answer and waits for its last message. The
// error is err, as a cutShort where the guest did.
func (c *Client) giveUp(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cancelPatience)
	defer cancel()
	// The guest may have something to say before it can listen.
	asked := make(chan error, 1)
	go func() { asked <- c.send(ctx, &Message{Cancel: &Cancel{}}) }()
	for {
		m, nextErr := c.next(ctx)
		var told *Error
		last := errors.As(nextErr, &told) || nextErr == nil && (m.Report != nil || m.Exit != nil || m.End != nil)
		if nextErr != nil && !last {
			cancel()
		}
		if last || nextErr != nil {
			if <-asked != nil || !last {
				return err
			}
			return &cutShort{err}
		}
	}
}

// passEnd tells a guest that has answered already that no more data comes.
func (c *Client) passEnd() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelPatience)
	defer cancel()
	if err := c.send(ctx, &Message{End: &End{}}); err != nil {
		c.fail(err)
	}
}

// send writes one message unless ctx ends first; half a message on its way ends
// the conversation.
func (c *Client) send(ctx context.Context, m *Message) error {
	if err := ctx.Err(); err != nil {
		return &cutShort{err}
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := WriteMessage(c.conn, m)
	if !stop() {
		<-interrupted
		c.conn.SetWriteDeadline(time.Time{})
		if err != nil {
			err = ctx.Err()
		}
	}
	if err == nil {
		return nil
	}
	// A guest that has gone shows in what can be read, which may say more.
	if ctx.Err() == nil {
		select {
		case <-c.end:
			return c.Err()
		case <-time.After(time.Second):
		}
	}
	return fmt.Errorf("sending to the agent in the guest: %w", err)
}

func checkReport(r *Report) error {
	if len(r.Raw) != snp.ReportSize {
		return fmt.Errorf("the guest sent a report of %d bytes, want %d", len(r.Raw), snp.ReportSize)
	}
	if len(r.Certs) > maxCertTable {
		return fmt.Errorf("the guest sent a certificate table of %d bytes, at most %d are allowed", len(r.Certs), maxCertTable)
	}
	return nil
}

func checkHello(h *Hello) error {
	if h.Protocol != Version {
		return fmt.Errorf("the agent in the guest speaks protocol version %d, this program %d: build the initrd anew", h.Protocol, Version)
	}
	switch h.Device {
	case DeviceReal, DeviceSimulated, DeviceNone:
	default:
		return errors.New("the guest names a device that is neither real, simulated nor none")
	}
	if len(h.Notes) > maxNotes {
		return fmt.Errorf("the guest's hello has %d notes, at most %d are allowed", len(h.Notes), maxNotes)
	}
	h.Kernel, h.Agent = printable(h.Kernel), printable(h.Agent)
	for i, n := range h.Notes {
		h.Notes[i] = printable(n)
	}
	return nil
}

// printable cuts a guest's text to a bearable length and takes out what could
// steer a terminal.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r < ' ' || r == 0x7F || (r >= 0x80 && r < 0xA0) || r == utf8.RuneError {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
