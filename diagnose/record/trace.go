package record

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// QEMU's own words for a launch (target/i386/trace-events, QEMU 9.1 to 11.1; printed with
// -trace 'kvm_sev*' by the backends log and ftrace). With -msg timestamp=on, or in a
// file of the backend log, process and time stand before them.
var (
	traceEvent  = regexp.MustCompile(`(?:(\d{1,10})@\d+\.\d+:)?\b(kvm_sev_init|kvm_sev_change_state|kvm_sev_snp_launch_start|kvm_sev_snp_launch_update|kvm_sev_snp_launch_finish)\b ?(.*)$`)
	traceStart  = regexp.MustCompile(`^policy 0x([0-9a-f]{1,16}) gosvw (\S+)`)
	traceUpdate = regexp.MustCompile(`^src 0x[0-9a-f]{1,16} gpa 0x([0-9a-f]{1,16}) len 0x([0-9a-f]{1,16}) \(([A-Za-z]+) page\)`)
	traceFinish = regexp.MustCompile(`^id_block (\S+) id_auth (\S+) host_data (\S+)`)
	traceState  = regexp.MustCompile(`^(\S+) -> (\S+)`)
)

// What a trace does not tell, in words.
const TraceLacks = "QEMU's trace does not tell what the pages held, how the registers were set, VMSA features, flags, nor whether an author key is enabled"

// maxTraceLine bounds a line, in bytes: an ID auth has 5464 characters of base64.
const maxTraceLine = 1 << 20

// errNoTrace is for a text without any of QEMU's events.
var errNoTrace = errors.New("there is no event of QEMU's in it: start QEMU with -trace 'kvm_sev*'")

// ParseTrace makes a record of what QEMU wrote with -trace 'kvm_sev*', other lines among it.
// It has the launch commands, without contents of pages; everything else is unknown (TraceLacks).
func ParseTrace(r io.Reader) (*File, error) {
	f := &File{Source: SourceTrace, Pages: map[snp.ContentDigest][]byte{}}
	launches := map[string]*Launch{} // by process, where the trace tells it
	var order []*Launch
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxTraceLine)
	var current *Launch
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(strings.ToValidUTF8(lines.Text(), "\uFFFD"), "\r")
		m := traceEvent.FindStringSubmatch(line)
		if m == nil {
			if current != nil && len(current.End.Stderr) < maxStderr {
				current.End.Stderr += line + "\n"
			}
			continue
		}
		process, event, text := m[1], m[2], m[3]
		l := launches[process]
		if l == nil || event == "kvm_sev_init" && len(l.Calls) > 0 {
			l = &Launch{VMType: VMTypeSNP}
			launches[process] = l
			order = append(order, l)
		}
		current = l
		if err := l.trace(event, text); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", n, event, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for _, l := range order {
		l.endTrace()
		f.Launches = append(f.Launches, *l)
	}
	if len(f.Launches) == 0 {
		return nil, errNoTrace
	}
	return f, nil
}

// trace takes an event.
func (l *Launch) trace(event, text string) error {
	if at := l.Last(); at >= 0 && l.Calls[at].Result.From == FromNothing {
		l.Calls[at].Result = &Result{From: FromTrace} // QEMU went on
	}
	with, err := traced(event, text)
	if err != nil || with == nil {
		return err
	}
	l.Calls = append(l.Calls, Call{with, &Result{From: FromNothing}})
	return nil
}

// traced gives the launch command that an event is about, nil where it is about none.
func traced(event, text string) (Payload, error) {
	unlike := errors.New("its values are not as QEMU writes them")
	switch event {
	case "kvm_sev_init":
		return &Init{}, nil
	case "kvm_sev_change_state":
		if !traceState.MatchString(text) {
			return nil, unlike
		}
	case "kvm_sev_snp_launch_start":
		m := traceStart.FindStringSubmatch(text)
		if m == nil {
			return nil, unlike
		}
		policy, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			return nil, err
		}
		s := &Start{Policy: snp.GuestPolicy(policy)}
		b, err := traceBlob(m[2], len(s.GOSVW))
		copy(s.GOSVW[:], b)
		return s, err
	case "kvm_sev_snp_launch_update":
		m := traceUpdate.FindStringSubmatch(text)
		if m == nil {
			return nil, unlike
		}
		gpa, err1 := strconv.ParseUint(m[1], 16, 64)
		length, err2 := strconv.ParseUint(m[2], 16, 64)
		u := &Update{GPA: gpa, Length: length}
		return u, errors.Join(err1, err2, u.Type.UnmarshalText([]byte(strings.ToUpper(m[3]))))
	case "kvm_sev_snp_launch_finish":
		m := traceFinish.FindStringSubmatch(text)
		if m == nil {
			return nil, unlike
		}
		f := &Finish{}
		var errs [3]error
		f.IDBlock, errs[0] = traceBlob(m[1], snp.IDBlockSize)
		f.IDAuth, errs[1] = traceBlob(m[2], snp.IDAuthSize)
		var data []byte
		data, errs[2] = traceBlob(m[3], len(f.HostData))
		copy(f.HostData[:], data)
		f.IDBlockEnabled = f.IDBlock != nil
		return f, errors.Join(errs[:]...)
	}
	return nil, nil
}

// traceBlob reads base64 of size bytes, filled up with zeros as KVM finds them after a
// shorter ID auth; nil for "(null)".
func traceBlob(s string, size int) ([]byte, error) {
	if s == "(null)" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(b) > size {
		return nil, fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	return append(b, make([]byte, size-len(b))...), nil
}

// endTrace looks for how the last command ended.
func (l *Launch) endTrace() {
	at := l.Last()
	if at < 0 || l.Calls[at].Result.From != FromNothing {
		return
	}
	if r, found := failureIn(l.Calls[at].With, l.End.Stderr); found {
		l.Calls[at].Result = &r
	}
}
