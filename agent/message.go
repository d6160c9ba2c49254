package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Message is one frame; exactly one member is set.
type Message struct {
	Hello   *Hello   `json:"hello,omitempty"`
	Request *Request `json:"request,omitempty"`
	Report  *Report  `json:"report,omitempty"`
	Output  *Output  `json:"output,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
	Error   *Error   `json:"error,omitempty"`
	Done    *Done    `json:"done,omitempty"`
}

// Device says what answers in the guest when a report is asked for.
type Device string

// Kinds of Device.
const (
	DeviceReal      Device = "real"      // the kernel's sev-guest driver
	DeviceSimulated Device = "simulated" // package guestdev, over a virtio-serial port
	DeviceNone      Device = "none"
)

// Hello is the first message, from the guest.
type Hello struct {
	Protocol int    `json:"protocol"` // Version
	Kernel   string `json:"kernel"`   // release of the running kernel
	Agent    string `json:"agent"`    // the agent's own version
	Device   Device `json:"device"`
	// SNPActive tells whether the guest's kernel says that SEV-SNP protects it.
	SNPActive bool `json:"snp_active"`
	// Notes are lines about what did not work on the way, such as a module
	// that could not be loaded.
	Notes []string `json:"notes,omitempty"`
}

// Request is what the host wants.
type Request struct {
	// Nonce is the REPORT_DATA of the report that the guest fetches, 64 bytes.
	Nonce []byte `json:"nonce"`
	// ExtendedReport asks for the host's certificate table as well.
	ExtendedReport bool `json:"extended_report,omitempty"`
	// NoReport leaves the report out: only the command is run.
	NoReport bool `json:"no_report,omitempty"`
	// Command is run after the report was sent; none where it is empty. The
	// first word is looked up in PATH unless it has a slash.
	Command []string `json:"command,omitempty"`
	// Env is added to the agent's environment, as NAME=value.
	Env []string `json:"env,omitempty"`
	// Dir is the command's working directory; "/" where it is empty.
	Dir string `json:"dir,omitempty"`
}

// Report is the attestation report that the guest fetched.
type Report struct {
	Raw []byte `json:"raw"` // snp.ReportSize bytes
	// Certs is the certificate table (GHCB specification, "SNP Extended Guest
	// Request"); empty where the host gave none or none was asked for.
	Certs []byte `json:"certs,omitempty"`
}

// Stream says where output was written to.
type Stream string

// The streams of a command.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Output is a piece of what the command wrote.
type Output struct {
	Stream Stream `json:"stream"`
	Data   []byte `json:"data"`
}

// Exit is the last message of a guest that did what it was asked.
type Exit struct {
	// Code is the command's exit code, 128 plus the number of the signal that
	// ended it; nil where there was no command.
	Code *int `json:"code"`
}

// Stages of Error.
const (
	StageModules = "modules" // loading kernel modules
	StageDevice  = "device"  // making or opening the device
	StageRequest = "request" // understanding the host
	StageReport  = "report"  // fetching the report
	StageCommand = "command" // starting the command
)

// Error is the last message of a guest that could not do what it was asked.
type Error struct {
	Stage   string `json:"stage"`
	Message string `json:"message"`
}

// Error gives the sentence a user sees.
func (e *Error) Error() string {
	return fmt.Sprintf("the agent in the guest failed at stage %q: %s", e.Stage, e.Message)
}

// Done tells the guest that the host has everything: it may power off.
type Done struct{}

// WriteMessage writes one frame.
func WriteMessage(w io.Writer, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding an agent message: %w", err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("agent message of %d bytes, at most %d allowed", len(body), MaxFrame)
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...))
	return err
}

// ReadMessage reads one frame. At the end of the stream it gives io.EOF, inside
// a frame io.ErrUnexpectedEOF. Memory grows with what arrives, not with what
// the length field announces.
func ReadMessage(r io.Reader) (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("agent message: the length field says %d bytes, at most %d are allowed", n, MaxFrame)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return parseMessage(body.Bytes())
}

// parseMessage reads the JSON of one frame.
func parseMessage(body []byte) (*Message, error) {
	m := &Message{}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("agent message: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("agent message: something follows the JSON object")
	}
	set := 0
	for _, there := range []bool{m.Hello != nil, m.Request != nil, m.Report != nil, m.Output != nil, m.Exit != nil, m.Error != nil, m.Done != nil} {
		if there {
			set++
		}
	}
	if set != 1 {
		return nil, fmt.Errorf("agent message: %d members are set, want exactly one", set)
	}
	return m, nil
}
