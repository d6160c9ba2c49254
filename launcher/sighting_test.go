package launcher

import (
	"strings"
	"testing"
)

func TestLookout(t *testing.T) {
	for _, c := range []struct {
		name, console string
		want          string
	}{
		{"nothing", "", "firmware"},
		{"what firmware clears the screen with", "\x1b[2J\x1b[001;001H\x1b[=3h", "firmware"},
		{"no kernel", "\x1b[2JBdsDxe: failed to load Boot0002 \"Grub Bootloader\" from Fv(x): Not Found\r\nBdsDxe: No bootable option or device was found.\r\n",
			`firmware without anything to boot, "BdsDxe: No bootable option or device was found."`},
		{"stub", "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r\n", `the kernel's EFI stub, "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path"`},
		{"kernel", "[    0.000000] Linux version 6.12.95 (x)\r\n[    0.1] Something else\r\n", `kernel, "Linux version 6.12.95 (x)"`},
		{"panic", "[ 1.0] Linux version 6\n[ 2.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[ 2.1] CPU: 0\n",
			`kernel panic, "Kernel panic - not syncing: VFS: Unable to mount root fs"`},
		{"init", "[    4.5] Run /init as init process\n", `init, "Run /init as init process"`},
		{"an unfinished line", "[ 2.0] Kernel panic - not syncing: x", `kernel panic, "Kernel panic - not syncing: x"`},
	} {
		for _, step := range []int{1, 3, 1 << 20} {
			l := newLookout()
			for s := c.console; s != ""; {
				n := min(step, len(s))
				if wrote, err := l.Write([]byte(s[:n])); wrote != n || err != nil {
					t.Fatalf("%s: wrote %d of %d, %v", c.name, wrote, n, err)
				}
				s = s[n:]
			}
			if got := l.seen().String(); got != c.want {
				t.Errorf("%s, %d bytes at a time: seen %s, want %s", c.name, step, got, c.want)
			}
		}
	}
}

func TestLookoutHoldsOneLine(t *testing.T) {
	l := newLookout()
	for range 1000 {
		l.Write([]byte(strings.Repeat("x", 10000)))
	}
	if len(l.line) > lookoutLine || cap(l.line) > 4*lookoutLine {
		t.Errorf("the lookout holds %d bytes of a line without end", cap(l.line))
	}
}

func TestOutcomeOfAGuestThatEnded(t *testing.T) {
	kernel := sighting{stage: stageKernel}
	for _, c := range []struct {
		name string
		life *life
		seen sighting
		want Outcome
		says string

		killed string
	}{
		{"event", &life{panicked: true, reason: "guest-reset"}, kernel, OutcomePanicked, "panicked", ""},
		{"console", &life{reason: "guest-reset"}, sighting{stagePanic, "Kernel panic - not syncing: x"}, OutcomePanicked, "not syncing: x", ""},
		{"KVM", &life{status: "internal-error"}, kernel, OutcomeInternalError, "internal-error", ""},
		{"disk", &life{status: "io-error"}, kernel, OutcomeEnded, "io-error", ""},
		{"nothing to boot", &life{reason: "guest-shutdown"}, sighting{stage: stageNoBoot}, OutcomeNotBooted, "nothing to boot", ""},
		{"power-off", &life{reason: "guest-shutdown"}, kernel, OutcomeEnded, "guest-shutdown", ""},
		{"killed", &life{}, kernel, OutcomeEnded, "without a word", ""},
		{"by a signal", &life{}, kernel, OutcomeEnded, "QEMU was ended by signal 9", "QEMU was ended by signal 9 (SIGKILL)"},
		{"by a signal, after its end", &life{reason: "guest-reset"}, kernel, OutcomeEnded, "guest-reset", "QEMU was ended by signal 9 (SIGKILL)"},
	} {
		got, message := c.life.ended(c.seen, false, c.killed)
		if got != c.want || !strings.Contains(message, c.says) {
			t.Errorf("%s: %s, %q; want %s, and %q said", c.name, got, message, c.want, c.says)
		}
	}
}
