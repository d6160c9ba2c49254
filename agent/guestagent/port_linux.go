package guestagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errNoPort means that the host has no port of the name asked for.
var errNoPort = errors.New("no virtio-serial port")

// openPort opens the virtio-serial port of that name. Without udev there is no
// /dev/virtio-ports, so the name is looked up in sysfs.
func openPort(name string) (*os.File, error) {
	dev, err := findPort("/sys/class/virtio-ports", name)
	if err != nil {
		return nil, err
	}
	path := "/dev/" + dev
	// Blocking: a port that is opened without O_NONBLOCK waits for the host's
	// end instead of reporting the end of the file.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening port %s at %s: %w", name, path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// waitPort is openPort with some patience: ports appear a moment after their
// device.
func waitPort(name string, patience time.Duration) (*os.File, error) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		f, err := openPort(name)
		if err == nil || time.Now().After(end) {
			return f, err
		}
	}
}

// findPort gives the device of the port of that name, such as vport1p1.
func findPort(class, name string) (string, error) {
	names, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return "", err
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err == nil && strings.TrimSpace(string(b)) == name {
			return filepath.Base(filepath.Dir(n)), nil
		}
	}
	return "", fmt.Errorf("%w is named %s; start QEMU with -device virtio-serial-pci and -device virtserialport,name=%s", errNoPort, name, name)
}
