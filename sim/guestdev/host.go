package guestdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// Handler answers guest messages: the Secure Processor and the platform of
// one guest. ServeHost calls it from one goroutine.
type Handler interface {
	// GuestRequest takes one decrypted guest message and gives the response
	// message, or the firmware's status where the firmware refused the
	// request as such. A refusal inside a message (STATUS of MSG_REPORT_RSP)
	// is part of rsp and goes with StatusSuccess.
	GuestRequest(msgType, msgVersion uint8, payload []byte) (rspType uint8, rsp []byte, st snp.Status)
	// CertTable gives the certificate table for extended reports (GHCB
	// specification, "SNP Extended Guest Request"), at most MaxCertTable
	// bytes; empty where the host provides no certificates.
	CertTable() []byte
}

// ServeHost answers what the guest's device sends over conn until the guest
// closes it (nil), sends what no device of ours sends (an error), or ctx ends
// (its error). conn should have SetDeadline or Close, so that a waiting read
// can be ended; ServeHost uses the former where it is there and otherwise
// closes conn when ctx ends.
func ServeHost(ctx context.Context, conn io.ReadWriter, h Handler) error {
	stop := context.AfterFunc(ctx, func() {
		if d, ok := conn.(interface{ SetDeadline(time.Time) error }); ok && d.SetDeadline(time.Unix(1, 0)) == nil {
			return
		}
		if c, ok := conn.(io.Closer); ok {
			c.Close()
		}
	})
	defer stop()
	for {
		b, err := readFrame(conn, requestHeaderSize+MaxPayload)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a guest message from port %s: %w", PortName, err)
		}
		r, err := parseRequest(b)
		if err != nil {
			return err
		}
		a, err := respond(r, h)
		if err != nil {
			return err
		}
		if _, err := conn.Write(a.bytes()); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("answering a guest message on port %s: %w", PortName, err)
		}
	}
}

// respond asks the handler, once there is room for the certificates: a real
// host refuses a request with too little room before the firmware sees it.
func respond(r *request, h Handler) (*answer, error) {
	a := &answer{}
	if r.certs {
		table := h.CertTable()
		if len(table) > MaxCertTable {
			return nil, fmt.Errorf("the certificate table has %d bytes; /dev/%s takes at most %d", len(table), DeviceName, MaxCertTable)
		}
		a.certsLen = uint32((len(table) + snp.PageSize - 1) / snp.PageSize * snp.PageSize)
		if r.certsRoom < a.certsLen {
			a.vmmError = vmmInvalidLen
			return a, nil
		}
		a.certs = table
	}
	a.msgType, a.payload, a.status = h.GuestRequest(r.msgType, r.msgVersion, r.payload)
	if a.status != snp.StatusSuccess {
		a.msgType, a.payload, a.certs, a.certsLen = 0, nil, nil, 0
	}
	if len(a.payload) > MaxPayload {
		return nil, fmt.Errorf("the answer to guest message %d has %d bytes; at most %d fit a guest message", r.msgType, len(a.payload), MaxPayload)
	}
	return a, nil
}
