package measure_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// Nothing needs to be a file: any io.ReaderAt is an input, and the SHA-256 of
// kernel, initrd and command line stand for them.
func Example() {
	firmware := ovmftest.AmdSev().Build() // yours: what OVMF.amdsev.fd holds
	kernel := sha256.Sum256([]byte("kernel"))

	g := guest.Default()
	g.VCPUs, g.CPU, g.Append = 2, "EPYC-Genoa", "console=ttyS0"
	r, err := measure.MeasureWith(&g, &guest.Inputs{
		Firmware: guest.NewInput("OVMF.fd", bytes.NewReader(firmware), int64(len(firmware))),
		Kernel:   guest.DigestInput("vmlinuz", kernel),
	}, measure.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.LaunchDigest)
	fmt.Println(r.Host.Describe())
	// Output:
	// 2f2b290a2f60df848f6f8ee9bbc749a35de6598b24a577b144d9587fd7a978e51c7f3de457bd415415350dfc1799efca
	// 6.11+ (Linux 6.11 and later): SEV_FEATURES 0x1 (SNPActive), FPU reset state
}
