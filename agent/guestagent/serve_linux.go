package guestagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/agent"
)

// How long the guest waits for a port, and for the host's leave to power off.
const (
	portPatience = 2 * time.Second
	donePatience = 5 * time.Second
)

// serve holds the guest's side of one dialogue.
func serve(notes []string) error {
	conn, err := waitPort(agent.PortName, portPatience)
	if err != nil {
		return err
	}
	defer conn.Close()
	return hold(conn, notes)
}

// hold is serve on a port that is open.
func hold(conn io.ReadWriter, notes []string) error {
	s := &session{conn: conn}
	err := s.run(notes)
	var told *agent.Error
	if errors.As(err, &told) {
		if sendErr := s.send(&agent.Message{Error: told}); sendErr != nil {
			return errors.Join(err, sendErr)
		}
		s.awaitDone()
	}
	return err
}

// session is one dialogue with the host.
type session struct {
	conn io.ReadWriter
	mu   sync.Mutex // one message at a time
}

func (s *session) send(m *agent.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := agent.WriteMessage(s.conn, m); err != nil {
		return fmt.Errorf("sending to the host: %w", err)
	}
	return nil
}

func (s *session) run(notes []string) (err error) {
	active := snpActive()
	dev := prepareDevice(active)
	if dev.stop != nil {
		defer func() { err = errors.Join(err, dev.stop()) }()
	}
	hello := &agent.Hello{
		Protocol: agent.Version, Kernel: kernelRelease(), Agent: Version,
		Device: dev.kind, SNPActive: active, Notes: append(notes, dev.notes...),
	}
	if err := s.send(&agent.Message{Hello: hello}); err != nil {
		return err
	}
	m, err := agent.ReadMessage(s.conn)
	if err != nil {
		return fmt.Errorf("waiting for the host's request: %w", err)
	}
	if m.Request == nil {
		return &agent.Error{Stage: agent.StageRequest, Message: "the host's first message is not a request"}
	}
	if !m.Request.NoReport {
		if err := s.report(m.Request, dev.kind); err != nil {
			return err
		}
	}
	var code *int
	if len(m.Request.Command) > 0 {
		c, err := s.command(m.Request)
		if err != nil {
			return &agent.Error{Stage: agent.StageCommand, Message: err.Error()}
		}
		code = &c
	}
	if err := s.send(&agent.Message{Exit: &agent.Exit{Code: code}}); err != nil {
		return err
	}
	s.awaitDone()
	return nil
}

func (s *session) report(r *agent.Request, device agent.Device) error {
	var nonce [64]byte
	if len(r.Nonce) != len(nonce) {
		return &agent.Error{Stage: agent.StageRequest, Message: fmt.Sprintf("the nonce has %d bytes, want %d", len(r.Nonce), len(nonce))}
	}
	copy(nonce[:], r.Nonce)
	if device == agent.DeviceNone {
		return &agent.Error{Stage: agent.StageDevice, Message: "there is no " + devicePath + " to ask for a report"}
	}
	rep, err := fetchReport(nonce, r.ExtendedReport)
	if err != nil {
		return &agent.Error{Stage: agent.StageReport, Message: err.Error()}
	}
	return s.send(&agent.Message{Report: rep})
}

// awaitDone waits until the host has read everything: what is still on its way
// through the port is lost when the guest powers off.
func (s *session) awaitDone() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := agent.ReadMessage(s.conn)
			if err != nil || m.Done != nil {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(donePatience):
		fmt.Fprintln(os.Stderr, "snp-agent: the host did not say that it is done")
	}
}
