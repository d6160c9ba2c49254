package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestDial(t *testing.T) {
	c, _ := connectSocket(t)
	if got := c.Version().String(); got != "10.0.2" {
		t.Errorf("version %s, want 10.0.2", got)
	}
	if got := c.Greeting().Capabilities; len(got) != 1 || got[0] != "oob" {
		t.Errorf("capabilities %q, want [oob]", got)
	}
	if err := c.Err(); err != nil {
		t.Errorf("a fresh connection has error %v", err)
	}
}

// An event before the greeting's answer is not the answer
// (https://github.com/digitalocean/go-qemu/pull/210), nor one before the greeting.
func TestDialEventsFirst(t *testing.T) {
	a, b := socketpair(t)
	p := &peer{t: t, conn: b, in: bufio.NewReader(b)}
	p.send(`{"event": "NICE", "timestamp": {"seconds": 1, "microseconds": 2}}` + greetingLine)
	go func() {
		r := p.receive()
		p.send(`{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}`)
		p.answer(r, "{}")
	}()
	c, err := Dial(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestDialFails(t *testing.T) {
	for _, tc := range []struct {
		name, says string
		want       error
		text       string
	}{
		{"closed before the greeting", "", ErrPeerClosed, "QMP greeting: QEMU closed the QMP connection"},
		{"closed inside the greeting", greetingLine[:30], ErrPeerClosed, "in the middle of a message"},
		{"closed after the greeting", greetingLine, ErrPeerClosed, "qmp_capabilities"},
		{"not JSON", "SSH-2.0-OpenSSH_9.2\r\n", ErrProtocol, "invalid character 'S'"},
		{"an array", "[]", ErrProtocol, `"[]"`},
		{"a reply first", `{"return": {}}`, ErrProtocol, "greeting first"},
		{"empty object", `{}`, ErrProtocol, "want one of QMP, event, return and error"},
		{"two at once", `{"return": {}, "event": "X"}`, ErrProtocol, "want one of"},
		{"two greetings", greetingLine + greetingLine, ErrProtocol, "a reply without id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := socketpair(t)
			p := &peer{t: t, conn: b}
			p.send(tc.says)
			b.(*net.UnixConn).CloseWrite()
			_, err := Dial(testContext(t), a)
			mustBe(t, err, tc.want)
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error %q does not say %q", err, tc.text)
			}
			if _, err := a.Write([]byte("x")); err == nil {
				t.Error("Dial failed and left the connection open")
			}
		})
	}
}

func TestDialRefused(t *testing.T) {
	a, b := socketpair(t)
	p := &peer{t: t, conn: b, in: bufio.NewReader(b)}
	go func() {
		p.send(greetingLine)
		p.receive()
		p.send(`{"error": {"class": "CommandNotFound", "desc": "no"}, "id": 1}`)
	}()
	_, err := Dial(testContext(t), a)
	mustBe(t, err, CommandNotFound)
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("Dial failed and left the connection open")
	}
}

// A QEMU that is stopped says nothing (https://github.com/digitalocean/go-qemu/issues/214).
func TestDialDeadline(t *testing.T) {
	a, _ := socketpair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, a)
	mustBe(t, err, context.DeadlineExceeded)
}

func TestExecute(t *testing.T) {
	for _, how := range []string{"socketpair", "pipe"} {
		t.Run(how, func(t *testing.T) {
			a, b := net.Pipe()
			if how == "socketpair" {
				a, b = socketpair(t)
			}
			c, p := connect(t, a, b)
			go func() {
				r := p.receive()
				if r.Execute != "qom-get" || r.Arguments["path"] != "/machine" {
					t.Errorf("peer got %+v", r)
				}
				p.answer(r, `{"a": [1, 2]}`)
				r = p.receive()
				if r.Arguments != nil {
					t.Errorf("command without arguments came with %v", r.Arguments)
				}
				p.answer(r, `{}`)
			}()
			var got struct{ A []int }
			if err := c.Execute(testContext(t), "qom-get", map[string]string{"path": "/machine"}, &got); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got.A) != "[1 2]" {
				t.Errorf("result %v, want [1 2]", got.A)
			}
			if err := c.Execute(testContext(t), "stop", nil, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Replies come as the socket cuts them: byte by byte, joined, or far longer
// than the 64 KiB at which go-qemu's own monitor dies.
func TestExecuteAnySplit(t *testing.T) {
	c, p := connectSocket(t)
	big := strings.Repeat("x", 300<<10)
	go func() {
		r := p.receive()
		for _, b := range []byte(`{"return": "aé\"}{", "id": ` + r.ID.String() + "}\r\n") {
			p.send(string([]byte{b}))
		}
		p.answer(p.receive(), `"`+big+`"`)
		p.answer(p.receive(), `"small"`)
	}()
	for _, want := range []string{`aé"}{`, big, "small"} {
		var got string
		if err := c.Execute(testContext(t), "query", nil, &got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	}
}

func TestMessageLimit(t *testing.T) {
	c, p := connectSocket(t) // its limit is 1 MiB
	done := start(testContext(t), c, "query", nil)
	r := p.receive()
	go func() {
		p.conn.Write([]byte(`{"id": ` + r.ID.String() + `, "return": "`))
		for {
			if _, err := p.conn.Write([]byte(strings.Repeat("x", 4096))); err != nil {
				return
			}
		}
	}()
	err := <-done
	mustBe(t, err, ErrProtocol)
	if !strings.Contains(err.Error(), "longer than 1048576 bytes") {
		t.Errorf("error %q does not name the limit", err)
	}
}

func TestErrorClasses(t *testing.T) {
	c, p := connectSocket(t)
	classes := []ErrorClass{GenericError, CommandNotFound, DeviceNotActive, DeviceNotFound, KVMMissingCap, "SomethingNew"}
	go func() {
		for _, class := range classes {
			p.send(fmt.Sprintf(`{"id": %s, "error": {"class": %q, "desc": "it is so"}}`, p.receive().ID, class))
		}
	}()
	for _, class := range classes {
		err := c.Execute(testContext(t), "frob", nil, nil)
		mustBe(t, err, class)
		for _, other := range classes {
			if other != class && errors.Is(err, other) {
				t.Errorf("%v is %v as well", err, other)
			}
		}
		var qe *Error
		if !errors.As(err, &qe) || *qe != (Error{class, "it is so", "frob"}) {
			t.Errorf("got %#v", err)
		}
		if want := fmt.Sprintf("QMP command frob: it is so (%s)", class); err.Error() != want {
			t.Errorf("text %q, want %q", err, want)
		}
	}
	if err := c.Err(); err != nil {
		t.Errorf("a refused command ended the connection: %v", err)
	}
}

// QEMU answers what it cannot parse without an id.
func TestErrorWithoutID(t *testing.T) {
	c, p := connectSocket(t)
	first := start(testContext(t), c, "first", nil)
	p.receive()
	second := start(testContext(t), c, "second", nil)
	r := p.receive()
	p.send(`{"error": {"class": "GenericError", "desc": "JSON token size limit exceeded"}}`)
	mustBe(t, <-first, GenericError)
	p.answer(r, "{}")
	if err := <-second; err != nil {
		t.Error(err)
	}
	p.send(`{"error": {"class": "GenericError", "desc": "out of the blue"}}`)
	<-c.Done()
	mustBe(t, c.Err(), ErrProtocol)
}

func TestOutOfOrder(t *testing.T) {
	c, p := connectSocket(t)
	var got [3]string
	var done [3]<-chan error
	var reqs [3]request
	for i := range done {
		done[i] = start(testContext(t), c, fmt.Sprint("q", i), &got[i])
		reqs[i] = p.receive()
	}
	for _, i := range []int{2, 0, 1} {
		p.answer(reqs[i], fmt.Sprintf("%q", reqs[i].Execute))
	}
	for i := range done {
		if err := <-done[i]; err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint("q", i); got[i] != want {
			t.Errorf("command %s got the answer of %s", want, got[i])
		}
	}
}

func TestForeignReplyEndsConnection(t *testing.T) {
	for _, says := range []string{
		`{"return": {}, "id": 99}`, `{"return": {}, "id": "libvirt-1"}`, `{"return": {}, "id": null}`,
		`{"return": {}}`, `{"return": {}, "id": 1}`, // 1 was answered
		`{"return": {}, "id": -1}`, `nonsense`, `"string"`, "\x00", `{"event": 5}`, strings.Repeat("[", 20000), `{"event": "X", "timestamp": 5}`,
	} {
		t.Run(says, func(t *testing.T) {
			c, p := connectSocket(t)
			done := start(testContext(t), c, "query", nil)
			p.receive()
			p.send(says + " ")
			mustBe(t, <-done, ErrProtocol)
			<-c.Done()
			mustBe(t, c.Err(), ErrProtocol)
			mustBe(t, c.Execute(testContext(t), "again", nil, nil), ErrProtocol)
		})
	}
}

func TestDeadlineKeepsConnection(t *testing.T) {
	c, p := connectSocket(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	err := c.Execute(ctx, "slow", nil, nil)
	mustBe(t, err, context.DeadlineExceeded)
	if !strings.Contains(err.Error(), "QMP command slow: no answer from QEMU") {
		t.Errorf("error %q does not name the command", err)
	}
	var got string
	done := start(testContext(t), c, "next", &got)
	p.answer(p.receive(), `"late"`)
	p.answer(p.receive(), `"right"`)
	if err := <-done; err != nil || got != "right" {
		t.Errorf("the next command got %q, %v", got, err)
	}
	mustBe(t, c.Execute(ctx, "never", nil, nil), context.DeadlineExceeded)
}

// QEMU reads nothing: the socket fills up, in mid-command or before one.
func TestDeadlineWhileWriting(t *testing.T) {
	t.Run("nothing sent", func(t *testing.T) {
		a, b := net.Pipe() // no buffer: nothing is sent until the peer reads
		c, p := connect(t, a, b)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		defer cancel()
		waiting := start(ctx, c, "blocked", nil)
		mustBe(t, c.Execute(ctx, "behind it", nil, nil), context.DeadlineExceeded)
		mustBe(t, <-waiting, context.DeadlineExceeded)
		done := start(testContext(t), c, "next", nil)
		r := p.receive()
		if r.Execute != "next" {
			t.Errorf("the peer got %q, want only next", r.Execute)
		}
		p.answer(r, "{}")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("half sent", func(t *testing.T) {
		c, _ := connectSocket(t)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		err := c.Execute(ctx, "big", map[string]string{"a": strings.Repeat("x", 8<<20)}, nil)
		mustBe(t, err, context.DeadlineExceeded)
		<-c.Done()
		if err := c.Err(); err == nil || !strings.Contains(err.Error(), "big was only sent in part") {
			t.Errorf("connection's error is %v", err)
		}
	})
}

func TestPeerCloses(t *testing.T) {
	c, p := connectSocket(t)
	sub := c.Subscribe(4)
	a := start(testContext(t), c, "cont", nil)
	p.receive()
	b := start(testContext(t), c, "query-status", nil)
	p.receive()
	p.send(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "timestamp": {"seconds": 1, "microseconds": 0}}`)
	p.conn.Close()
	for _, done := range []<-chan error{a, b} {
		mustBe(t, <-done, ErrPeerClosed)
	}
	<-c.Done()
	if c.Err() != ErrPeerClosed {
		t.Errorf("Err is %v", c.Err())
	}
	// The last event is still delivered, then the end.
	if ev, ok := <-sub.C(); !ok || ev.Event != "SHUTDOWN" || ev.Data["reason"] != "guest-shutdown" {
		t.Errorf("got event %+v, %v", ev, ok)
	}
	if _, ok := <-sub.C(); ok {
		t.Error("subscription outlives the connection")
	}
	err := c.Execute(testContext(t), "late", nil, nil)
	mustBe(t, err, ErrPeerClosed)
	if want := "QMP command late: QEMU closed the QMP connection"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
	c.Close()
	mustBe(t, c.Err(), ErrPeerClosed) // the first reason stays
	if _, ok := <-c.Subscribe(1).C(); ok {
		t.Error("a subscription after the end is open")
	}
	if _, err := c.Events(testContext(t)); !errors.Is(err, ErrPeerClosed) {
		t.Errorf("Events after the end: %v", err)
	}
}

// A reply sent just before the end is not lost, however the two race.
func TestLastReplyBeforeEnd(t *testing.T) {
	for range 200 {
		c, p := connectSocket(t)
		done := start(testContext(t), c, "quit", nil)
		r := p.receive()
		p.answer(r, "{}")
		p.conn.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// Quit is content with a QEMU that ends without answering.
func TestQuitWithoutAnswer(t *testing.T) {
	c, p := connectSocket(t)
	go func() {
		p.receive()
		p.conn.Close()
	}()
	if err := c.Quit(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestCloseWhilePending(t *testing.T) {
	c, p := connectSocket(t)
	done := start(testContext(t), c, "cont", nil)
	p.receive()
	c.Close()
	mustBe(t, <-done, ErrClosed)
	mustBe(t, c.Err(), ErrClosed)
	c.Close()
	mustBe(t, c.Execute(testContext(t), "more", nil, nil), ErrClosed)
}

func TestBadArguments(t *testing.T) {
	c, p := connectSocket(t)
	if err := c.Execute(testContext(t), "x", func() {}, nil); err == nil || !strings.Contains(err.Error(), "QMP command x: its arguments") {
		t.Errorf("got %v", err)
	}
	go p.answerOne(`"text"`)
	var n int
	if err := c.Execute(testContext(t), "y", nil, &n); err == nil || !strings.Contains(err.Error(), "QMP command y: its answer is not as expected") {
		t.Errorf("got %v", err)
	}
}

func (p *peer) answerOne(result string) { p.answer(p.receive(), result) }

func TestRun(t *testing.T) {
	c, p := connectSocket(t)
	go func() {
		p.answerOne(`{"a": 1}`)
		p.answerOne(`[]`)
	}()
	out, err := c.Run([]byte(`{"execute": "query-x", "id": "mine"}`))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		ID     string
		Return struct{ A int }
	}
	if err := json.Unmarshal(out, &got); err != nil || got.ID != "mine" || got.Return.A != 1 {
		t.Errorf("got %s", out)
	}
	// Without an id of the caller's there is none: go-qemu's structs want a string.
	if out, err = c.Run([]byte(`{"execute": "query-x"}`)); err != nil || string(out) != `{"return":[]}` {
		t.Errorf("got %s, %v", out, err)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"execute": 5}`, `{"execute": ""}`, `{"execute": "x"} {"execute": "y"}`} {
		if _, err := c.Run([]byte(bad)); err == nil {
			t.Errorf("Run took %q", bad)
		}
	}
	c.SetRunTimeout(20 * time.Millisecond)
	_, err = c.Run([]byte(`{"execute": "hang"}`))
	mustBe(t, err, context.DeadlineExceeded)
}

func TestPMemSaveRefusesBrokenName(t *testing.T) {
	c, _ := connectSocket(t)
	if err := c.PMemSave(testContext(t), 0, 1, "a\xff"); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("got %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	c, p := connectSocket(t)
	const n = 50
	go func() {
		for range n {
			r := p.receive()
			p.send(`{"event": "E", "timestamp": {"seconds": 0, "microseconds": 0}}`)
			p.answer(r, fmt.Sprintf("%q", r.Execute))
		}
	}()
	errs := make(chan error, n)
	for i := range n {
		go func() {
			want, got := fmt.Sprint("c", i), ""
			err := c.Execute(testContext(t), want, nil, &got)
			if err == nil && got != want {
				err = fmt.Errorf("%s got the answer of %s", want, got)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
