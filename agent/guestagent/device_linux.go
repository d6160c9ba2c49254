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

// device is what a guest asks for reports.
type device struct {
	kind agent.Device
	// notes tell what went wrong on the way.
	notes []string
	// stop takes away what must not outlive this process; it may be nil.
	stop func() error
}

func (d *device) note(err error) {
	if err != nil {
		d.notes = append(d.notes, err.Error())
	}
}

// prepareDevice sees to it that /dev/sev-guest and configfs-tsm are there, if
// they can be, and says what is behind them.
func prepareDevice(active bool) (d device) {
	d.kind = agent.DeviceNone
	switch {
	case exists(devicePath) && exists(cuseDevice) && !active:
		d.kind = agent.DeviceSimulated // an earlier agent's, still serving
	case exists(devicePath):
		d.kind = agent.DeviceReal
		d.note(mountConfigfs())
	case active:
		d.note(loadModules(ModulesDir, "sev-guest"))
		if !waitFor(devicePath, time.Second) {
			d.note(errors.New("the kernel says that SEV-SNP is active, yet there is no " + devicePath))
			break
		}
		d.kind = agent.DeviceReal
		d.note(mountConfigfs())
	default:
		port, err := openPort(guestdev.PortName)
		if errors.Is(err, errNoPort) {
			break
		}
		if err != nil {
			d.note(err)
			break
		}
		driver := guestdev.NewDriver(port, func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "snp-agent: "+format+"\n", args...)
		})
		if err := startSimulated(driver); err != nil {
			port.Close()
			d.note(err)
			break
		}
		d.kind = agent.DeviceSimulated
		d.stop, err = mountSimulated(driver)
		d.note(err)
	}
	return d
}

// startSimulated starts the device of package guestdev; it serves until this
// process ends.
func startSimulated(driver *guestdev.Driver) error {
	if err := loadModules(ModulesDir, "cuse"); err != nil {
		return err
	}
	cuse, err := guestdev.OpenCUSE()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- driver.Serve(cuse)
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

// openClient opens the device for the client that guests use everywhere.
func openClient() (client.Device, error) {
	// The client waits two seconds between commands for the sake of Linux
	// 6.1, which took a throttled request for an attack; later kernels wait
	// themselves.
	if err := flag.Set("self_throttle_duration", "0s"); err != nil {
		return nil, err
	}
	return client.OpenDevice()
}

// fetchReport gets a report over nonce.
func fetchReport(nonce [64]byte, extended bool) (*agent.Report, error) {
	d, err := openClient()
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
