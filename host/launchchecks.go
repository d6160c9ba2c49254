package host

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

// Conditions are what a launch meets: the kernel and the firmware that judge its
// policy, and the QEMU that carries it out. What is zero is not known, and refuses nothing.
type Conditions struct {
	// KernelMajor and KernelMinor are the version of the kernel whose KVM it is.
	KernelMajor, KernelMinor int
	// PolicyBits are the policy bits that KVM passes on, where it tells them.
	PolicyBits snp.GuestPolicy
	// FirmwareAPI is the SEV firmware's, major in the higher byte.
	FirmwareAPI uint16
	// SMT: simultaneous multithreading is known to be in use.
	SMT bool
	// Sockets is how many there are.
	Sockets int
	// QEMU is what the program offers; nil: it was not asked.
	QEMU *QEMU
	// FreeMiB is the memory that the host can give, in MiB.
	FreeMiB int
	// CBitPos is the C-bit position that QEMU demands on this machine, where CBitPosKnown.
	CBitPos      uint8
	CBitPosKnown bool
	// CBitPosFitted: the software SNP host puts another position right before QEMU starts.
	CBitPosFitted bool
}

// Conditions are those of a launch on this machine's Secure Processor.
func (m *Machine) Conditions() Conditions {
	c := Conditions{KernelMajor: m.Kernel.Major, KernelMinor: m.Kernel.Minor, PolicyBits: m.Offers.PolicyBits, SMT: m.SMT, FreeMiB: m.FreeMiB, CBitPos: m.CBitPos, CBitPosKnown: true}
	if m.Platform.Known {
		c.FirmwareAPI = m.Platform.API()
	}
	return c
}

// CheckArguments looks at a QEMU command line without its program, ours or another's,
// for what an SNP launch does not take. Nothing is started, and no file is read.
func CheckArguments(args []string, c Conditions) []Check {
	l := readArguments(args)
	checks := []Check{
		l.checkObject(), c.checkCBitPos(l), l.checkAccelerator(), l.checkVCPUs(), l.checkFirmware(), l.checkSMM(), l.checkIRQChip(), l.checkBackends(), l.checkModel(),
		l.checkPolicy(), c.checkPolicyBits(l.policy), c.checkPolicyFirmware(l.policy), l.checkHostData(), l.checkIDBlock(), c.checkMemory(l.memory, l.memoryMiB),
	}
	checks = append(checks, c.QEMU.checks(l.properties)...)
	for i := range checks {
		checks[i].Category = Launch
		if checks[i].Verdict == "" {
			checks[i].Verdict = OK
		}
	}
	return checks
}

// arguments is what of a command line matters here.
type arguments struct {
	machine    map[string]string
	machineOf  string // the machine type
	accel      string
	bios       string
	kernel     string
	initrd     string
	vcpus      int    // that QEMU starts with; 0: not understood
	maxVCPUs   int    // for which there is room
	memory     string // as it is given; empty: it is not
	flash      string // what makes a flash drive; empty: nothing does
	cpu        string
	irqchip    string
	objects    map[string]string // ids of sev-snp-guest objects and their options
	unread     string            // an -object that is no JSON object though it begins as one
	backends   []string          // kinds of memory backends
	memoryMiB  int
	properties []string // of sev-snp-guest, that are used
	values     map[string]string
	common     map[string]string // of the object's base, that are used
	policy     snp.GuestPolicy
	policyErr  error
}

// optionsOf splits "first,key=value,…"; a doubled comma is one comma of a value.
func optionsOf(s string) (first string, options map[string]string) {
	options = map[string]string{}
	for i, part := range strings.Split(strings.ReplaceAll(s, ",,", "\x00"), ",") {
		key, value, ok := strings.Cut(strings.ReplaceAll(part, "\x00", ","), "=")
		switch {
		case !ok && i == 0:
			first = key
		case ok:
			options[key] = value
		}
	}
	return first, options
}

// jsonOptions reads options in QEMU's other form, a JSON object; nil where it is none.
// Numbers stay as they are written, and switches read as in the first form.
func jsonOptions(s string) map[string]string {
	var values map[string]any
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if d.Decode(&values) != nil {
		return nil
	}
	options := map[string]string{}
	for k, v := range values {
		switch v := v.(type) {
		case string:
			options[k] = v
		case bool:
			if options[k] = "off"; v {
				options[k] = "on"
			}
		case json.Number:
			options[k] = v.String()
		}
	}
	return options
}

func readArguments(args []string) *arguments {
	l := &arguments{vcpus: 1, maxVCPUs: 1, memoryMiB: defaultMemoryMiB, machine: map[string]string{}, objects: map[string]string{}, values: map[string]string{}, policy: snp.PolicyDefault}
	for i := 0; i < len(args); i++ {
		flag := "-" + strings.TrimLeft(args[i], "-")
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		first, options := optionsOf(value)
		if strings.HasPrefix(value, "{") {
			first, options = "", jsonOptions(value)
		}
		switch flag {
		case "-machine", "-M":
			for k, v := range options {
				l.machine[k] = v
			}
			if l.machineOf = first; first == "" {
				l.machineOf = options["type"]
			}
		case "-accel":
			if l.accel = first; first == "" {
				l.accel = options["accel"]
			}
			if v, ok := options["kernel-irqchip"]; ok {
				l.irqchip = v
			}
		case "-enable-kvm":
			l.accel = "kvm"
			continue
		case "-bios":
			l.bios = value
		case "-kernel":
			l.kernel = value
		case "-initrd":
			l.initrd = value
		case "-smp":
			l.vcpus, l.maxVCPUs = vcpusOf(first, options)
		case "-drive":
			if options["if"] == "pflash" {
				l.flash = "-drive if=pflash"
			}
		case "-pflash":
			l.flash = "-pflash"
		case "-cpu":
			l.cpu, _, _ = strings.Cut(value, ",")
		case "-m":
			if l.memory = first; first == "" {
				l.memory = options["size"]
			}
			l.memoryMiB = memoryOf(l.memory)
		case "-object":
			if options == nil {
				l.unread = value
			}
			l.object(first, options)
		default:
			continue
		}
		i++
	}
	for _, k := range []string{"pflash0", "pflash1"} {
		if l.machine[k] != "" {
			l.flash = "-machine " + k + "="
		}
	}
	if v, ok := l.machine["accel"]; ok && l.accel == "" {
		l.accel = v
	}
	if v, ok := l.machine["kernel-irqchip"]; ok {
		l.irqchip = v
	}
	return l
}

// ofCommon are properties that the object has from its base.
var ofCommon = []string{"id", "qom-type", "cbitpos", "reduced-phys-bits"}

func (l *arguments) object(kind string, options map[string]string) {
	if kind == "" {
		kind = options["qom-type"]
	}
	if strings.HasPrefix(kind, "memory-backend-") {
		l.backends = append(l.backends, kind)
	}
	if kind != "sev-snp-guest" {
		return
	}
	l.objects[options["id"]] = kind
	for k, v := range options {
		if !slices.Contains(ofCommon, k) {
			l.properties = append(l.properties, k)
			l.values[k] = v
		}
	}
	slices.Sort(l.properties)
	l.common = map[string]string{}
	for _, k := range ofCommon {
		if v, ok := options[k]; ok {
			l.common[k] = v
		}
	}
	if v, ok := options["policy"]; ok {
		l.policy, l.policyErr = snp.ParseGuestPolicy(v)
	}
}

// defaultMemoryMiB is what QEMU gives a PC without -m (hw/i386/pc.c).
const defaultMemoryMiB = 128

// memoryOf reads -m: a number of MiB, or one with a unit; 0 where it is neither.
func memoryOf(size string) int {
	if size == "" {
		return defaultMemoryMiB
	}
	unit := 1.0
	number := strings.TrimRight(size, "bBkKmMgGtT")
	switch strings.ToUpper(strings.TrimPrefix(size, number)) {
	case "K", "KB":
		unit = 1.0 / 1024
	case "G", "GB":
		unit = 1024
	case "T", "TB":
		unit = 1 << 20
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0
	}
	return int(n * unit)
}

func (l *arguments) checkObject() Check {
	c := Check{ID: "launch-object", Name: "-object sev-snp-guest", Reason: "is what -machine confidential-guest-support names"}
	want, ok := l.machine["confidential-guest-support"]
	if !ok {
		want, ok = l.machine["memory-encryption"], l.machine["memory-encryption"] != ""
	}
	switch {
	case len(l.objects) == 0 && l.unread != "":
		c.Verdict, c.Reason, c.Remedy = Obstacle, fmt.Sprintf("%.40s is not understood", l.unread), "write it as a JSON object, or as sev-snp-guest,id=sev0,…"
	case len(l.objects) == 0:
		c.Verdict, c.Reason, c.Remedy = Obstacle, "there is none, so this is no SNP launch", "add -object sev-snp-guest,id=sev0,cbitpos=…,reduced-phys-bits=1"
	case !ok:
		c.Verdict, c.Reason, c.Remedy = Obstacle, "-machine does not name it, so this is no SNP launch", "add confidential-guest-support=ID to -machine"
	case l.objects[want] == "":
		c.Verdict, c.Reason, c.Remedy = Obstacle, fmt.Sprintf("-machine names %q, and no object has that id", want), "use one id in -machine confidential-guest-support= and in -object"
	}
	return c
}

func (l *arguments) checkAccelerator() Check {
	c := Check{ID: "launch-accel", Name: "accelerator", Reason: l.accel}
	if l.accel != "kvm" {
		if c.Reason = l.accel; l.accel == "" {
			c.Reason = "none is named, which is TCG"
		}
		c.Verdict, c.Remedy = Obstacle, "add -accel kvm"
	}
	return c
}

func (l *arguments) checkFirmware() Check {
	c := Check{ID: "launch-flash", Name: "firmware as -bios", Reason: filepath.Base(l.bios)}
	switch {
	case l.flash != "":
		c.Verdict, c.Reason, c.Remedy = Obstacle, l.flash+": SNP guests have no read-only memory, as flash is", "give the one-piece firmware with -bios, and no flash drive"
	case l.bios == "":
		c.Verdict, c.Reason, c.Remedy = Obstacle, "no -bios, so QEMU loads SeaBIOS", "give an OVMF image of one piece with -bios"
	}
	return c
}

func (l *arguments) checkSMM() Check {
	c := Check{ID: "launch-smm", Name: "system management mode", Reason: "off"}
	switch l.machine["smm"] {
	case "on":
		c.Verdict, c.Reason, c.Remedy = Obstacle, "smm=on, which SNP does not support", "say smm=off, or drop it"
	case "off":
	default:
		c.Reason = "left to QEMU, which turns it off"
	}
	return c
}

func (l *arguments) checkIRQChip() Check {
	c := Check{ID: "launch-irqchip", Name: "interrupt controllers", Reason: "in the kernel"}
	if l.irqchip == "split" || l.irqchip == "off" {
		c.Verdict, c.Reason, c.Remedy = Obstacle, "kernel-irqchip="+l.irqchip+", and SNP guests have them in the kernel", "drop kernel-irqchip, or say kernel-irqchip=on"
	}
	return c
}

func (l *arguments) checkBackends() Check {
	c := Check{ID: "launch-memory-backend", Name: "memory backend", Reason: "plain RAM"}
	if len(l.backends) > 0 {
		c.Reason = strings.Join(l.backends, ", ")
	}
	switch {
	case slices.Contains(l.backends, "memory-backend-memfd-private"):
		c.Verdict, c.Remedy = Obstacle, "use memory-backend-memfd or none: that one was never in a released QEMU"
	case len(l.backends) > 1:
		c.Verdict, c.Remedy = Warning, "use one backend: QEMU may fail to convert memory across the border of two"
	}
	return c
}

// firstVersions are the CPU models whose cache leaf the firmware refuses on machine
// types before pc-q35-9.1, and what to take in their place. A name without a version means v1.
var firstVersions = map[string]string{
	"EPYC": "EPYC-v4", "EPYC-v1": "EPYC-v4", "EPYC-v2": "EPYC-v4", "EPYC-v3": "EPYC-v4", "EPYC-IBPB": "EPYC-v4",
	"Dhyana": "EPYC-v4", "Dhyana-v1": "EPYC-v4", "Dhyana-v2": "EPYC-v4",
	"EPYC-Rome": "EPYC-Rome-v3", "EPYC-Rome-v1": "EPYC-Rome-v3", "EPYC-Rome-v2": "EPYC-Rome-v3",
	"EPYC-Milan": "EPYC-Milan-v2", "EPYC-Milan-v1": "EPYC-Milan-v2",
}

var versionedMachine = regexp.MustCompile(`^(?:pc-q35|pc-i440fx)-(\d+)\.(\d+)$`)

func (l *arguments) checkModel() Check {
	c := Check{ID: "launch-cpu", Name: "CPU model", Reason: l.cpu}
	if l.cpu == "" {
		c.Verdict, c.Reason, c.Remedy = Obstacle, "none is named, and QEMU's own fits no SNP guest", "add -cpu EPYC-v4 or a newer EPYC"
		return c
	}
	m := versionedMachine.FindStringSubmatch(l.machineOf)
	if m == nil {
		return c
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if with, ok := firstVersions[l.cpu]; ok && (major < 9 || major == 9 && minor < 1) {
		c.Verdict = Obstacle
		c.Reason = fmt.Sprintf("%s has a last-level cache with complex indexing on %s, which the firmware refuses in the CPUID page", l.cpu, l.machineOf)
		c.Remedy = "use " + with + ", or the machine type q35 of QEMU 9.1 or newer"
	}
	return c
}

func (l *arguments) checkPolicy() Check {
	c := Check{ID: "launch-policy", Name: "guest policy", Reason: l.policy.Describe()}
	switch {
	case l.policyErr != nil:
		c.Verdict, c.Reason, c.Remedy = Obstacle, l.policyErr.Error(), "write it as 0x30000"
	case l.policy&snp.PolicyReservedOne == 0:
		c.Verdict, c.Remedy = Obstacle, "set bit 17, as in 0x30000"
		if l.policy>>16 == 0 {
			c.Remedy += ": this looks like a policy of SEV or SEV-ES"
		}
	}
	return c
}

// alwaysKnown are the policy bits that every kernel with SNP passes on.
const alwaysKnown = snp.GuestPolicy(0xFFFF) | snp.PolicySMT | snp.PolicyReservedOne | snp.PolicyDebug

// checkPolicyBits holds a policy against what KVM passes on to the firmware
// (Linux arch/x86/kvm/svm/sev.c, snp_launch_start and sev_get_snp_policy_bits).
func (c Conditions) checkPolicyBits(p snp.GuestPolicy) Check {
	k := Check{ID: "launch-policy-kvm", Name: "guest policy and KVM", Reason: "every bit is one that KVM passes on"}
	mask := c.PolicyBits
	if mask == 0 {
		// The firmware's bits came later, SINGLE_SOCKET with 6.16 at the latest.
		mask = alwaysKnown | snp.PolicySingleSocket | snp.PolicyCXLAllow | snp.PolicyMemAES256XTS | snp.PolicyRAPLDis | snp.PolicyCiphertextHidingDRAM | snp.PolicyPageSwapDisable
	}
	old := c.KernelMajor == 6 && c.KernelMinor >= 11 && c.KernelMinor <= 13
	if old && c.PolicyBits == 0 {
		mask = alwaysKnown
	}
	switch refused := p &^ mask; {
	case refused != 0:
		k.Verdict, k.Reason = Obstacle, fmt.Sprintf("KVM refuses bits %s of %s", snp.GuestPolicy(refused), p.Describe())
		k.Remedy = "leave them out, as in 0x30000, or use a newer host kernel where they are bits of a newer firmware"
	case old && p&snp.PolicySMT == 0:
		k.Verdict, k.Reason = Obstacle, fmt.Sprintf("Linux %d.%d refuses policies without SMT (bit 16)", c.KernelMajor, c.KernelMinor)
		k.Remedy = "set bit 16, as in 0x30000, or use a newer host kernel"
	}
	return k
}

// checkPolicyFirmware holds a policy against the firmware and the platform
// (AMD 56860, SNP_LAUNCH_START).
func (c Conditions) checkPolicyFirmware(p snp.GuestPolicy) Check {
	k := Check{ID: "launch-policy-firmware", Name: "guest policy and firmware", Reason: "asks for nothing that this platform lacks"}
	wants := uint16(p)
	switch {
	case c.FirmwareAPI == 0 && wants != 0:
		k.Verdict, k.Reason = Unknown, fmt.Sprintf("the policy wants firmware ABI %d.%d, and the firmware's is not known", p.ABIMajor(), p.ABIMinor())
	case c.FirmwareAPI != 0 && wants > c.FirmwareAPI:
		k.Verdict, k.Reason = Obstacle, fmt.Sprintf("the policy wants firmware ABI %d.%d, and this is %d.%d", p.ABIMajor(), p.ABIMinor(), c.FirmwareAPI>>8, c.FirmwareAPI&0xff)
		k.Remedy = "ask for less (bits 15:0), or update the SEV firmware"
	case c.SMT && p&snp.PolicySMT == 0:
		k.Verdict, k.Reason = Obstacle, "the policy forbids SMT, which is on"
		k.Remedy = "set bit 16 (SMT), or turn SMT off in the BIOS"
	case c.Sockets > 1 && p&snp.PolicySingleSocket != 0:
		k.Verdict, k.Reason = Obstacle, fmt.Sprintf("the policy asks for a single socket, and there are %d", c.Sockets)
		k.Remedy = "leave out bit 20 (SINGLE_SOCKET)"
	}
	return k
}

func (l *arguments) checkHostData() Check {
	c := Check{ID: "launch-host-data", Name: "host data", Reason: "none"}
	if v, ok := l.values["host-data"]; ok {
		c.Reason = "32 bytes"
		if b, err := base64.StdEncoding.DecodeString(v); err != nil || len(b) != 32 {
			c.Verdict, c.Reason, c.Remedy = Obstacle, "is not 32 bytes in base64", "give the base64 text of exactly 32 bytes"
		}
	}
	return c
}

// checkIDBlock looks at ID block and ID authentication information: both or
// neither, of the right length, for this policy, with the author key that the flag says.
func (l *arguments) checkIDBlock() Check {
	c := Check{ID: "launch-id-block", Name: "ID block", Reason: "none"}
	no := func(reason, remedy string) Check {
		c.Verdict, c.Reason, c.Remedy = Obstacle, reason, remedy
		return c
	}
	b64, hasBlock := l.values["id-block"]
	auth64, hasAuth := l.values["id-auth"]
	on := l.values["author-key-enabled"] == "on" || l.values["author-key-enabled"] == "true"
	switch {
	case !hasBlock && !hasAuth:
		if on {
			c.Verdict, c.Reason, c.Remedy = Warning, "none, and yet author-key-enabled=on, which then does nothing", "give id-block and id-auth, or drop it"
		}
		return c
	case !hasAuth:
		return no("without ID authentication information", "give id-block and id-auth together, or neither")
	case !hasBlock:
		c.Verdict, c.Reason, c.Remedy = Warning, "there is id-auth and no id-block, so that nothing is checked", "give id-block and id-auth together, or neither"
		return c
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return no("id-block is not base64", "give the base64 text of the 96 bytes, not a path")
	}
	block, err := snp.ParseIDBlock(raw)
	if err != nil {
		return no(err.Error(), "give the base64 text of the 96 bytes")
	}
	raw, err = base64.StdEncoding.DecodeString(auth64)
	if err != nil {
		return no("id-auth is not base64", "give the base64 text of the 4096 bytes, not a path")
	}
	auth, err := snp.ParseIDAuth(raw)
	if err != nil {
		return no(err.Error(), "give the base64 text of all 4096 bytes")
	}
	switch has := idblock.HasAuthorKey(auth); {
	case l.policyErr == nil && block.Policy != l.policy:
		return no(fmt.Sprintf("made for policy %s, and the launch has %s", block.Policy.Describe(), l.policy.Describe()), "sign an ID block with the launch's policy, or launch with the ID block's")
	case on && !has:
		return no("author-key-enabled=on, and the ID authentication information has no author key", "drop author-key-enabled, or sign with an author key")
	case !on && has:
		c.Verdict, c.Reason = Warning, "the ID authentication information has an author key, which nobody looks at without author-key-enabled=on"
		c.Remedy = "add author-key-enabled=on"
		return c
	}
	c.Reason = fmt.Sprintf("for digest %s and policy %s", block.LD, block.Policy.Describe())
	return c
}

func (c Conditions) checkMemory(given string, mib int) Check {
	k := Check{ID: "launch-memory", Name: "memory", Reason: fmt.Sprintf("%d MiB", mib)}
	switch {
	case given == "":
		k.Reason = fmt.Sprintf("%d MiB, QEMU's own where no -m is given", mib)
	case mib == 0:
		k.Verdict, k.Reason = Unknown, fmt.Sprintf("-m %s is not understood", given)
	}
	if c.FreeMiB > 0 && mib > c.FreeMiB {
		k.Verdict, k.Reason = Warning, fmt.Sprintf("%d MiB, and the host has %d MiB to give", mib, c.FreeMiB)
		k.Remedy = "give the guest less memory, or end something: an SNP guest's memory is never swapped"
	}
	return k
}

// CheckKernel looks at what a file that is given as kernel is. QEMU takes almost anything
// for a kernel of the oldest boot protocol, a text file too, and then hangs in it.
func CheckKernel(kind guest.KernelKind, size int64) Check {
	c := Check{ID: "launch-kernel", Category: Launch, Name: "kernel", Verdict: OK, Reason: kind.String()}
	switch kind {
	case guest.KernelBzImage, guest.KernelPE:
	default:
		c.Verdict, c.Reason = Obstacle, fmt.Sprintf("%s (%d bytes)", kind, size)
		c.Remedy = "give a bzImage or a unified kernel image (UKI)"
	}
	return c
}
