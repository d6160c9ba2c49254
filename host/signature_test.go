package host

import (
	"runtime"
	"testing"

	"github.com/snplaunch/snplaunch/vmsa"
)

func TestCPUSignature(t *testing.T) {
	for eax, want := range map[uint32]uint32{
		0x00A00F11: 0xA00F11,
		0xF0B04F21: 0xB00F21, // reserved bits 12-15 and 28-31 are QEMU's to drop
		0x00B20F40: 0xB20F40,
	} {
		sig, ok := cpuSignature(func(leaf, _ uint32) (uint32, uint32, uint32, uint32) {
			if leaf != 1 {
				t.Errorf("asked for leaf %d", leaf)
			}
			return eax, 0, 0, 0
		})
		if !ok || sig != want {
			t.Errorf("0x%x: 0x%x, %v; want 0x%x", eax, sig, ok, want)
		}
	}
	if _, ok := cpuSignature(func(_, _ uint32) (uint32, uint32, uint32, uint32) { return 0, 0, 0, 0 }); ok {
		t.Error("a machine without the instruction has a signature")
	}
	sig, ok := CPUSignature()
	if family, _, _ := vmsa.SplitSignature(sig); ok != (runtime.GOARCH == "amd64") || ok && family < 5 {
		t.Errorf("this machine: 0x%x, %v", sig, ok)
	}
}
