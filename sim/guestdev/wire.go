package guestdev

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/snplaunch/snplaunch/snp"
)

// Limits in bytes of what crosses the port.
const (
	// MaxPayload is the room for a guest message in its page (56860,
	// "Guest Messages": a page less the header of 0x60 bytes).
	MaxPayload = snp.PageSize - 0x60
	// MaxCertTable is the largest certificate table that Linux's sev-guest
	// driver takes (SEV_FW_BLOB_MAX_SIZE).
	MaxCertTable = 0x4000
)

// vmmInvalidLen is SNP_GUEST_VMM_ERR_INVALID_LEN of Linux's sev-guest.h: the
// room for certificates is too small.
const vmmInvalidLen = 1

const (
	flagCerts         = 1 << 0
	requestHeaderSize = 8
	answerHeaderSize  = 20
)

// request is one guest message on its way out of the guest. On the wire, all
// little-endian: length u32 (bytes after it), msg_type u8, msg_version u8,
// flags u8 (bit 0: with certificates), reserved u8, room for certificates
// u32, payload.
type request struct {
	msgType, msgVersion uint8
	certs               bool
	certsRoom           uint32 // bytes
	payload             []byte
}

// answer is what comes back: length u32, firmware status u32, VMM error u32,
// msg_type u8, reserved u8[3], payload length u32, certificate length u32,
// payload, certificate table. Where the VMM error says that the room is too
// small, the certificate length is the room needed and no table follows.
type answer struct {
	status   snp.Status
	vmmError uint32
	msgType  uint8
	payload  []byte
	certsLen uint32 // bytes, whole pages
	certs    []byte
}

func (r *request) bytes() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(requestHeaderSize+len(r.payload)))
	var flags byte
	if r.certs {
		flags = flagCerts
	}
	b = append(b, r.msgType, r.msgVersion, flags, 0)
	b = le.AppendUint32(b, r.certsRoom)
	return append(b, r.payload...)
}

func (a *answer) bytes() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(answerHeaderSize+len(a.payload)+len(a.certs)))
	b = le.AppendUint32(b, uint32(a.status))
	b = le.AppendUint32(b, a.vmmError)
	b = append(b, a.msgType, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(a.payload)))
	b = le.AppendUint32(b, a.certsLen)
	b = append(b, a.payload...)
	return append(b, a.certs...)
}

// parseRequest reads a request without its length field.
func parseRequest(b []byte) (*request, error) {
	if len(b) < requestHeaderSize {
		return nil, fmt.Errorf("guest request: got %d bytes, want at least %d", len(b), requestHeaderSize)
	}
	if b[2]&^flagCerts != 0 || b[3] != 0 {
		return nil, fmt.Errorf("guest request: unknown flags 0x%02x%02x", b[3], b[2])
	}
	if len(b) > requestHeaderSize+MaxPayload {
		return nil, fmt.Errorf("guest request: payload of %d bytes, at most %d fit a guest message", len(b)-requestHeaderSize, MaxPayload)
	}
	return &request{
		msgType:    b[0],
		msgVersion: b[1],
		certs:      b[2]&flagCerts != 0,
		certsRoom:  binary.LittleEndian.Uint32(b[4:]),
		payload:    b[requestHeaderSize:],
	}, nil
}

// parseAnswer reads an answer without its length field.
func parseAnswer(b []byte) (*answer, error) {
	if len(b) < answerHeaderSize {
		return nil, fmt.Errorf("answer to a guest request: got %d bytes, want at least %d", len(b), answerHeaderSize)
	}
	if b[9]|b[10]|b[11] != 0 {
		return nil, fmt.Errorf("answer to a guest request: reserved bytes are not zero")
	}
	le := binary.LittleEndian
	a := &answer{
		status:   snp.Status(le.Uint32(b)),
		vmmError: le.Uint32(b[4:]),
		msgType:  b[8],
		certsLen: le.Uint32(b[16:]),
	}
	rest, n := b[answerHeaderSize:], le.Uint32(b[12:])
	if n > MaxPayload || uint64(n) > uint64(len(rest)) {
		return nil, fmt.Errorf("answer to a guest request: payload length %d, %d bytes follow and at most %d fit", n, len(rest), MaxPayload)
	}
	a.payload, a.certs = rest[:n], rest[n:]
	if len(a.certs) > MaxCertTable {
		return nil, fmt.Errorf("answer to a guest request: certificate table of %d bytes, at most %d fit", len(a.certs), MaxCertTable)
	}
	return a, nil
}

// readFrame reads a length and as many bytes, at most limit.
func readFrame(r io.Reader, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > limit {
		return nil, fmt.Errorf("frame on port %s: length %d, at most %d allowed", PortName, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}
