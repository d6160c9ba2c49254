package snp

import "testing"

// The layouts by their bytes (AMD 57230; virtee/sev has the same).
func TestTCBLayouts(t *testing.T) {
	p := TCBParts{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 5}
	for layout, want := range map[TCBLayout]TCBVersion{TCBLayoutMilan: 0x0504000000000302, TCBLayoutTurin: 0x0500000004030201} {
		if got := layout.Pack(p); got != want {
			t.Errorf("layout %d packs %s, want %s", layout, got, want)
		}
		back := p
		if layout == TCBLayoutMilan {
			back.FMC = 0 // which it has no place for
		}
		if got := layout.Unpack(want); got != back {
			t.Errorf("layout %d unpacks %+v, want %+v", layout, got, back)
		}
	}
}

func TestTCBAtMost(t *testing.T) {
	p := TCBParts{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 5}
	if !p.AtMost(p) {
		t.Error("a TCB is above itself")
	}
	for name, higher := range map[string]TCBParts{
		"FMC": {2, 2, 3, 4, 5}, "boot loader": {1, 3, 3, 4, 5}, "TEE": {1, 2, 4, 4, 5}, "SNP": {1, 2, 3, 5, 5}, "microcode": {1, 2, 3, 4, 6},
		"SNP, with less microcode": {1, 2, 3, 5, 0},
	} {
		if higher.AtMost(p) {
			t.Errorf("%s: not seen as higher", name)
		}
		if name != "SNP, with less microcode" && !p.AtMost(higher) {
			t.Errorf("%s: not seen as lower", name)
		}
	}
}
