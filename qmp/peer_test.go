package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// The greeting of Debian's QEMU 10.0.2, as it came over a socket.
const greetingLine = `{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian 1:10.0.2+ds-2+deb13u1~bpo12+1"}, "capabilities": ["oob"]}}` + "\r\n"

// peer is the other end of a connection: the test plays QEMU's part.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// request is a command as the peer received it.
type request struct {
	Execute   string         `json:"execute"`
	Arguments map[string]any `json:"arguments"`
	ID        json.Number    `json:"id"`
}

// socketpair makes two connected net.Conns with the kernel's buffering, as in
// a real run.
func socketpair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "qmp")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// connect returns a client in command mode and its peer.
func connect(t *testing.T, a, b net.Conn) (*Client, *peer) {
	t.Helper()
	p := &peer{t: t, conn: b, in: bufio.NewReader(b)}
	go func() {
		p.send(greetingLine)
		p.answer(p.receive(), "{}")
	}()
	c, err := dial(testContext(t), a, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, p
}

func connectSocket(t *testing.T) (*Client, *peer) {
	a, b := socketpair(t)
	return connect(t, a, b)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (p *peer) send(s string) {
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.t.Errorf("peer: %v", err)
	}
}

func (p *peer) receive() request {
	line, err := p.in.ReadBytes('\n')
	if err != nil {
		p.t.Errorf("peer: %v", err)
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		p.t.Errorf("peer got %q: %v", line, err)
	}
	return r
}

func (p *peer) answer(r request, result string) {
	p.send(`{"return": ` + result + `, "id": ` + r.ID.String() + "}\r\n")
}

// start runs a command in the background.
func start(ctx context.Context, c *Client, command string, result any) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.Execute(ctx, command, nil, result) }()
	return done
}

func mustBe(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want one that is %v", err, target)
	}
}
