// Package guestdev gives a guest that runs without SEV-SNP a /dev/sev-guest
// whose answers come from a software Secure Processor outside the guest.
//
// In the guest, Driver stands for Linux's sev-guest driver. Its Serve is a
// character device in user space (CUSE): it takes the three ioctls of Linux's
// include/uapi/linux/sev-guest.h from unmodified clients and sends the guest
// message in each of them over a virtio-serial port named PortName. Its
// NewReport makes the reports of configfs-tsm, whose files are elsewhere
// (package agent/tsmfs). At the other end of the port, ServeHost hands each
// message to a Handler and sends its answer back.
//
// The messages travel in the clear: what a real guest encrypts with a VMPCK so
// that the hypervisor cannot read it, this device hands to the hypervisor,
// which here is the Secure Processor as well.
package guestdev

// PortName is the name of the virtio-serial port between the device in the
// guest and the host.
const PortName = "org.snplaunch.sev-guest.0"

// DeviceName is the name under /dev of the device in the guest.
const DeviceName = "sev-guest"

// Guest message types (AMD document 56860, "Guest Messages"). A response has
// the type of its request plus one.
const (
	MsgKeyReq    = 3
	MsgKeyRsp    = 4
	MsgReportReq = 5
	MsgReportRsp = 6
)
