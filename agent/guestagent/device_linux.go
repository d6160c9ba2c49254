package guestagent

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/go-sev-guest/client"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/sim/guestdev"
)

const (
	devicePath = "/dev/" + guestdev.DeviceName
	// cuseDevice is there when devicePath is a device in user space.
	cuseDevice = "/sys/class/cuse/" + guestdev.DeviceName
)

// prepareDevice sees to it that /dev/sev-guest is there, if it can be, and
// says what is behind it. Notes tell what went wrong on the way.
func prepareDevice(active bool) (kind agent.Device, notes []string) {
	note := func(err error) { notes = append(notes, err.Error()) }
	if exists(devicePath) {
		if exists(cuseDevice) && !active {
			return agent.DeviceSimulated, nil // an earlier agent's, still serving
		}
		return agent.DeviceReal, nil
	}
	if active {
		if err := loadModules(ModulesDir, "sev-guest"); err != nil {
			note(err)
		}
		if waitFor(devicePath, time.Second) {
			return agent.DeviceReal, notes
		}
		return agent.DeviceNone, append(notes, "the kernel says that SEV-SNP is active, yet there is no "+devicePath)
	}
	port, err := openPort(guestdev.PortName)
	if err != nil {
		if !errors.Is(err, errNoPort) {
			note(err)
		}
		return agent.DeviceNone, notes
	}
	if err := startSimulated(port); err != nil {
		port.Close()
		note(err)
		return agent.DeviceNone, notes
	}
	return agent.DeviceSimulated, notes
}

// startSimulated starts the device of package guestdev; it serves until this
// process ends.
func startSimulated(port *os.File) error {
	if err := loadModules(ModulesDir, "cuse"); err != nil {
		return err
	}
	cuse, err := guestdev.OpenCUSE()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- guestdev.Serve(cuse, port, func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "snp-agent: "+format+"\n", args...)
		})
		cuse.Close()
	}()
	for end := time.Now().Add(5 * time.Second); ; {
		select {
		case err := <-failed:
			return fmt.Errorf("the simulated %s ended at once: %v", devicePath, err)
		case <-time.After(time.Millisecond):
		}
		if exists(devicePath) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the kernel made no %s for the simulated device", devicePath)
		}
	}
}

// fetchReport gets a report over nonce with the client that guests use
// everywhere.
func fetchReport(nonce [64]byte, extended bool) (*agent.Report, error) {
	// The client waits two seconds between commands for the sake of Linux
	// 6.1, which took a throttled request for an attack; later kernels wait
	// themselves.
	if err := flag.Set("self_throttle_duration", "0s"); err != nil {
		return nil, err
	}
	d, err := client.OpenDevice()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if !extended {
		raw, err := client.GetRawReport(d, nonce)
		if err != nil {
			return nil, err
		}
		return &agent.Report{Raw: raw}, nil
	}
	raw, certs, err := client.GetRawExtendedReport(d, nonce)
	if err != nil {
		return nil, err
	}
	return &agent.Report{Raw: raw, Certs: certs}, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func waitFor(path string, patience time.Duration) bool {
	for end := time.Now().Add(patience); !exists(path); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
