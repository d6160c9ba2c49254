package launcher

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
)

// The elements of a libvirt domain (formatdomain, "Launch Security" for sev-snp). What
// libvirt has no element for goes into <qemu:commandline>.
type (
	domain struct {
		XMLName  xml.Name       `xml:"domain"`
		Type     string         `xml:"type,attr"`
		QEMU     string         `xml:"xmlns:qemu,attr"`
		Name     string         `xml:"name"`
		Memory   domainMemory   `xml:"memory"`
		Backing  *domainBacking `xml:"memoryBacking"`
		VCPU     int            `xml:"vcpu"`
		OS       domainOS       `xml:"os"`
		Features domainFeatures `xml:"features"`
		CPU      *domainCPU     `xml:"cpu"`
		Reboot   string         `xml:"on_reboot"`
		Devices  domainDevices  `xml:"devices"`
		Security domainSecurity `xml:"launchSecurity"`
		Args     *domainArgs    `xml:"qemu:commandline"`
	}
	domainMemory struct {
		Unit string `xml:"unit,attr"`
		MiB  int    `xml:",chardata"`
	}
	domainBacking struct {
		Source domainType `xml:"source"`
		Access domainMode `xml:"access"`
	}
	domainType struct {
		Type string `xml:"type,attr"`
	}
	domainMode struct {
		Mode string `xml:"mode,attr"`
	}
	domainOS struct {
		Type struct {
			Arch    string `xml:"arch,attr"`
			Machine string `xml:"machine,attr"`
			Text    string `xml:",chardata"`
		} `xml:"type"`
		Loader struct {
			Type      string `xml:"type,attr"`
			Stateless string `xml:"stateless,attr"`
			Path      string `xml:",chardata"`
		} `xml:"loader"`
		Kernel  string `xml:"kernel,omitempty"`
		Initrd  string `xml:"initrd,omitempty"`
		Cmdline string `xml:"cmdline,omitempty"`
	}
	domainFeatures struct {
		ACPI struct{}    `xml:"acpi"`
		APIC struct{}    `xml:"apic"`
		SMM  domainState `xml:"smm"`
	}
	domainState struct {
		State string `xml:"state,attr"`
	}
	domainCPU struct {
		Mode  string `xml:"mode,attr"`
		Match string `xml:"match,attr,omitempty"`
		Check string `xml:"check,attr"`
		Model *struct {
			Fallback string `xml:"fallback,attr"`
			Name     string `xml:",chardata"`
		} `xml:"model"`
	}
	domainDevices struct {
		Emulator string       `xml:"emulator"`
		Disks    []domainDisk `xml:"disk"`
		Serial   domainType   `xml:"serial"`
		Vsock    *domainVsock `xml:"vsock"`
	}
	domainDisk struct {
		Type   string `xml:"type,attr"`
		Device string `xml:"device,attr"`
		Driver struct {
			Name  string `xml:"name,attr"`
			Type  string `xml:"type,attr"`
			IOMMU string `xml:"iommu,attr"`
		} `xml:"driver"`
		Source struct {
			File string `xml:"file,attr"`
		} `xml:"source"`
		Target struct {
			Dev string `xml:"dev,attr"`
			Bus string `xml:"bus,attr"`
		} `xml:"target"`
		ReadOnly *struct{} `xml:"readonly"`
		Serial   string    `xml:"serial,omitempty"`
	}
	domainVsock struct {
		Model string `xml:"model,attr"`
		CID   struct {
			Auto    string `xml:"auto,attr"`
			Address string `xml:"address,attr,omitempty"`
		} `xml:"cid"`
		Driver struct {
			IOMMU string `xml:"iommu,attr"`
		} `xml:"driver"`
	}
	domainSecurity struct {
		Type         string `xml:"type,attr"`
		KernelHashes string `xml:"kernelHashes,attr,omitempty"`
		AuthorKey    string `xml:"authorKey,attr,omitempty"`
		VCEK         string `xml:"vcek,attr,omitempty"`
		Policy       string `xml:"policy"`
		Workarounds  string `xml:"guestVisibleWorkarounds,omitempty"`
		IDBlock      string `xml:"idBlock,omitempty"`
		IDAuth       string `xml:"idAuth,omitempty"`
		HostData     string `xml:"hostData,omitempty"`
	}
	domainArgs struct {
		Args []domainArg `xml:"qemu:arg"`
	}
	domainArg struct {
		Value string `xml:"value,attr"`
	}
)

// LibvirtDomain gives the libvirt domain of a guest, as XML. It computes the digest and
// signs the ID block as Run does. The C-bit's place and the reduced address width are
// left to libvirt, which asks the host that it runs on.
func LibvirtDomain(g *guest.Guest, o Options) ([]byte, error) {
	r, err := prepared(g, o)
	if err != nil {
		return nil, err
	}
	d := domain{Type: "kvm", QEMU: "http://libvirt.org/schemas/domain/qemu/1.0", Name: g.Name, Memory: domainMemory{"MiB", g.MemoryMiB}, VCPU: g.VCPUs, Reboot: "destroy"}
	if d.Name == "" {
		d.Name = "snp"
	}
	if g.MemoryBackend == guest.MemoryMemfd {
		d.Backing = &domainBacking{domainType{"memfd"}, domainMode{"shared"}}
	}
	d.OS.Type.Arch, d.OS.Type.Machine, d.OS.Type.Text = "x86_64", "q35", "hvm"
	d.OS.Loader.Type, d.OS.Loader.Stateless, d.OS.Loader.Path = "rom", "yes", g.Firmware
	d.OS.Kernel, d.OS.Initrd, d.OS.Cmdline = g.Kernel, g.Initrd, g.Append
	d.Features.SMM.State = "off"
	var args []string
	switch {
	case g.CPU == "host":
		d.CPU = &domainCPU{Mode: "host-passthrough", Check: "none"}
	case strings.Contains(g.CPU, ","): // QEMU's properties, which libvirt has no words for
		args = append(args, "-cpu", g.CPU)
	default:
		d.CPU = &domainCPU{Mode: "custom", Match: "exact", Check: "none"}
		d.CPU.Model = &struct {
			Fallback string `xml:"fallback,attr"`
			Name     string `xml:",chardata"`
		}{"forbid", g.CPU}
	}
	d.Devices.Emulator, d.Devices.Serial = o.QEMU, domainType{"pty"}
	d.addDevices(g)
	d.secure(g, r.id)
	rest := *g
	rest.Disks, rest.VsockCID = nil, 0
	if args = append(args, deviceArguments(&rest, plumbing{})...); len(args) > 0 {
		d.Args = &domainArgs{}
		for _, a := range args {
			// libvirt gives its own devices the slots from 1 on.
			if rest, ok := strings.CutPrefix(a, "virtio-net-pci,"); ok {
				a = "virtio-net-pci,bus=pcie.0,addr=0x1e," + rest
			}
			d.Args.Args = append(d.Args.Args, domainArg{a})
		}
	}
	text, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the domain: %w", err)
	}
	return append(text, '\n'), nil
}

// addDevices adds those that libvirt has elements for.
func (d *domain) addDevices(g *guest.Guest) {
	for i, disk := range g.Disks {
		var e domainDisk
		e.Type, e.Device, e.Serial = "file", "disk", disk.Serial
		e.Driver.Name, e.Driver.Type, e.Driver.IOMMU = "qemu", string(guest.DiskRaw), "on"
		if disk.Format != "" {
			e.Driver.Type = string(disk.Format)
		}
		e.Source.File, e.Target.Dev, e.Target.Bus = disk.File, diskName(i), "virtio"
		if disk.ReadOnly {
			e.ReadOnly = &struct{}{}
		}
		d.Devices.Disks = append(d.Devices.Disks, e)
	}
	if g.VsockCID != 0 {
		v := &domainVsock{Model: "virtio"}
		v.CID.Auto, v.Driver.IOMMU = "yes", "on"
		if g.VsockCID != guest.VsockAuto {
			v.CID.Auto, v.CID.Address = "no", fmt.Sprint(g.VsockCID)
		}
		d.Devices.Vsock = v
	}
}

// diskName is the name of the disk of that number in Linux: vda, …, vdz, vdaa, ….
func diskName(i int) string {
	name := ""
	for i++; i > 0; i = (i - 1) / 26 {
		name = string(rune('a'+(i-1)%26)) + name
	}
	return "vd" + name
}

// secure says how the guest is protected.
func (d *domain) secure(g *guest.Guest, id *signedBlock) {
	s := &d.Security
	s.Type, s.Policy = "sev-snp", fmt.Sprintf("0x%08x", uint64(g.Policy))
	if g.UsesKernelHashes() {
		s.KernelHashes = "yes"
	}
	if g.VCEKDisabled {
		s.VCEK = "no"
	}
	if len(g.GuestVisibleWorkarounds) > 0 {
		var gosvw [16]byte
		copy(gosvw[:], g.GuestVisibleWorkarounds)
		s.Workarounds = base64.StdEncoding.EncodeToString(gosvw[:])
	}
	if g.HostDataSet {
		s.HostData = base64.StdEncoding.EncodeToString(g.HostData[:])
	}
	if id != nil {
		s.IDBlock, s.IDAuth = base64.StdEncoding.EncodeToString(id.block), base64.StdEncoding.EncodeToString(id.auth)
		if id.authorKeyEnabled {
			s.AuthorKey = "yes"
		}
	}
}
