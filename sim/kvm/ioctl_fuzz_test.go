package kvm

import "testing"

// FuzzIoctl makes arbitrary ioctls, with arbitrary arguments, on every kind of
// file. None may panic, and none that is unknown may succeed.
func FuzzIoctl(f *testing.F) {
	for _, r := range []uint32{ioMemoryEncryptOp, ioSetUserMemory2, ioSetMemoryAttributes, ioSetMSRs, ioSetXSAVE, ioSetCPUID2, ioEnableCap, ioSetIRQChip, ioSevIssueCommand} {
		f.Add(r, make([]byte, 256))
	}
	f.Fuzz(func(t *testing.T, request uint32, in []byte) {
		m := newMachine(t, vmSNP)
		m.start()
		m.memory16M()
		v := m.vcpu(0)
		if len(in) > 64<<10 {
			return
		}
		arg := m.put(in)
		for _, o := range []Object{m.open("/dev/kvm"), m.open("/dev/sev"), m.vm, v, m.gmem} {
			a := o.Ioctl(m, request, arg)
			if a.New != nil {
				a.New.Close()
			}
			if a.Errno == 0 && request>>8&0xFF != 0xAE && request != ioSevIssueCommand {
				t.Fatalf("request %#x on %T succeeded", request, o)
			}
		}
	})
}
