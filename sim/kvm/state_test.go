package kvm

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What the kernel keeps of KVM_SET_XSAVE is decided by XSTATE_BV alone
// (copy_uabi_to_xstate): QEMU 10.1 and later send zeros for FCW and MXCSR with
// XSTATE_BV 0, and the save area must still have 0x37F and 0x1F80.
func TestXSAVEOverlaysByXSTATE_BV(t *testing.T) {
	in := make([]byte, xsaveSize)
	f := newFPState()
	f.set(in)
	if got := readU16(f.area[xsaveFCW:]); got != 0x37F {
		t.Errorf("XSTATE_BV 0: FCW %#x, want 0x37f", got)
	}
	if got := readU32(f.area[xsaveMXCSR:]); got != 0x1F80 {
		t.Errorf("XSTATE_BV 0: MXCSR %#x, want 0x1f80", got)
	}

	putU16(in[xsaveFCW:], 0x1234)
	putU32(in[xsaveMXCSR:], 0x1FA0)
	in[xsaveXMM] = 0x55
	putU64(in[xsaveBV:], xfeatureSSE)
	f.set(in)
	if got := readU16(f.area[xsaveFCW:]); got != 0x37F {
		t.Errorf("SSE only: FCW %#x, want the old 0x37f", got)
	}
	if got := readU32(f.area[xsaveMXCSR:]); got != 0x1FA0 {
		t.Errorf("SSE only: MXCSR %#x, want the new 0x1fa0, which SSE needs", got)
	}
	if f.area[xsaveXMM] != 0x55 {
		t.Error("SSE only: XMM0 was not taken")
	}
	if out := f.get(); readU16(out[xsaveFCW:]) != 0x37F || readU32(out[xsaveMXCSR:]) != 0x1FA0 || out[xsaveXMM] != 0x55 {
		t.Error("KVM_GET_XSAVE2 does not give back what is there")
	}

	putU64(in[xsaveBV:], xfeatureFP)
	f.set(in)
	if got := readU16(f.area[xsaveFCW:]); got != 0x1234 {
		t.Errorf("FP: FCW %#x, want 0x1234", got)
	}
}

// ranges is held against a bitmap.
func TestRanges(t *testing.T) {
	const pages = 64
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		var set ranges
		var bitmap [pages]bool
		for range 30 {
			from := r.Uint64N(pages)
			to := from + 1 + r.Uint64N(pages-from)
			in := r.IntN(2) == 0
			set.set(from, to, in)
			for i := from; i < to; i++ {
				bitmap[i] = in
			}
		}
		for i, want := range bitmap {
			if set.contains(uint64(i)) != want {
				t.Fatalf("round %d: contains(%d) is %v: %v", round, i, !want, set)
			}
		}
		for i := 1; i < len(set); i++ {
			if set[i-1].to >= set[i].from {
				t.Fatalf("round %d: not disjoint and merged: %v", round, set)
			}
		}
	}
}

func TestSegmentAttributes(t *testing.T) {
	// struct kvm_segment of CS after reset: base FFFF0000, limit FFFF,
	// selector F000, type B, present, s; VMCB attribute 009B.
	seg := make([]byte, 24)
	putU64(seg, 0xFFFF0000)
	putU32(seg[8:], 0xFFFF)
	putU16(seg[12:], 0xF000)
	seg[14], seg[15], seg[18] = 0xB, 1, 1
	got := make([]byte, 16)
	putSegment(got, seg)
	want := []byte{0x00, 0xF0, 0x9B, 0x00, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0}
	if !bytes.Equal(got, want) {
		t.Errorf("CS is % x, want % x", got, want)
	}
	seg[22] = 1 // unusable: the present bit is not passed on
	putSegment(got, seg)
	if got[2] != 0x1B {
		t.Errorf("unusable CS has attribute %#x, want 0x1b", got[2])
	}
}
