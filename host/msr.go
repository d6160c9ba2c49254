package host

import (
	"encoding/binary"
	"io"
	"os"
)

// Model-specific registers that tell of SNP (AMD64 Architecture Programmer's
// Manual, volume 2, 15.34 and 15.36).
const (
	msrSYSCFG  = 0xC0010010
	msrRMPBase = 0xC0010132
	msrRMPEnd  = 0xC0010133
	msrRMPCfg  = 0xC0010136 // segmented RMP, from Turin on
)

// Bits of SYSCFG.
const (
	syscfgMemEncryption = 1 << 23 // MemEncryptionModEn, "SMEE" in the BIOS
	syscfgSNP           = 1 << 24 // SecureNestedPagingEn
	syscfgVMPL          = 1 << 25 // VMPLEn
)

// Registers are what the first processor's registers say, where the kernel lets them
// be read (module msr, CAP_SYS_RAWIO).
type Registers struct {
	Known        bool   `json:"known"`
	Error        string `json:"error,omitempty"` // why they are not known
	SYSCFG       uint64 `json:"syscfg"`
	RMPBase      uint64 `json:"rmp_base"`
	RMPEnd       uint64 `json:"rmp_end"`
	SegmentedRMP bool   `json:"segmented_rmp"`
}

// registers reads those that the processor has.
func (p probe) registers() Registers {
	if err := p.ctx.Err(); err != nil {
		return Registers{Error: err.Error()}
	}
	read := p.root.MSR
	if read == nil {
		f, err := os.Open(p.path("dev/cpu/0/msr"))
		if err != nil {
			return Registers{Error: reasonOf(err)}
		}
		defer f.Close()
		read = func(number uint32) (uint64, error) { return readMSR(f, number) }
	}
	syscfg, err := read(msrSYSCFG)
	if err != nil {
		return Registers{Error: "SYSCFG: " + reasonOf(err)}
	}
	r := Registers{Known: true, SYSCFG: syscfg}
	// Processors without SNP do not have these, and Milan and Genoa not the last.
	r.RMPBase, _ = read(msrRMPBase)
	r.RMPEnd, _ = read(msrRMPEnd)
	if cfg, err := read(msrRMPCfg); err == nil {
		r.SegmentedRMP = cfg&1 != 0
	}
	return r
}

// readMSR reads 8 bytes at the offset that is the register's number: the device
// numbers registers, not bytes (arch/x86/kernel/msr.c).
func readMSR(f io.ReaderAt, number uint32) (uint64, error) {
	var b [8]byte
	if _, err := f.ReadAt(b[:], int64(number)); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
