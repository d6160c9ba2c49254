package diagnose

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"unsafe"
)

// ReadLog finds every known failure in a log of any length: QEMU's standard
// error, a kernel log, a guest's console, a CI job's output, or all of them in
// one. Prefixes of any kind do no harm, nor do colours, CRLF, JSON and HTML
// quoting. The first finding is the root cause, as far as the log tells. It
// holds a block of the log at a time.
func ReadLog(r io.Reader) ([]Finding, error) {
	s := newScan(catalogue()...)
	if err := s.read(r); err != nil {
		return nil, err
	}
	return s.findings(), nil
}

// FromConsole finds in what a guest printed why it did not boot: nil where nothing
// is known of it. What QEMU and the host's kernel say of its end may stand there too.
func FromConsole(text string) *Failure {
	s := newScan(messages, hostMessages, bootMessages)
	s.block([]byte(text), 1)
	for _, f := range s.findings() {
		if f.Root || f.rank == rankFailure {
			return &f.Failure
		}
	}
	return nil
}

const (
	// blockSize is how much of a log is held.
	blockSize = 256 << 10
	// overlap is how much of a line that fills a block is looked at again
	// with what follows, so that words on the border are found.
	overlap = 4 << 10
)

// read looks at a log block by block. A block is searched for the words that an
// entry needs before its lines are looked at one by one.
func (s *scan) read(r io.Reader) error {
	buf := make([]byte, blockSize)
	held, number := 0, 1
	for {
		n, err := io.ReadFull(r, buf[held:])
		held += n
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		whole := held
		keep := 0
		if !last {
			if i := bytes.LastIndexByte(buf[:held], '\n'); i >= 0 {
				whole = i + 1
			} else {
				keep = overlap
			}
		}
		number = s.block(buf[:whole], number)
		copy(buf, buf[whole-keep:held])
		held -= whole - keep
		if last {
			return nil
		}
	}
}

// block looks at lines, of which the first has a number, and gives the number of
// the line that follows.
func (s *scan) block(raw []byte, number int) int {
	b := normal(raw)
	// The text is only read, and not kept: findings clone their line.
	text := unsafe.String(unsafe.SliceData(b), len(b))
	var among []*watch
	for _, w := range s.watched {
		if w.may(text) {
			among = append(among, w)
		}
	}
	if len(among) == 0 {
		return number + bytes.Count(b, []byte{'\n'})
	}
	for line := range strings.Lines(text) {
		trimmed := strings.TrimRight(line, "\n")
		for part := range strings.SplitSeq(trimmed, softNewline) {
			s.line(part, number, among)
		}
		if len(trimmed) < len(line) {
			number++
		}
	}
	return number
}

// softNewline ends a line within a line of the log.
const softNewline = "\v"

// ansi are control sequences of a terminal: CSI (colours, cursor), OSC (titles) and
// two-character ones; the first also as JSON writes ESC, and as some viewers do.
var ansi = regexp.MustCompile(`(?:\x1b|\\u001[bB]|\\x1[bB]|\\e|\^\[)\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_=>]`)

// unquote undoes what JSON, HTML and word processors do to quotes and the ends of
// lines. None of it adds or removes a newline.
var unquote = strings.NewReplacer(
	`\r\n`, softNewline, `\n`, softNewline, `\t`, " ", `\"`, `"`, `\u0027`, "'", `\u0022`, `"`, `\u003e`, ">", `\u003c`, "<", `\u0026`, "&",
	"&#39;", "'", "&#x27;", "'", "&apos;", "'", "&quot;", `"`, "&#34;", `"`, "&gt;", ">", "&lt;", "<", "&amp;", "&", "&#96;", "`",
	"‘", "'", "’", "'", "“", `"`, "”", `"`, "\u00a0", " ",
	"\r\n", "\n", "\r", softNewline,
)

// normal gives a block as a terminal would have shown it, with the same number
// of lines.
func normal(b []byte) []byte {
	for _, esc := range []string{"\x1b", `u001b[`, `u001B[`, `\x1b[`, `\x1B[`, `\e[`, "^[["} {
		if bytes.Contains(b, []byte(esc)) {
			b = ansi.ReplaceAll(b, nil)
			break
		}
	}
	// The last two begin typographic quotes and the no-break space in UTF-8.
	for _, c := range []byte{'\\', '&', '\r', 0xe2, 0xc2} {
		if bytes.IndexByte(b, c) >= 0 {
			return []byte(unquote.Replace(string(b)))
		}
	}
	return b
}
