package tsmfs

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Limits of Linux's include/linux/tsm.h.
const (
	maxInblob    = 64 // bytes, TSM_INBLOB_MAX
	maxPrivlevel = 3  // TSM_PRIVLEVEL_MAX
	// privlevelFloor is the number of the VMPCK that the driver uses.
	privlevelFloor = 0
)

// module is what all entries share.
type module struct {
	provider Provider
	mu       sync.Mutex // tsm_rwsem: of all entries, and of the provider
}

// entry is one folder in tsm/report.
type entry struct {
	*module
	gone      bool // removed
	inblob    []byte
	privlevel uint32
	// generation counts writes; made is the generation that outblob and
	// auxblob were made in.
	generation, made uint64
	outblob, auxblob []byte // outblob is nil until there is a report
}

// attribute is one file of an entry. Attributes are text, at most a page, or
// binary; show gives the whole content and store takes it.
type attribute struct {
	name   string
	binary bool
	show   func(*entry) ([]byte, syscall.Errno)
	store  func(*entry, []byte) syscall.Errno
}

// mode gives the permissions: those of Linux's CONFIGFS_ATTR_RO and _WO.
func (a *attribute) mode() uint32 {
	if a.store != nil {
		return 0o200
	}
	return 0o444
}

// attributes are those that a guest at VMPL0 sees
// (sev_report_attr_visible, sev_report_bin_attr_visible).
var attributes = []*attribute{
	{name: "generation", show: (*entry).showGeneration},
	{name: "provider", show: func(*entry) ([]byte, syscall.Errno) { return []byte(ProviderName + "\n"), 0 }},
	{name: "privlevel", store: (*entry).storePrivlevel},
	{name: "privlevel_floor", show: func(*entry) ([]byte, syscall.Errno) { return number(privlevelFloor), 0 }},
	{name: "inblob", binary: true, store: (*entry).storeInblob},
	{name: "outblob", binary: true, show: (*entry).showOutblob},
	{name: "auxblob", binary: true, show: (*entry).showAuxblob},
}

// read gives an attribute's content, ENOENT where the entry was removed.
func (e *entry) read(a *attribute) ([]byte, syscall.Errno) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return nil, syscall.ENOENT
	}
	return a.show(e)
}

// write is read's counterpart.
func (e *entry) write(a *attribute, b []byte) syscall.Errno {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return syscall.ENOENT
	}
	return a.store(e, b)
}

func (e *entry) remove() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = true
}

func (e *entry) showGeneration() ([]byte, syscall.Errno) { return number(e.generation), 0 }

func (e *entry) storePrivlevel(b []byte) syscall.Errno {
	level, errno := parseUint(string(b))
	if errno != 0 {
		return errno
	}
	if level < privlevelFloor || level > maxPrivlevel {
		return syscall.EINVAL
	}
	e.generation++
	e.privlevel = level
	return 0
}

func (e *entry) storeInblob(b []byte) syscall.Errno {
	e.generation++
	e.inblob = append([]byte(nil), b...)
	return 0
}

func (e *entry) showOutblob() ([]byte, syscall.Errno) {
	errno := e.makeReport()
	return e.outblob, errno
}

func (e *entry) showAuxblob() ([]byte, syscall.Errno) {
	errno := e.makeReport()
	return e.auxblob, errno
}

// makeReport has a report made unless there is one of the present inputs
// (tsm_report_read).
func (e *entry) makeReport() syscall.Errno {
	if len(e.inblob) == 0 {
		return syscall.EINVAL
	}
	if e.outblob != nil && e.made == e.generation {
		return 0
	}
	e.outblob, e.auxblob = nil, nil
	out, aux, errno := e.provider.NewReport(e.inblob, e.privlevel)
	if errno != 0 {
		return errno
	}
	e.outblob, e.auxblob, e.made = out, aux, e.generation
	return 0
}

func number(n uint64) []byte { return append(strconv.AppendUint(nil, n, 10), '\n') }

// parseUint reads a number as the kernel's kstrtouint with base 0 does: decimal,
// or 0x and 0 as in C; one plus sign before and one newline after it are allowed.
func parseUint(s string) (uint32, syscall.Errno) {
	s, _, _ = strings.Cut(s, "\x00")
	s = strings.TrimSuffix(strings.TrimPrefix(s, "+"), "\n")
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		s, base = s[2:], 16
	case strings.HasPrefix(s, "0"):
		base = 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), n > math.MaxUint32:
		return 0, syscall.ERANGE
	case err != nil:
		return 0, syscall.EINVAL
	}
	return uint32(n), 0
}
