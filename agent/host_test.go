package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

func nonce() []byte { return bytes.Repeat([]byte{0x5A}, 64) }

func frame(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// guest plays a guest that sends the given messages, each as the raw bytes of a
// frame, and reads whatever the host sends. It gives what the host sent.
func guest(t *testing.T, send ...[]byte) (host net.Conn, got func() []Message) {
	t.Helper()
	host, conn := net.Pipe()
	var seen []Message
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			m, err := ReadMessage(conn)
			if err != nil {
				return
			}
			seen = append(seen, *m)
		}
	}()
	go func() {
		for _, b := range send {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); host.Close() })
	return host, func() []Message {
		host.Close()
		<-read
		return seen
	}
}

func encode(t *testing.T, m Message) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return frame(string(b))
}

const helloJSON = `{"hello":{"protocol":1,"kernel":"6.12","agent":"1","device":"simulated","snp_active":false}}`

func reportOf(n int) Message { return Message{Report: &Report{Raw: make([]byte, n)}} }

func TestDialogue(t *testing.T) {
	code := 3
	rep := Message{Report: &Report{Raw: bytes.Repeat([]byte{9}, snp.ReportSize), Certs: []byte{1, 2}}}
	host, got := guest(t, frame(helloJSON), encode(t, rep),
		encode(t, Message{Output: &Output{Stdout, []byte("a\n")}}),
		encode(t, Message{Output: &Output{Stderr, []byte{0xFF, 0}}}),
		encode(t, Message{Exit: &Exit{&code}}))
	var order []string
	req := Request{Nonce: nonce(), ExtendedReport: true, Command: []string{"x", "y"}, Env: []string{"A=b"}}
	res, err := Dialogue(t.Context(), host, req, Handlers{
		Hello:  func(h Hello) { order = append(order, "hello "+string(h.Device)) },
		Report: func(r Report) { order = append(order, "report") },
		Output: func(s Stream, b []byte) { order = append(order, string(s)+" "+string(b)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"hello simulated", "report", "stdout a\n", "stderr \xff\x00"}; !reflect.DeepEqual(order, want) {
		t.Errorf("handlers saw %q, want %q", order, want)
	}
	if res.Hello.Kernel != "6.12" || !reflect.DeepEqual(res.Report, rep.Report) || res.ExitCode == nil || *res.ExitCode != 3 {
		t.Errorf("result %+v", res)
	}
	sent := got()
	if len(sent) != 2 || !reflect.DeepEqual(sent[0].Request, &req) || sent[1].Done == nil {
		t.Errorf("the guest was sent %+v, want the request and then done", sent)
	}
}

func TestDialogueWithoutCommandOrReport(t *testing.T) {
	host, _ := guest(t, frame(helloJSON), encode(t, reportOf(snp.ReportSize)), frame(`{"exit":{"code":null}}`))
	res, err := Dialogue(t.Context(), host, Request{Nonce: nonce()}, Handlers{})
	if err != nil || res.ExitCode != nil || res.Report == nil {
		t.Errorf("without a command: %+v, %v", res, err)
	}
	host, _ = guest(t, frame(helloJSON), frame(`{"exit":{"code":0}}`))
	res, err = Dialogue(t.Context(), host, Request{NoReport: true, Command: []string{"true"}}, Handlers{})
	if err != nil || res.ExitCode == nil || *res.ExitCode != 0 || res.Report != nil {
		t.Errorf("without a report: %+v, %v", res, err)
	}
}

func TestGuestError(t *testing.T) {
	host, got := guest(t, frame(helloJSON), frame(`{"error":{"stage":"device","message":"no\u001b[2Jdevice"}}`))
	res, err := Dialogue(t.Context(), host, Request{Nonce: nonce()}, Handlers{})
	var e *Error
	if !errors.As(err, &e) || e.Stage != StageDevice || e.Message != "no?[2Jdevice" {
		t.Errorf("error %#v, want the guest's without the escape", err)
	}
	if res.Hello == nil {
		t.Error("the hello that came before is lost")
	}
	if sent := got(); len(sent) != 2 || sent[1].Done == nil {
		t.Errorf("the guest was sent %+v, want a last done", sent)
	}
}

// A guest that reports an error and reads no more does not keep the error back.
func TestGuestErrorThatWantsNoAnswer(t *testing.T) {
	host, conn := net.Pipe()
	defer conn.Close()
	go func() {
		conn.Write(frame(helloJSON))
		ReadMessage(conn)
		conn.Write(frame(`{"error":{"stage":"report","message":"x"}}`))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := Dialogue(ctx, host, Request{Nonce: nonce()}, Handlers{})
	var e *Error
	if !errors.As(err, &e) || e.Stage != StageReport {
		t.Errorf("error %v", err)
	}
}

func TestHostileGuests(t *testing.T) {
	report := encode(t, reportOf(snp.ReportSize))
	hello := frame(helloJSON)
	notes := `{"hello":{"protocol":1,"kernel":"","agent":"","device":"none","snp_active":false,"notes":["` + strings.Repeat(`","`, 40) + `"]}}`
	for _, c := range []struct {
		name string
		send [][]byte
		want string
	}{
		{"a length of 4 GiB", [][]byte{{0xFF, 0xFF, 0xFF, 0xFF}}, "at most 16777216"},
		{"no JSON", [][]byte{frame("hello")}, "agent message"},
		{"an unknown member", [][]byte{frame(`{"hullo":{}}`)}, "unknown field"},
		{"no member", [][]byte{frame(`{}`)}, "0 members"},
		{"two members", [][]byte{frame(`{"done":{},"exit":{"code":1}}`)}, "2 members"},
		{"something after the object", [][]byte{frame(helloJSON + "1")}, "follows"},
		{"no hello", [][]byte{report}, "not hello"},
		{"another protocol", [][]byte{frame(strings.Replace(helloJSON, ":1,", ":2,", 1))}, "protocol version 2"},
		{"an unknown device", [][]byte{frame(strings.Replace(helloJSON, "simulated", "genuine", 1))}, "device"},
		{"too many notes", [][]byte{frame(notes)}, "notes"},
		{"hello twice", [][]byte{hello, hello}, "no place"},
		{"a short report", [][]byte{hello, encode(t, reportOf(snp.ReportSize-1))}, "1183 bytes"},
		{"two reports", [][]byte{hello, report, report}, "no place"},
		{"a huge certificate table", [][]byte{hello, encode(t, Message{Report: &Report{Raw: make([]byte, snp.ReportSize), Certs: make([]byte, 20000)}})}, "certificate table of 20000"},
		{"no report", [][]byte{hello, frame(`{"exit":{"code":0}}`)}, "without sending the report"},
		{"no exit code", [][]byte{hello, report, frame(`{"exit":{"code":null}}`)}, "exit code"},
		{"an unknown stream", [][]byte{hello, report, frame(`{"output":{"stream":"stdin","data":"AA=="}}`)}, "stream"},
		{"a host's message", [][]byte{hello, frame(`{"done":{}}`)}, "no place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, _ := guest(t, c.send...)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := Dialogue(ctx, host, Request{Nonce: nonce(), Command: []string{"x"}}, Handlers{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestUnaskedOutputIsRefused(t *testing.T) {
	host, _ := guest(t, frame(helloJSON), frame(`{"output":{"stream":"stdout","data":"AA=="}}`))
	if _, err := Dialogue(t.Context(), host, Request{Nonce: nonce()}, Handlers{}); err == nil || !strings.Contains(err.Error(), "no place") {
		t.Errorf("error %v", err)
	}
}

func TestGuestThatEndsInTheMiddle(t *testing.T) {
	for _, b := range [][]byte{nil, {5}, {5, 0, 0, 0, '{'}, frame(helloJSON)} {
		_, err := Dialogue(t.Context(), struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), io.Discard}, Request{Nonce: nonce()}, Handlers{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %q: error %v, want io.ErrUnexpectedEOF", b, err)
		}
	}
}

// A guest that says nothing, or takes nothing, holds nobody up.
func TestContextEndsTheDialogue(t *testing.T) {
	for name, send := range map[string][]byte{"silent": nil, "never reads": frame(helloJSON), "in a frame": {200, 0, 0, 0, '{'}} {
		t.Run(name, func(t *testing.T) {
			host, conn := net.Pipe() // unbuffered, so an unread request blocks
			defer conn.Close()
			go conn.Write(send)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := Dialogue(ctx, host, Request{Nonce: nonce()}, Handlers{})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
				t.Errorf("error %v after %v", err, time.Since(start))
			}
		})
	}
}

// deaf is a connection that can neither be given a deadline nor be closed.
type deaf struct{ block chan struct{} }

func (d deaf) Read([]byte) (int, error)    { <-d.block; return 0, io.EOF }
func (d deaf) Write(b []byte) (int, error) { return len(b), nil }

func TestContextEndsADialogueThatCannotBeInterrupted(t *testing.T) {
	d := deaf{make(chan struct{})}
	defer close(d.block)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Dialogue(ctx, d, Request{Nonce: nonce()}, Handlers{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestNonceSize(t *testing.T) {
	if _, err := Dialogue(t.Context(), deaf{}, Request{Nonce: nonce()[:63]}, Handlers{}); err == nil || !strings.Contains(err.Error(), "63 bytes") {
		t.Errorf("error %v", err)
	}
}

// A length field alone costs nothing: memory follows what arrives.
func TestAnnouncedLengthIsNotAllocated(t *testing.T) {
	head := []byte{0, 0, 0, 1} // 16 MiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		if _, err := ReadMessage(bytes.NewReader(head)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("error %v", err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("20 announced frames of 16 MiB allocated %d bytes", grown)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"größer 中":         "größer 中",
		"a\x1b]0;x\x07\nb": "a?]0;x??b",
		"\u009b31m\x7f":    "?31m?",
		"bad \xff":         "bad ?",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := printable(strings.Repeat("x", 10000)); len(got) != 4096 {
		t.Errorf("%d bytes are left of 10000", len(got))
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add(frame(helloJSON))
	f.Add(frame(`{"report":{"raw":"AAAA","certs":"AA=="}}`))
	f.Add(frame(`{"output":{"stream":"stdout","data":"AA=="}}`))
	f.Add(frame(`{"exit":{"code":1}}`))
	f.Add(frame(`{"error":{"stage":"x","message":"y"}}`))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteMessage(&out, m); err != nil {
			t.Fatal(err)
		}
		again, err := ReadMessage(&out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		one, _ := json.Marshal(m)
		two, _ := json.Marshal(again)
		if !bytes.Equal(one, two) {
			t.Errorf("%s came back as %s", one, two)
		}
	})
}

// FuzzDialogue: whatever a guest sends, the dialogue ends with its bytes and
// its result keeps its promises.
func FuzzDialogue(f *testing.F) {
	report, _ := json.Marshal(reportOf(snp.ReportSize))
	f.Add(bytes.Join([][]byte{frame(helloJSON), frame(string(report)), frame(`{"exit":{"code":7}}`)}, nil))
	f.Add(append(frame(helloJSON), frame(`{"error":{"stage":"x","message":"y"}}`)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		res, err := Dialogue(t.Context(), struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), io.Discard}, Request{Nonce: nonce(), Command: []string{"x"}}, Handlers{})
		if res == nil || (err == nil && (res.Hello == nil || res.Report == nil || len(res.Report.Raw) != snp.ReportSize || res.ExitCode == nil)) {
			t.Errorf("result %+v, error %v", res, err)
		}
	})
}
