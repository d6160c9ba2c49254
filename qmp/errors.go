package qmp

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// ErrPeerClosed reports that QEMU's end of the connection is gone: QEMU ended,
// was killed, or closed its monitor. QMP carries no reason; QEMU's standard
// error and exit status do.
var ErrPeerClosed = errors.New("QEMU closed the QMP connection")

// ErrClosed reports that this end was closed by [Client.Close].
var ErrClosed = errors.New("the QMP connection was closed on this side")

// ErrProtocol reports bytes that are not QMP. The connection is unusable
// after it.
var ErrProtocol = errors.New("the peer does not speak QMP")

// ErrorClass is the class of an error that QEMU returned (qapi/error.json,
// QapiErrorClass). It is itself an error, so that
// errors.Is(err, qmp.CommandNotFound) asks for the class.
type ErrorClass string

// The classes of qapi/error.json.
const (
	GenericError    ErrorClass = "GenericError"
	CommandNotFound ErrorClass = "CommandNotFound"
	DeviceNotActive ErrorClass = "DeviceNotActive"
	DeviceNotFound  ErrorClass = "DeviceNotFound"
	KVMMissingCap   ErrorClass = "KVMMissingCap"
)

func (c ErrorClass) Error() string { return string(c) }

// Error is QEMU's refusal of a command.
type Error struct {
	Class   ErrorClass // what kind of failure, e.g. CommandNotFound
	Desc    string     // QEMU's sentence
	Command string     // the command that failed, e.g. "query-sev"
}

func (e *Error) Error() string {
	return fmt.Sprintf("QMP command %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// Is reports whether target is the error's class.
func (e *Error) Is(target error) bool {
	c, ok := target.(ErrorClass)
	return ok && c == e.Class
}

// connectionEnd turns what reading returned into the error that the
// connection's users see.
func connectionEnd(err error) error {
	switch {
	case errors.Is(err, ErrProtocol):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w in the middle of a message", ErrPeerClosed)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ErrPeerClosed
	}
	return fmt.Errorf("the QMP connection failed: %w", err)
}
