package guestagent

import (
	"path/filepath"
	"strings"
	"testing"
)

// Only the drivers of devices that there are are loaded; one that cannot be is a note.
func TestLoadDrivers(t *testing.T) {
	sys, modules := t.TempDir(), t.TempDir()
	for name, number := range map[string]string{"virtio0": "0x0003\n", "virtio1": "0x0002\n", "virtio2": "0x0001\n"} {
		write(t, filepath.Join(sys, "bus/virtio/devices", name, "device"), number)
	}
	write(t, filepath.Join(modules, "virtio_blk", "00-virtio_blk.ko"), "no module")
	write(t, filepath.Join(modules, "vmw_vsock_virtio_transport", "00-vsock.ko"), "no module")
	notes := loadDrivers(sys, modules)
	if len(notes) != 1 || !strings.Contains(notes[0], "00-virtio_blk.ko") {
		t.Errorf("notes %q", notes)
	}
	if notes := loadDrivers(t.TempDir(), modules); len(notes) != 0 {
		t.Errorf("without devices: %q", notes)
	}
}
