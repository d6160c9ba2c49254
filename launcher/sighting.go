package launcher

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// stage is how far a guest has come, by what its console shows.
type stage string

const (
	stageFirmware stage = "firmware"
	stageNoBoot   stage = "firmware without anything to boot"
	stageStub     stage = "the kernel's EFI stub"
	stageKernel   stage = "kernel"
	stagePanic    stage = "kernel panic"
	stageInit     stage = "init"
	stageAgent    stage = "agent"
	stageCommand  stage = "command"
)

// sighting is the last thing that was recognised on a guest's console.
type sighting struct {
	stage stage
	line  string // that said so; empty for what the console did not say
}

// shownLine is how much of a line a message repeats, in bytes.
const shownLine = 100

func (s sighting) String() string {
	if s.line == "" {
		return string(s.stage)
	}
	line := s.line
	if len(line) > shownLine {
		line = line[:shownLine-1] + "…"
	}
	return fmt.Sprintf("%s, %q", s.stage, line)
}

// marks are what tells a stage: OVMF's boot manager (BdsDxe), the EFI stub and
// the kernel itself, in the words that EDK2 and Linux print.
var marks = []struct {
	holds string // what every such line does; a guest may have much to say that is none
	text  *regexp.Regexp
	stage stage
}{
	{"BdsDxe: ", regexp.MustCompile(`BdsDxe: (No bootable option|failed to ).*`), stageNoBoot},
	{"EFI stub: ", regexp.MustCompile(`EFI stub: .*`), stageStub},
	{"Linux version ", regexp.MustCompile(`Linux version .*`), stageKernel},
	{"Kernel panic - ", regexp.MustCompile(`Kernel panic - not syncing.*`), stagePanic},
	{" as init process", regexp.MustCompile(`Run \S+ as init process`), stageInit},
}

// lookout reads a guest's console for marks. It holds one line, however much the guest
// prints.
type lookout struct {
	mu   sync.Mutex
	line []byte
	last sighting
	said bool // anything at all
	// left is closed when the guest is seen to have left the firmware, at leftAt.
	left   chan struct{}
	leftAt time.Time
	// panicked is closed when the guest's kernel is seen to panic.
	panicked chan struct{}
	fell     bool // panicked is closed
}

const lookoutLine = 512 // bytes of a line that are looked at

func newLookout() *lookout {
	return &lookout{last: sighting{stage: stageFirmware}, left: make(chan struct{}), panicked: make(chan struct{})}
}

// Write implements io.Writer; it never fails.
func (l *lookout) Write(p []byte) (int, error) {
	n := len(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = true
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		if room := lookoutLine - len(l.line); room > 0 {
			l.line = append(l.line, line[:min(room, len(line))]...)
		}
		if whole {
			l.look()
			l.line = l.line[:0]
		}
		p = rest
	}
	return n, nil
}

func (l *lookout) look() {
	for _, m := range marks {
		if !bytes.Contains(l.line, []byte(m.holds)) {
			continue
		}
		if found := m.text.Find(l.line); found != nil {
			l.see(sighting{m.stage, printable(found)})
			return
		}
	}
}

// reached notes a stage that something else than the console showed.
func (l *lookout) reached(s stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.see(sighting{stage: s})
}

func (l *lookout) see(s sighting) {
	l.last = s
	if s.stage != stageFirmware && s.stage != stageNoBoot && l.leftAt.IsZero() {
		l.leftAt = time.Now()
		close(l.left)
	}
	if s.stage == stagePanic && !l.fell {
		l.fell = true
		close(l.panicked)
	}
}

// leftFirmware says when the guest was first seen outside the firmware; zero: never.
func (l *lookout) leftFirmware() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leftAt
}

// silent says whether the guest has written nothing at all.
func (l *lookout) silent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.said
}

// seen gives the last sighting; an unfinished line counts too.
func (l *lookout) seen() sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.look()
	}
	return l.last
}

// printable keeps a guest's control characters out of messages.
func printable(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7F || r == '\uFFFD' {
			return -1
		}
		return r
	}, string(b)))
}
