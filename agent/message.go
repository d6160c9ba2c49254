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
	Hello  *Hello  `json:"hello,omitempty"`
	Attest *Attest `json:"attest,omitempty"`
	Report *Report `json:"report,omitempty"`
	Run    *Run    `json:"run,omitempty"`
	More   *More   `json:"more,omitempty"`
	Exit   *Exit   `json:"exit,omitempty"`
	Put    *Put    `json:"put,omitempty"`
	Get    *Get    `json:"get,omitempty"`
	End    *End    `json:"end,omitempty"`
	Cancel *Cancel `json:"cancel,omitempty"`
	Error  *Error  `json:"error,omitempty"`
	Bye    *Bye    `json:"bye,omitempty"`
	Chunk  *Chunk  `json:"-"` // a frame of data
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

// Attest asks for an attestation report.
type Attest struct {
	// Nonce is the REPORT_DATA of the report, 64 bytes.
	Nonce []byte `json:"nonce"`
	// Extended asks for the host's certificate table as well.
	Extended bool `json:"extended,omitempty"`
}

// Report is the attestation report that the guest fetched.
type Report struct {
	Raw []byte `json:"raw"` // snp.ReportSize bytes
	// Certs is the certificate table (GHCB specification, "SNP Extended Guest
	// Request"); empty where the host gave none or none was asked for.
	Certs []byte `json:"certs,omitempty"`
}

// Run asks for a command.
type Run struct {
	// Args is the command; the first word is looked up in PATH unless it has a slash.
	Args []string `json:"args"`
	// Env is added to the agent's environment, as NAME=value.
	Env []string `json:"env,omitempty"`
	// Dir is the command's working folder; "/" where it is empty.
	Dir string `json:"dir,omitempty"`
	// Stdin announces data for the command to read; without it the command reads nothing.
	Stdin bool `json:"stdin,omitempty"`
	// Console gives the command the guest's console for its terminal: it reads from and
	// writes to that, and leads a session there. Not with Stdin.
	Console bool `json:"console,omitempty"`
}

// More says that the command's stdin has taken one piece.
type More struct{}

// Exit says how a command ended.
type Exit struct {
	Code   int `json:"code"`             // 0 where a signal ended it
	Signal int `json:"signal,omitempty"` // Linux's number; 0 where none did
}

// Status is the exit as a shell gives it: the code, or 128 plus the signal.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Code
}

// Put gives the guest a file, which is there, whole, once the guest has answered.
// Folders on the way are made.
type Put struct {
	Path string `json:"path"` // absolute
	Mode uint32 `json:"mode"` // permission bits
}

// Get asks for a file.
type Get struct {
	Path string `json:"path"` // absolute
}

// End is the end of data.
type End struct {
	Size   int64  `json:"size"`             // of a file: its bytes
	SHA256 []byte `json:"sha256,omitempty"` // of a file
	Mode   uint32 `json:"mode,omitempty"`   // of a file that was asked for: permission bits
}

// Cancel asks for the end of the answer under way.
type Cancel struct{}

// Stream says where data belongs; it is the first byte of the frame.
type Stream byte

// Streams.
const (
	Data   Stream = 0 // of the request: stdin, or a file
	Stdout Stream = 1
	Stderr Stream = 2
)

// Chunk is a piece of data, 1 to ChunkSize bytes.
type Chunk struct {
	Stream Stream
	Bytes  []byte
}

// Stages of Error.
const (
	StageRequest = "request" // understanding the host
	StageDevice  = "device"  // making or opening the device
	StageReport  = "report"  // fetching the report
	StageCommand = "command" // starting the command
	StageFile    = "file"    // reading or writing a file
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

// Bye ends the conversation.
type Bye struct{}

// WriteMessage writes one frame.
func WriteMessage(w io.Writer, m *Message) error {
	frame := make([]byte, 4, 512)
	if c := m.Chunk; c != nil {
		if len(c.Bytes) == 0 || len(c.Bytes) > ChunkSize {
			return fmt.Errorf("agent message: %d bytes of data, want 1 to %d", len(c.Bytes), ChunkSize)
		}
		frame = append(append(frame, byte(c.Stream)), c.Bytes...)
	} else {
		body, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encoding an agent message: %w", err)
		}
		frame = append(frame, body...)
	}
	n := len(frame) - 4
	if n > MaxFrame {
		return fmt.Errorf("agent message of %d bytes, at most %d allowed", n, MaxFrame)
	}
	binary.LittleEndian.PutUint32(frame, uint32(n))
	_, err := w.Write(frame)
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

// parseMessage reads one frame.
func parseMessage(body []byte) (*Message, error) {
	if len(body) > 0 && body[0] <= byte(Stderr) {
		c := &Chunk{Stream: Stream(body[0]), Bytes: body[1:]}
		if len(c.Bytes) == 0 || len(c.Bytes) > ChunkSize {
			return nil, fmt.Errorf("agent message: %d bytes of data, want 1 to %d", len(c.Bytes), ChunkSize)
		}
		return &Message{Chunk: c}, nil
	}
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
	for _, there := range []bool{m.Hello != nil, m.Attest != nil, m.Report != nil, m.Run != nil, m.More != nil, m.Exit != nil,
		m.Put != nil, m.Get != nil, m.End != nil, m.Cancel != nil, m.Error != nil, m.Bye != nil} {
		if there {
			set++
		}
	}
	if set != 1 {
		return nil, fmt.Errorf("agent message: %d members are set, want exactly one", set)
	}
	return m, nil
}
