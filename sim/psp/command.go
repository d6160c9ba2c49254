package psp

import "github.com/snplaunch/snplaunch/snp"

// Command is the number of a firmware command (Linux include/linux/psp-sev.h,
// SEV_CMD_SNP_*).
type Command uint32

const (
	CommandDecommission Command = 0x090
	CommandActivate     Command = 0x091
	CommandGCTXCreate   Command = 0x093
	CommandGuestRequest Command = 0x094
	CommandLaunchStart  Command = 0x0A0
	CommandLaunchUpdate Command = 0x0A1
	CommandLaunchFinish Command = 0x0A2
)

// Sizes in bytes of command buffers (Linux struct sev_data_snp_*).
var commandSizes = map[Command]int{
	CommandDecommission: 8, CommandActivate: 12, CommandGCTXCreate: 8, CommandGuestRequest: 24,
	CommandLaunchStart: 48, CommandLaunchUpdate: 28, CommandLaunchFinish: 64,
}

// physicalBits are those of a system-physical address.
const physicalBits = 52

// Page is a page of the machine's memory with what the RMP says of it.
type Page struct {
	RMPEntry
	// Data has snp.PageSize bytes, or LargePageSize where RMPEntry.TwoMiB.
	Data  []byte
	guest *Guest // of a context page
}

// Memory is the machine's memory as the firmware finds it, by system-physical
// address. What is not there belongs to the hypervisor.
type Memory map[uint64]*Page

// Command is the firmware as the host's driver meets it: a command's number and
// its buffer, in which addresses name pages of memory. Guest's methods are
// the same commands without buffers and memory; what KVM does with the RMP comes
// between the two.
//
// Reserved bits and addresses are checked before anything else, then that the
// platform is in state SNP-INIT, then that the first address names a context.
func (p *Platform) Command(m Memory, c Command, buf []byte) snp.Status {
	size, known := commandSizes[c]
	switch {
	case !known:
		return snp.StatusInvalidCommand
	case len(buf) < size, !physical(le.Uint64(buf), snp.PageSize):
		return snp.StatusInvalidParam
	}
	buf = buf[:size]
	context := m[le.Uint64(buf)]
	var do func() snp.Status
	switch c {
	case CommandGCTXCreate:
		return p.commandGCTXCreate(context)
	case CommandActivate:
		do = func() snp.Status { return context.guest.activate(le.Uint32(buf[8:]), m.assigned(le.Uint32(buf[8:]))) }
	case CommandDecommission:
		do = func() snp.Status { return m.decommission(context) }
	case CommandLaunchStart:
		// 00 GCTX_PADDR, 08 POLICY, 10 MA_GCTX_PADDR, 18 bit 0 MA_EN, bit 1 IMI_EN,
		// 1C DESIRED_TSC_KHZ, 20 GOSVW.
		if le.Uint32(buf[0x18:])&^3 != 0 || !physical(le.Uint64(buf[0x10:]), snp.PageSize) {
			return snp.StatusInvalidParam
		}
		do = func() snp.Status { return m.launchStart(context.guest, buf) }
	case CommandLaunchUpdate:
		// 00 GCTX_PADDR, 08 bit 0 PAGE_SIZE, bits 3:1 PAGE_TYPE, bit 4 IMI_PAGE, 0C
		// reserved, 10 PAGE_PADDR, 18 reserved, VMPL1, VMPL2, VMPL3 permissions.
		if le.Uint32(buf[0x08:])&^0x1F != 0 || le.Uint32(buf[0x0C:]) != 0 || !physical(le.Uint64(buf[0x10:]), snp.PageSize) ||
			buf[0x18] != 0 || (buf[0x19]|buf[0x1A]|buf[0x1B])&^0xF != 0 {
			return snp.StatusInvalidParam
		}
		do = func() snp.Status { return m.launchUpdate(context.guest, buf) }
	case CommandLaunchFinish:
		// 00 GCTX_PADDR, 08 ID_BLOCK_PADDR, 10 ID_AUTH_PADDR, 18 bit 0 ID_BLOCK_EN,
		// bit 1 AUTH_KEY_EN, bit 2 VCEK_DIS, 20 HOST_DATA.
		if le.Uint64(buf[0x18:])&^7 != 0 || !physical(le.Uint64(buf[0x08:]), 1) || !physical(le.Uint64(buf[0x10:]), 1) {
			return snp.StatusInvalidParam
		}
		do = func() snp.Status { return m.launchFinish(context.guest, buf) }
	case CommandGuestRequest:
		// 00 GCTX_PADDR, 08 REQ_PADDR, 10 RES_PADDR.
		if !physical(le.Uint64(buf[0x08:]), snp.PageSize) || !physical(le.Uint64(buf[0x10:]), snp.PageSize) {
			return snp.StatusInvalidParam
		}
		do = func() snp.Status { return m.guestRequest(context.guest, buf) }
	}
	switch {
	case p.shutDown():
		return snp.StatusInvalidPlatformState
	case context == nil, context.State != PageContext:
		return snp.StatusInvalidGuest
	}
	return do()
}

// physical says whether an address can be one, of something so aligned.
func physical(address, alignment uint64) bool {
	return address>>physicalBits == 0 && address%alignment == 0
}

func (p *Platform) shutDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func (p *Platform) commandGCTXCreate(page *Page) snp.Status {
	switch {
	case p.shutDown():
		return snp.StatusInvalidPlatformState
	case page == nil, page.State != PageFirmware:
		return snp.StatusInvalidPageState
	}
	page.State, page.guest = PageContext, p.CreateContext()
	clear(page.Data)
	return snp.StatusSuccess
}

// assigned says whether the RMP has pages of an ASID.
func (m Memory) assigned(asid uint32) bool {
	for _, page := range m {
		if (page.State == PagePreGuest || page.State == PageGuest) && page.ASID == asid && asid != 0 {
			return true
		}
	}
	return false
}

func (m Memory) decommission(page *Page) snp.Status {
	st := page.guest.Decommission()
	if st == snp.StatusSuccess {
		page.State, page.guest = PageFirmware, nil
	}
	return st
}

func (m Memory) launchStart(g *Guest, buf []byte) snp.Status {
	s := StartParams{
		Policy: snp.GuestPolicy(le.Uint64(buf[0x08:])), IMIEnabled: buf[0x18]&2 != 0,
		DesiredTSCKHz: le.Uint32(buf[0x1C:]), GOSVW: [16]byte(buf[0x20:0x30]),
	}
	if buf[0x18]&1 == 0 {
		return g.Start(s)
	}
	agent := m[le.Uint64(buf[0x10:])]
	if agent == nil || agent.State != PageContext {
		// The guest's own state is looked at first.
		if g.state != stateInit {
			return snp.StatusInvalidGuestState
		}
		return snp.StatusInvalidGuest
	}
	s.Agent = agent.guest
	return g.Start(s)
}

func (m Memory) launchUpdate(g *Guest, buf []byte) snp.Status {
	flags, address := le.Uint32(buf[0x08:]), le.Uint64(buf[0x10:])
	u := UpdateParams{
		TwoMiB: flags&1 != 0, Type: snp.PageType(flags >> 1 & 7), IMIPage: flags&0x10 != 0,
		VMPL1: buf[0x19], VMPL2: buf[0x1A], VMPL3: buf[0x1B],
	}
	u.Aligned = !u.TwoMiB || address%LargePageSize == 0
	page := m[address]
	if page != nil {
		u.Entry, u.Page = page.RMPEntry, page.Data
	}
	st := g.Update(u)
	if st == snp.StatusSuccess {
		page.State = PageGuest
	}
	return st
}

func (m Memory) launchFinish(g *Guest, buf []byte) snp.Status {
	flags := buf[0x18]
	f := FinishParams{
		IDBlockEnabled: flags&1 != 0, AuthorKeyEnabled: flags&2 != 0, VCEKDisabled: flags&4 != 0,
		HostData: snp.HostData(buf[0x20:0x40]),
	}
	if f.IDBlockEnabled {
		f.IDBlock = m.read(le.Uint64(buf[0x08:]), snp.IDBlockSize)
		f.IDAuth = m.read(le.Uint64(buf[0x10:]), snp.IDAuthSize)
	}
	return g.LaunchFinish(f)
}

func (m Memory) guestRequest(g *Guest, buf []byte) snp.Status {
	request, response := m[le.Uint64(buf[0x08:])], m[le.Uint64(buf[0x10:])]
	var in []byte
	if request != nil {
		in = request.Data
	}
	if response == nil || response.State != PageFirmware {
		if g.state != stateRunning {
			return snp.StatusInvalidGuestState
		}
		return snp.StatusInvalidPageState
	}
	out, st := g.Request(in)
	if st == snp.StatusSuccess {
		copy(response.Data, out)
	}
	return st
}

// read gives n bytes from an address on, nil where memory does not hold them.
func (m Memory) read(address uint64, n int) (out []byte) {
	for len(out) < n {
		page, offset := m[address&^(snp.PageSize-1)], address%snp.PageSize
		if page == nil || len(page.Data) != snp.PageSize {
			return nil
		}
		chunk := page.Data[offset:]
		chunk = chunk[:min(len(chunk), n-len(out))]
		out = append(out, chunk...)
		address += uint64(len(chunk))
	}
	return out
}
