package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

func nonce() snp.ReportData { return snp.ReportData(bytes.Repeat([]byte{0x5A}, 64)) }

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

func encode(t testing.TB, m Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteMessage(&b, &m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const helloJSON = `{"hello":{"protocol":3,"kernel":"6.12","agent":"2","device":"simulated","snp_active":false}}`

func reportOf(n int) Message { return Message{Report: &Report{Raw: make([]byte, n)}} }

// connect gives a client whose guest has said hello and sends those frames.
func connect(t *testing.T, send ...[]byte) (*Client, func() []Message) {
	t.Helper()
	host, got := guest(t, append([][]byte{frame(helloJSON)}, send...)...)
	c, err := Connect(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, got
}

// kinds says what a list of messages consists of.
func kinds(ms []Message) string {
	var out []string
	for _, m := range ms {
		if m.Chunk != nil {
			out = append(out, fmt.Sprintf("chunk %d %q", m.Chunk.Stream, m.Chunk.Bytes))
			continue
		}
		b, _ := json.Marshal(m)
		out = append(out, string(b))
	}
	return strings.Join(out, "\n")
}

// A conversation has as many requests as the host likes.
func TestConversation(t *testing.T) {
	rep := Message{Report: &Report{Raw: bytes.Repeat([]byte{9}, snp.ReportSize), Certs: []byte{1, 2}}}
	file := []byte("contents")
	sum := sha256.Sum256(file)
	c, got := connect(t, encode(t, rep),
		encode(t, Message{Chunk: &Chunk{Stdout, []byte("a\n")}}),
		encode(t, Message{Chunk: &Chunk{Stderr, []byte{0xFF, 0}}}),
		encode(t, Message{Exit: &Exit{Code: 3}}),
		encode(t, Message{Exit: &Exit{Signal: 9}}),
		encode(t, rep),
		encode(t, Message{Chunk: &Chunk{Data, file}}),
		encode(t, Message{End: &End{Size: 8, SHA256: sum[:], Mode: 0o640}}),
	)
	if h := c.Hello(); h.Kernel != "6.12" || h.Device != DeviceSimulated {
		t.Errorf("hello %+v", h)
	}
	attest := func(extended bool) {
		r, err := c.Attest(t.Context(), nonce(), extended)
		if err != nil || !reflect.DeepEqual(r, rep.Report) {
			t.Errorf("report %+v, %v", r, err)
		}
	}
	attest(true)
	var stdout, stderr bytes.Buffer
	exit, err := c.Run(t.Context(), Command{Args: []string{"x", "y"}, Env: []string{"A=b"}, Dir: "/d", Stdout: &stdout, Stderr: &stderr})
	if err != nil || exit != (Exit{Code: 3}) || exit.Status() != 3 || stdout.String() != "a\n" || stderr.String() != "\xff\x00" {
		t.Errorf("exit %+v, %v, stdout %q, stderr %q", exit, err, &stdout, &stderr)
	}
	if exit, err := c.Run(t.Context(), Command{Args: []string{"z"}}); err != nil || exit.Status() != 137 {
		t.Errorf("a command killed by signal 9: %+v, %v", exit, err)
	}
	attest(false)
	var out bytes.Buffer
	if mode, err := c.Get(t.Context(), "/f", &out); err != nil || mode != 0o640 || out.String() != "contents" {
		t.Errorf("get: %v, %v, %q", mode, err, &out)
	}
	if err := c.Bye(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Attest(t.Context(), nonce(), false); !errors.Is(err, ErrClosed) {
		t.Errorf("after goodbye: %v", err)
	}
	n := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5A}, 64))
	want := `{"attest":{"nonce":"` + n + `","extended":true}}
{"run":{"args":["x","y"],"env":["A=b"],"dir":"/d"}}
{"run":{"args":["z"]}}
{"attest":{"nonce":"` + n + `"}}
{"get":{"path":"/f"}}
{"bye":{}}`
	if sent := kinds(got()); sent != want {
		t.Errorf("the guest was sent\n%s\nwant\n%s", sent, want)
	}
}

// What a command reads is sent as it asks for more, and its end always comes.
func TestStdin(t *testing.T) {
	more, exit := frame(`{"more":{}}`), frame(`{"exit":{"code":0}}`)
	for _, c := range []struct {
		name  string
		stdin io.Reader
		guest [][]byte
		want  string
	}{
		{"all of it", iotest.OneByteReader(strings.NewReader("abcdef")), [][]byte{more, more, more, more, more, more}, "abcdef."},
		{"no more than the window", iotest.OneByteReader(strings.NewReader("abcdef")), nil, "abcd"},
		{"nothing", strings.NewReader(""), nil, "."},
		{"an error is an end", iotest.ErrReader(errors.New("x")), nil, "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, conn := net.Pipe()
			defer conn.Close()
			script := make(chan string, 1)
			go func() {
				conn.Write(frame(helloJSON))
				if m, err := ReadMessage(conn); err != nil || m.Run == nil || !m.Run.Stdin {
					t.Errorf("the guest was sent %+v, %v", m, err)
				}
				var saw strings.Builder
				replies := c.guest
				for saw.Len() < len(c.want) {
					m, err := ReadMessage(conn)
					switch {
					case err != nil:
						t.Error(err)
						saw.WriteString(c.want)
					case m.Chunk != nil:
						saw.Write(m.Chunk.Bytes)
						if len(replies) > 0 {
							go conn.Write(replies[0])
							replies = replies[1:]
						}
					case m.End != nil:
						saw.WriteByte('.')
					}
				}
				conn.Write(exit)
				if !strings.HasSuffix(c.want, ".") {
					if m, err := ReadMessage(conn); err != nil || m.End == nil {
						t.Errorf("after the exit the guest was sent %+v, %v; want the end", m, err)
					}
				}
				script <- saw.String()
			}()
			client, err := Connect(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Run(t.Context(), Command{Args: []string{"x"}, Stdin: c.stdin}); err != nil {
				t.Error(err)
			}
			if saw := <-script; saw != c.want {
				t.Errorf("the guest saw %q, want %q", saw, c.want)
			}
			if client.Err() != nil {
				t.Error(client.Err())
			}
		})
	}
}

// A reader that never returns keeps the command's exit from nobody.
func TestStdinThatHangs(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	c, _ := connect(t, frame(`{"exit":{"code":4}}`))
	if exit, err := c.Run(t.Context(), Command{Args: []string{"x"}, Stdin: r}); err != nil || exit.Code != 4 {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestGuestError(t *testing.T) {
	c, _ := connect(t, frame(`{"error":{"stage":"device","message":"no\u001b[2Jdevice"}}`), encode(t, reportOf(snp.ReportSize)))
	_, err := c.Attest(t.Context(), nonce(), true)
	var e *Error
	if !errors.As(err, &e) || e.Stage != StageDevice || e.Message != "no?[2Jdevice" {
		t.Errorf("error %#v, want the guest's without the escape", err)
	}
	if _, err := c.Attest(t.Context(), nonce(), true); err != nil {
		t.Errorf("the conversation did not go on: %v", err)
	}
}

func TestHellosThatAreRefused(t *testing.T) {
	notes := `{"hello":{"protocol":3,"kernel":"","agent":"","device":"none","snp_active":false,"notes":["` + strings.Repeat(`","`, 40) + `"]}}`
	for _, c := range []struct {
		name, want string
		send       []byte
	}{
		{"a length of 4 GiB", "at most 1048576", []byte{0xFF, 0xFF, 0xFF, 0xFF}},
		{"no JSON", "agent message", frame("hello")},
		{"nothing", "agent message", frame("")},
		{"an unknown member", "unknown field", frame(`{"hullo":{}}`)},
		{"no member", "0 members", frame(`{}`)},
		{"two members", "2 members", frame(`{"bye":{},"exit":{"code":1}}`)},
		{"something after the object", "follows", frame(helloJSON + "1")},
		{"no hello", "not hello", encode(t, reportOf(snp.ReportSize))},
		{"another protocol", "protocol version 1", frame(strings.Replace(helloJSON, ":3,", ":1,", 1))},
		{"an unknown device", "device", frame(strings.Replace(helloJSON, "simulated", "genuine", 1))},
		{"too many notes", "notes", frame(notes)},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, _ := guest(t, c.send)
			if _, err := Connect(t.Context(), host); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

// What has no place in an answer ends the conversation, for good.
func TestHostileGuests(t *testing.T) {
	run := func(c *Client, ctx context.Context) error {
		_, err := c.Run(ctx, Command{Args: []string{"x"}})
		return err
	}
	attest := func(c *Client, ctx context.Context) error { _, err := c.Attest(ctx, nonce(), true); return err }
	get := func(c *Client, ctx context.Context) error { _, err := c.Get(ctx, "/f", io.Discard); return err }
	put := func(c *Client, ctx context.Context) error {
		return c.Put(ctx, "/f", 0o600, strings.NewReader("abc"))
	}
	wrong := sha256.Sum256([]byte("abd"))
	for _, c := range []struct {
		name string
		ask  func(*Client, context.Context) error
		send []byte
		want string
	}{
		{"hello twice", attest, frame(helloJSON), "no place"},
		{"a short report", attest, encode(t, reportOf(snp.ReportSize-1)), "1183 bytes"},
		{"a huge certificate table", attest, encode(t, Message{Report: &Report{Raw: make([]byte, snp.ReportSize), Certs: make([]byte, 20000)}}), "certificate table of 20000"},
		{"an exit for a report", attest, frame(`{"exit":{"code":0}}`), "no place"},
		{"output for a report", attest, frame("\x01a"), "no place"},
		{"an exit code that is none", run, frame(`{"exit":{"code":256}}`), "exit code"},
		{"a signal that is none", run, frame(`{"exit":{"code":0,"signal":65}}`), "signal"},
		{"a code and a signal", run, frame(`{"exit":{"code":1,"signal":9}}`), "signal"},
		{"a file's data for a command", run, frame("\x00a"), "no place"},
		{"more of no stdin", run, frame(`{"more":{}}`), "no place"},
		{"a report for a command", run, encode(t, reportOf(snp.ReportSize)), "no place"},
		{"an empty piece", run, frame("\x01"), "0 bytes of data"},
		{"a piece too large", run, frame("\x01" + strings.Repeat("x", ChunkSize+1)), "65537 bytes of data"},
		{"a host's message", run, frame(`{"bye":{}}`), "no place"},
		{"output for a file", get, frame("\x01a"), "no place"},
		{"a file of another length", get, encode(t, Message{End: &End{Size: 3}}), "changed between host and guest"},
		{"a file with another digest", put, encode(t, Message{End: &End{Size: 3, SHA256: wrong[:]}}), ""},
		{"a report for a file", put, encode(t, reportOf(snp.ReportSize)), "no place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			client, _ := connect(t, c.send)
			err := c.ask(client, ctx)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
			if again := c.ask(client, ctx); again == nil || client.Err() == nil {
				t.Errorf("the conversation goes on: %v", again)
			}
		})
	}
}

func TestGuestThatEndsInTheMiddle(t *testing.T) {
	for _, b := range [][]byte{nil, {5}, {5, 0, 0, 0, '{'}, frame(helloJSON), append(frame(helloJSON), 1, 0)} {
		host, conn := net.Pipe()
		go func() {
			conn.Write(b)
			conn.Close()
		}()
		c, err := Connect(t.Context(), host)
		if err == nil {
			_, err = c.Attest(t.Context(), nonce(), true)
			c.Close()
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %q: error %v, want io.ErrUnexpectedEOF", b, err)
		}
	}
}

// A guest that says nothing, or takes nothing, holds nobody up.
func TestContextEndsTheConversation(t *testing.T) {
	for name, send := range map[string][]byte{"silent": nil, "in a frame": {200, 0, 0, 0, '{'}} {
		t.Run(name, func(t *testing.T) {
			host, conn := net.Pipe()
			defer conn.Close()
			go conn.Write(send)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			if _, err := Connect(ctx, host); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	}
	host, conn := net.Pipe() // unbuffered, so that an unread request blocks
	defer conn.Close()
	go conn.Write(frame(helloJSON))
	c, err := Connect(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Attest(ctx, nonce(), true); !errors.Is(err, context.DeadlineExceeded) || c.Err() == nil {
		t.Errorf("a guest that never reads: %v, and then %v", err, c.Err())
	}
}

// A request that nobody waits for any more is cancelled, and the next one is
// answered.
func TestCancel(t *testing.T) {
	for name, last := range map[string]Message{
		"the command was killed": {Exit: &Exit{Signal: 9}},
		"it had failed anyway":   {Error: &Error{StageCommand, "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			host, conn := net.Pipe()
			defer conn.Close()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				conn.Write(frame(helloJSON))
				ReadMessage(conn) // the command
				cancel()
				if m, err := ReadMessage(conn); err != nil || m.Cancel == nil {
					t.Errorf("the guest was sent %+v, %v", m, err)
				}
				conn.Write(frame("\x01late"))
				conn.Write(encode(t, last))
				ReadMessage(conn)
				conn.Write(encode(t, reportOf(snp.ReportSize)))
			}()
			c, err := Connect(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Run(ctx, Command{Args: []string{"x"}}); !errors.Is(err, context.Canceled) {
				t.Errorf("the command: %v", err)
			}
			if _, err := c.Attest(t.Context(), nonce(), true); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	}
}

// A file that nobody can write down is given up, and so is one that nobody can read.
func TestFilesThatAreGivenUp(t *testing.T) {
	host, conn := net.Pipe()
	defer conn.Close()
	sum := sha256.Sum256(nil)
	script := make(chan []Message, 1)
	go func() {
		var saw []Message
		defer func() { script <- saw }()
		gone := encode(t, Message{Error: &Error{StageFile, "given up"}})
		conn.Write(frame(helloJSON))
		for _, answers := range [][][]byte{
			{frame("\x00abc"), frame("\x00def")}, {gone}, // get, cancel
			nil, {gone}, // put, cancel
			nil, {encode(t, Message{End: &End{SHA256: sum[:]}})}, // put, end
		} {
			m, err := ReadMessage(conn)
			if err != nil {
				return
			}
			saw = append(saw, *m)
			for _, a := range answers {
				conn.Write(a)
			}
		}
	}()
	c, err := Connect(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	full := errors.New("disk full")
	if _, err := c.Get(t.Context(), "/f", writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("get: %v", err)
	}
	if err := c.Put(t.Context(), "/g", 0o755, iotest.ErrReader(full)); !errors.Is(err, full) {
		t.Errorf("put: %v", err)
	}
	if err := c.Put(t.Context(), "/h", 0o644, strings.NewReader("")); err != nil {
		t.Errorf("the next one: %v", err)
	}
	end, _ := json.Marshal(Message{End: &End{SHA256: sum[:]}})
	want := `{"get":{"path":"/f"}}
{"cancel":{}}
{"put":{"path":"/g","mode":493}}
{"cancel":{}}
{"put":{"path":"/h","mode":420}}
` + string(end)
	if sent := kinds(<-script); sent != want {
		t.Errorf("the guest was sent\n%s\nwant\n%s", sent, want)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A length field alone costs nothing: memory follows what arrives.
func TestAnnouncedLengthIsNotAllocated(t *testing.T) {
	head := []byte{0, 0, 16, 0} // 1 MiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 200 {
		if _, err := ReadMessage(bytes.NewReader(head)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("error %v", err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("200 announced frames of 1 MiB allocated %d bytes", grown)
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
	f.Add(frame("\x01output"))
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
		if !reflect.DeepEqual(m, again) && kinds([]Message{*m}) != kinds([]Message{*again}) {
			t.Errorf("%+v came back as %+v", m, again)
		}
	})
}

// saying is a connection to a guest that says what it says and reads everything.
type saying struct {
	net.Conn // nil: deadlines are not used, for nothing waits
	io.Reader
}

func (s saying) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s saying) Write(p []byte) (int, error)      { return len(p), nil }
func (s saying) Close() error                     { return nil }
func (s saying) SetWriteDeadline(time.Time) error { return nil }

// FuzzClient: whatever a guest sends, every request ends with its bytes, and what
// comes out keeps its promises.
func FuzzClient(f *testing.F) {
	report := encode(f, reportOf(snp.ReportSize))
	sum := sha256.Sum256([]byte("f"))
	end := encode(f, Message{End: &End{Size: 1, SHA256: sum[:]}})
	f.Add(bytes.Join([][]byte{frame(helloJSON), report, frame("\x02x"), frame(`{"more":{}}`), frame(`{"exit":{"code":7}}`), end, frame("\x00f"), end}, nil))
	f.Add(append(frame(helloJSON), frame(`{"error":{"stage":"x","message":"y"}}`)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Connect(t.Context(), saying{Reader: bytes.NewReader(b)})
		if err != nil {
			return
		}
		defer c.Close()
		if r, err := c.Attest(t.Context(), nonce(), true); err == nil && (len(r.Raw) != snp.ReportSize || len(r.Certs) > maxCertTable) {
			t.Errorf("report %+v", r)
		}
		var out bytes.Buffer
		exit, err := c.Run(t.Context(), Command{Args: []string{"x"}, Stdin: strings.NewReader("abc"), Stdout: &out, Stderr: &out})
		if err == nil && (exit.Status() < 0 || exit.Status() > 255) {
			t.Errorf("exit %+v", exit)
		}
		_ = c.Put(t.Context(), "/f", 0o600, strings.NewReader("f"))
		_, _ = c.Get(t.Context(), "/f", &out)
		if out.Len() > len(b) {
			t.Errorf("%d bytes came out of %d", out.Len(), len(b))
		}
	})
}
