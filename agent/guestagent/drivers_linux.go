package guestagent

import (
	"os"
	"path/filepath"
	"strings"
)

// drivers are the modules for the virtio devices that a guest can be given, by the
// device's number (Linux virtio_ids.h). A kernel that has them built in needs none.
var drivers = map[string]string{
	"0x0001": "virtio_net",
	"0x0002": "virtio_blk",
	"0x0013": "vmw_vsock_virtio_transport",
}

// loadDrivers loads the drivers of the devices that there are, and gives a note for
// each that failed. sys is where sysfs is mounted.
func loadDrivers(sys, modules string) (notes []string) {
	devices, err := filepath.Glob(filepath.Join(sys, "bus/virtio/devices/*/device"))
	if err != nil {
		return []string{err.Error()}
	}
	for _, device := range devices {
		number, err := os.ReadFile(device)
		if err != nil {
			notes = append(notes, err.Error())
			continue
		}
		if module, ok := drivers[strings.TrimSpace(string(number))]; ok {
			if err := loadModules(modules, module); err != nil {
				notes = append(notes, err.Error())
			}
		}
	}
	return notes
}
