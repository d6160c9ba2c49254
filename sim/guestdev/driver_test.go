package guestdev

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// driverWith gives a driver whose requests h answers.
func driverWith(t *testing.T, h Handler) *Driver {
	t.Helper()
	guest, host := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- ServeHost(t.Context(), host, h) }()
	t.Cleanup(func() {
		guest.Close()
		if err := <-served; err != nil && t.Context().Err() == nil {
			t.Errorf("ServeHost: %v", err)
		}
	})
	return NewDriver(guest, t.Logf)
}

// response makes a MSG_REPORT_RSP.
func response(status, size uint32, report []byte) []byte {
	b := make([]byte, 32, 32+len(report))
	binary.LittleEndian.PutUint32(b, status)
	binary.LittleEndian.PutUint32(b[4:], size)
	return append(b, report...)
}

// tableOf makes a certificate table of entries {offset, length}.
func tableOf(size int, entries ...[2]uint32) []byte {
	b := make([]byte, size)
	for i, e := range entries {
		copy(b[24*i:], counting(16))
		binary.LittleEndian.PutUint32(b[24*i+16:], e[0])
		binary.LittleEndian.PutUint32(b[24*i+20:], e[1])
	}
	return b
}

func TestNewReport(t *testing.T) {
	report := counting(snp.ReportSize)
	certs := tableOf(5000, [2]uint32{96, 1000}, [2]uint32{1096, 3000})
	h := &script{rspType: MsgReportRsp, rsp: response(0, snp.ReportSize, report), certs: certs}
	out, aux, errno := driverWith(t, h).NewReport(counting(64), 2)
	if errno != 0 {
		t.Fatal(errno)
	}
	if !bytes.Equal(out, report) {
		t.Errorf("outblob of %d bytes is not the report", len(out))
	}
	if !bytes.Equal(aux, certs[:4096]) {
		t.Errorf("auxblob has %d bytes, want the table up to its last certificate's end at 4096", len(aux))
	}
	want := append(counting(64), 2, 0, 0, 0)
	want = append(want, make([]byte, 28)...)
	if h.msgType != MsgReportReq || h.version != 1 || !bytes.Equal(h.payload, want) {
		t.Errorf("the host saw message %d version %d with %x", h.msgType, h.version, h.payload)
	}
}

func TestNewReportFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		h      *script
		inblob int
		want   unix.Errno
	}{
		{"63 bytes", &script{}, 63, unix.EINVAL},
		{"nothing", &script{}, 0, unix.EINVAL},
		{"INVALID_PARAM", &script{rspType: MsgReportRsp, rsp: response(0x16, 0, nil)}, 64, unix.EINVAL},
		{"INVALID_KEY", &script{rspType: MsgReportRsp, rsp: response(0x27, 0, nil)}, 64, unix.EINVAL},
		{"another status", &script{rspType: MsgReportRsp, rsp: response(0x10, 0, nil)}, 64, unix.ENXIO},
		{"a report longer than a page", &script{rspType: MsgReportRsp, rsp: response(0, 4065, nil)}, 64, unix.ENOMEM},
		{"a report of 4 GiB", &script{rspType: MsgReportRsp, rsp: response(0, 0xFFFFFFFF, nil)}, 64, unix.ENOMEM},
		{"the firmware refuses", &script{status: snp.StatusInvalidGuestState}, 64, unix.EIO},
		{"another answer", &script{rspType: MsgKeyRsp}, 64, unix.EBADMSG},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, aux, errno := driverWith(t, c.h).NewReport(make([]byte, c.inblob), 0)
			if errno != c.want || out != nil || aux != nil {
				t.Errorf("%d and %d bytes, error %v, want %v", len(out), len(aux), errno, c.want)
			}
		})
	}
}

func TestCertificateTableIsCut(t *testing.T) {
	for _, c := range []struct {
		name  string
		table []byte
		want  int
	}{
		{"none", nil, 0},
		{"nothing but the end", make([]byte, 4096), 0},
		{"an entry without size", tableOf(4096, [2]uint32{0, 0}), 0},
		{"one", tableOf(4096, [2]uint32{48, 100}), 148},
		{"the longest is not the last", tableOf(4096, [2]uint32{1000, 100}, [2]uint32{72, 8}), 1100},
		{"beyond the table", tableOf(4096, [2]uint32{0x4000, 1}), 0x4000},
		{"wrapping", tableOf(4096, [2]uint32{0xFFFFFFFF, 2}), 1},
		{"entries all over", bytes.Repeat([]byte{1, 0, 0, 0}, 0x1000), 2},
	} {
		if got := certTable(c.table); len(got) != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, len(got), c.want)
		}
	}
}

// Whatever the host answers, a report is a part of one page and the table fits
// the driver's room.
func FuzzNewReport(f *testing.F) {
	f.Add((&answer{msgType: 6, payload: response(0, snp.ReportSize, counting(snp.ReportSize)), certsLen: 4096, certs: tableOf(3000, [2]uint32{96, 2000})}).bytes())
	f.Add((&answer{msgType: 6, payload: response(0x16, 0, nil)}).bytes())
	f.Add((&answer{vmmError: 1, certsLen: 0x8000}).bytes())
	f.Fuzz(func(t *testing.T, fromHost []byte) {
		d := NewDriver(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(fromHost), io.Discard}, nil)
		out, aux, errno := d.NewReport(make([]byte, 64), 0)
		if errno != 0 && (out != nil || aux != nil) {
			t.Errorf("%v, and yet %d and %d bytes", errno, len(out), len(aux))
		}
		if len(out) > snp.PageSize-32 || len(aux) > MaxCertTable {
			t.Errorf("%d and %d bytes", len(out), len(aux))
		}
	})
}
