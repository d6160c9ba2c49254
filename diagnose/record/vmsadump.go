package record

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// SaveAreaDump is a save area as a kernel has printed it.
type SaveAreaDump struct {
	// Page is the whole page. The kernel prints struct sev_es_save_area, which ends
	// before the page does; the rest is zero.
	Page [snp.PageSize]byte
	Line int // where the dump begins, from 1
}

var (
	// vmsaHeading is what kvm_amd says before a dump (Linux arch/x86/kvm/svm/sev.c,
	// sev_es_sync_vmsa, since 6.0): pr_debug, so that it takes
	// echo 'file sev.c +p' > /sys/kernel/debug/dynamic_debug/control.
	vmsaHeading = regexp.MustCompile(`Virtual Machine Save Area \(VMSA\):\s*$`)
	// dumpRow is a row of print_hex_dump with 16 bytes, one by one and without an offset;
	// before it whatever dmesg, journald or a console put there.
	dumpRow = regexp.MustCompile(`(?:^|[\s:>\]])((?:[0-9a-f]{2} ){0,15}[0-9a-f]{2})\s*$`)
)

// saveAreaSize is struct sev_es_save_area (Linux arch/x86/include/asm/svm.h), in bytes:
// all that is printed.
const saveAreaSize = 0x670

// maxDumps bounds how many save areas are taken of one log.
const maxDumps = 4096

// ParseSaveAreaDumps finds the save areas in a kernel log, in their order. Lines between the
// rows of a dump, of other parts of the kernel, are passed over; a dump that is not
// whole is an error.
func ParseSaveAreaDumps(r io.Reader) ([]SaveAreaDump, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxTraceLine)
	var out []SaveAreaDump
	var bytes []byte
	at, quiet := 0, 0 // the dump's line; lines since its last row
	end := func() error {
		if at == 0 {
			return nil
		}
		if len(bytes) != saveAreaSize {
			return fmt.Errorf("the dump of a save area in line %d has %d bytes, not %d: lines of it are missing, as when the kernel's log buffer overflows (log_buf_len=16M)", at, len(bytes), saveAreaSize)
		}
		d := SaveAreaDump{Line: at}
		copy(d.Page[:], bytes)
		out = append(out, d)
		at, bytes = 0, nil
		return nil
	}
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimRight(lines.Text(), "\r")
		switch m := dumpRow.FindStringSubmatch(line); {
		case vmsaHeading.MatchString(line):
			if err := end(); err != nil {
				return nil, err
			}
			if len(out) >= maxDumps {
				return nil, fmt.Errorf("more than %d save areas", maxDumps)
			}
			at, quiet = n, 0
		case at == 0:
		case m != nil && len(bytes) < saveAreaSize:
			row, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			bytes, quiet = append(bytes, row...), 0
		case len(bytes) == saveAreaSize || quiet >= 64:
			if err := end(); err != nil {
				return nil, err
			}
		default:
			quiet++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if err := end(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New(`there is no dump of a save area in it ("Virtual Machine Save Area (VMSA):"): turn it on with echo 'file sev.c +p' > /sys/kernel/debug/dynamic_debug/control, launch, and take dmesg`)
	}
	return out, nil
}

// Measured gives what of the page is measured: all of it, with GUEST_TSC_SCALE and
// GUEST_TSC_OFFSET (0x2F0 to 0x2FF) as zeros.
func (d *SaveAreaDump) Measured() []byte {
	page := d.Page
	clear(page[0x2F0:0x300])
	return page[:]
}
