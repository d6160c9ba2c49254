package guestagent

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/agent"
)

// portPatience is how long the guest waits for its port.
const portPatience = 2 * time.Second

// serve holds the guest's side of one conversation.
func serve(notes []string) error {
	conn, err := waitPort(agent.PortName, portPatience)
	if err != nil {
		return err
	}
	defer conn.Close()
	return hold(conn, notes)
}

// hold is serve on a port that is open.
func hold(conn io.ReadWriter, notes []string) (err error) {
	s := &session{conn: conn, in: make(chan *agent.Message), quit: make(chan struct{})}
	defer close(s.quit)
	active := snpActive()
	dev := prepareDevice(active)
	if dev.stop != nil {
		defer func() { err = errors.Join(err, dev.stop()) }()
	}
	s.device = dev.kind
	hello := &agent.Hello{
		Protocol: agent.Version, Kernel: kernelRelease(), Agent: Version,
		Device: dev.kind, SNPActive: active, Notes: append(notes, dev.notes...),
	}
	if err := s.send(&agent.Message{Hello: hello}); err != nil {
		return err
	}
	go s.read()
	return s.run()
}

// session is one conversation with the host.
type session struct {
	conn   io.ReadWriter
	device agent.Device

	in      chan *agent.Message // from the reader; closed at the end
	readErr error               // why in was closed
	quit    chan struct{}       // closed when nobody takes from in any more

	mu sync.Mutex // one message at a time
}

func (s *session) send(m *agent.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := agent.WriteMessage(s.conn, m); err != nil {
		return fmt.Errorf("sending to the host: %w", err)
	}
	return nil
}

// read is the one reader.
func (s *session) read() {
	defer close(s.in)
	for {
		m, err := agent.ReadMessage(s.conn)
		if err != nil {
			s.readErr = fmt.Errorf("waiting for the host: %w", err)
			return
		}
		select {
		case s.in <- m:
		case <-s.quit:
			return
		}
	}
}

// run answers one request after the other until the host says goodbye.
func (s *session) run() error {
	for m := range s.in {
		var err error
		switch {
		case m.Bye != nil:
			return nil
		case m.Attest != nil:
			err = s.attest(m.Attest)
		case m.Run != nil:
			err = s.command(m.Run)
		case m.Put != nil:
			err = s.put(m.Put)
		case m.Get != nil:
			err = s.get(m.Get)
		case m.Cancel != nil: // it has crossed the end of an answer
		default:
			err = &agent.Error{Stage: agent.StageRequest, Message: "the host's message is not a request"}
		}
		var told *agent.Error
		if errors.As(err, &told) {
			err = s.send(&agent.Message{Error: told})
		}
		if err != nil {
			return err
		}
	}
	return s.readErr
}

func (s *session) attest(r *agent.Attest) error {
	var nonce [64]byte
	if len(r.Nonce) != len(nonce) {
		return &agent.Error{Stage: agent.StageRequest, Message: fmt.Sprintf("the nonce has %d bytes, want %d", len(r.Nonce), len(nonce))}
	}
	copy(nonce[:], r.Nonce)
	if s.device == agent.DeviceNone {
		return &agent.Error{Stage: agent.StageDevice, Message: "there is no " + devicePath + " to ask for a report"}
	}
	rep, err := fetchReport(nonce, r.Extended)
	if err != nil {
		return &agent.Error{Stage: agent.StageReport, Message: err.Error()}
	}
	return s.send(&agent.Message{Report: rep})
}

// drop takes data that nobody wants any more, up to its end, which a cancel may
// stand for.
func (s *session) drop(cancelEnds bool) error {
	for m := range s.in {
		switch {
		case m.End != nil, m.Cancel != nil && cancelEnds:
			return nil
		case m.Chunk != nil, m.Cancel != nil:
		default:
			return errors.New("the host sent a request in the midst of its data")
		}
	}
	return s.readErr
}
