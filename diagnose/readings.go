package diagnose

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// readings are all kinds of words, those that a bare number is most likely meant as
// first. It is filled by init because explaining an entry looks through the catalogue.
var readings []reading

func init() {
	readings = []reading{
		{"firmware status", []string{"fw_error", "fw_err", "fwerr", "firmware_error", "error", "status", "psp_error", "sev_ret"}, explainStatus, bareStatus, statusWords},
		{"return value", []string{"ret", "errno", "rc"}, explainErrno, bareErrno, func() []string { return slices.Sorted(maps.Keys(errnos)) }},
		{"guest policy", []string{"policy", "guest_policy"}, explainPolicy, bareNumber(func(v uint64) bool { return v>>17&1 != 0 && v>>26 == 0 }), nil},
		{"TCB version", []string{"tcb", "current_tcb", "reported_tcb", "committed_tcb", "launch_tcb", "tcb_version"}, explainTCB, bareNumber(func(v uint64) bool { return v>>48 != 0 }), nil},
		{"TCB version of Milan or Genoa", []string{"tcb:milan", "tcb:genoa"}, explainTCBOf(snp.TCBLayoutMilan), nil, nil},
		{"TCB version of Turin", []string{"tcb:turin"}, explainTCBOf(snp.TCBLayoutTurin), nil, nil},
		{"report's PLATFORM_INFO", []string{"platform_info", "platforminfo"}, explainPlatformInfo, nil, nil},
		{"report's signer information", []string{"flags", "signer_info", "signerinfo", "report_flags"}, explainSignerInfo, nil, nil},
		{"SEV_FEATURES", []string{"features", "sev_features", "guest_features", "vmsa_features"}, explainFeatures,
			bareNumber(func(v uint64) bool { return v&1 != 0 && v>>22 == 0 && vmsa.ReservedFeatures(v) == 0 }), nil},
		{"CPU signature", []string{"sig", "cpu_sig", "vcpu_sig", "cpu_signature", "eax", "fms", "rdx"}, explainSignature,
			bareNumber(func(v uint64) bool { return v>>32 == 0 && vmsa.CPUFor(uint32(v)) != "" && v>>20 != 0 }), nil},
		{"GUID", []string{"guid"}, explainGUID, func(s string) bool { _, ok := ovmf.ParseGUID(s); return ok }, nil},
		{"SEV metadata section", []string{"section", "section_type"}, explainSection, bareName(sectionWords), sectionWords},
		{"page type", []string{"page", "page_type", "type"}, explainPage, bareName(pageWords), pageWords},
		{"command", []string{"command", "cmd", "ioctl"}, explainCommand, bareCommand, func() []string { return slices.Sorted(maps.Keys(commands)) }},
		{"termination request", []string{"termination", "terminate", "reason"}, explainTermination, terminationForm.MatchString, nil},
		{"digest", []string{"digest", "measurement", "sha", "hash"}, explainDigest, func(s string) bool { _, ok := bytesOf(s); return ok }, nil},
		{"failure", []string{"id", "failure"}, explainEntry, bareName(entryWords), entryWords},
	}
}

// numberOf reads a number with or without a sign, in any base that Go writes.
func numberOf(s string) (uint64, bool) {
	if strings.HasPrefix(s, "-") {
		v, err := strconv.ParseInt(s, 0, 64)
		return uint64(v), err == nil
	}
	v, err := strconv.ParseUint(s, 0, 64)
	return v, err == nil
}

func bareNumber(may func(uint64) bool) func(string) bool {
	return func(s string) bool {
		v, ok := numberOf(s)
		return ok && !strings.HasPrefix(s, "-") && may(v)
	}
}

func bareName(words func() []string) func(string) bool {
	return func(s string) bool {
		return slices.ContainsFunc(words(), func(w string) bool { return strings.EqualFold(w, s) })
	}
}

const (
	spec       = "AMD 56860 (SEV-SNP Firmware ABI)"
	kernelAPI  = "Linux include/uapi/linux/psp-sev.h"
	apm        = "AMD64 Architecture Programmer's Manual, volume 2"
	kvmAPI     = "Linux include/uapi/linux/kvm.h, Documentation/virt/kvm/x86/amd-memory-encryption.rst"
	reportSpec = spec + ", ATTESTATION_REPORT"
)

// statuses says what each status of the firmware means for whoever launches a guest.
var statuses = map[snp.Status]string{
	snp.StatusNoFWCall:             "the kernel gave up before it called the firmware at all, so this says nothing of the guest",
	snp.StatusSuccess:              "success; beside an error number it means that the kernel refused before the firmware was asked",
	snp.StatusInvalidPlatformState: "the platform is not initialised for SNP, or for what the command is about",
	snp.StatusInvalidGuestState:    "the guest is not in the state that the command is for, as at a second SNP_LAUNCH_FINISH",
	snp.StatusInvalidConfig:        "the platform's configuration does not allow it: at SNP_INIT the BIOS settings or SMT, at SNP_ACTIVATE an ASID that still has pages",
	snp.StatusInvalidLength:        "a buffer is too small or too large",
	snp.StatusAlreadyOwned:         "the platform already has an owner (SEV's own commands only)",
	snp.StatusInvalidCertificate:   "a certificate or a VLEK hashstick is not valid",
	snp.StatusPolicyFailure:        "the guest policy is refused: at SNP_LAUNCH_START by the firmware or the platform, at SNP_LAUNCH_FINISH because the ID block has another one, and then the launch digest is right",
	snp.StatusInactive:             "the guest has no ASID yet: it was not activated",
	snp.StatusInvalidAddress:       "an address is not one that the firmware takes, or not aligned",
	snp.StatusBadSignature:         "a signature does not verify: at SNP_LAUNCH_FINISH the ID block's or the author key's, and then launch digest, policy and key algorithms are right",
	snp.StatusBadMeasurement:       "the launch digest is not the one in the ID block; policy and signatures were not looked at yet",
	snp.StatusASIDOwned:            "another guest has this ASID",
	snp.StatusInvalidASID:          "the ASID is out of range",
	snp.StatusWBINVDRequired:       "the caches must be written back first, which the kernel does: BIOS and firmware do not go together",
	snp.StatusDFFlushRequired:      "the data fabric must be flushed first, which the kernel does before an ASID is used again",
	snp.StatusInvalidGuest:         "the page is no guest context",
	snp.StatusInvalidCommand:       "the firmware does not know this command",
	snp.StatusActive:               "the guest is active already",
	snp.StatusHWErrorPlatform:      "a hardware error, after which the platform is safe to go on with",
	snp.StatusHWErrorUnsafe:        "a hardware error, after which the platform must be restarted",
	snp.StatusUnsupported:          "the firmware does not support it",
	snp.StatusInvalidParam:         "a parameter is not valid: in a launch most often the CPUID page, at SNP_LAUNCH_FINISH a key algorithm (digest and policy are then right), in a guest's request its VMPL or a reserved field",
	snp.StatusResourceLimit:        "the firmware has run out of something, such as places for guests",
	snp.StatusSecureDataInvalid:    "data that the firmware keeps was changed",
	snp.StatusInvalidPageSize:      "the page is of another size in the RMP",
	snp.StatusInvalidPageState:     "the page is in another state in the RMP than the command is for",
	snp.StatusInvalidMDataEntry:    "metadata of a page that was swapped out is not valid",
	snp.StatusInvalidPageOwner:     "the page belongs to another guest",
	snp.StatusAEADOverflow:         "the sequence number of a guest's message is used up or was used before",
	snp.StatusExitRingBuffer:       "the ring buffer for commands was left (also named RB_MODE_EXITED)",
	snp.StatusRMPInitRequired:      "the RMP must be initialised first",
	snp.StatusBadSVN:               "the security version is older than what is committed",
	snp.StatusBadVersion:           "the version is older than what is committed",
	snp.StatusShutdownRequired:     "the platform must be shut down first",
	snp.StatusUpdateFailed:         "the firmware's update failed, and the old one goes on",
	snp.StatusRestoreRequired:      "the firmware's state must be restored after an update",
	snp.StatusRMPInitFailed:        "the RMP could not be initialised",
	snp.StatusInvalidKey:           "the key that was asked for is not there or is disabled, as a VCEK with vcek-disabled=on or a VLEK that was not loaded",
	snp.StatusShutdownIncomplete:   "the platform's shutdown did not finish",
}

// namedByQEMU is the last status for which QEMU 10 prints words. The kernel header that it
// carries numbers those after it otherwise than the firmware.
const namedByQEMU = snp.StatusSecureDataInvalid

func statusWords() []string {
	var out []string
	for s := range statuses {
		out = append(out, s.String())
	}
	slices.Sort(out)
	return out
}

func statusOf(s string) (snp.Status, bool) {
	if v, ok := numberOf(s); ok {
		return snp.Status(int32(v)), v == uint64(snp.Status(int32(v)))
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SEV_RET_")
	for st := range statuses {
		if st.String() == name {
			return st, true
		}
	}
	return 0, false
}

func bareStatus(s string) bool {
	st, ok := statusOf(s)
	_, named := statuses[st]
	return ok && named
}

func explainStatus(s string) (string, string, bool) {
	st, ok := statusOf(s)
	if !ok {
		return "", "", false
	}
	meaning, named := statuses[st]
	if !named {
		return fmt.Sprintf("Status %d (0x%x) of the SEV firmware has no name here: it is reserved, or belongs to a newer ABI (from 0x30 on SPDM and devices).", int32(st), uint32(st)), spec + ", status codes; " + kernelAPI, true
	}
	text := fmt.Sprintf("Status %d (0x%x) of the SEV firmware is %s: %s.", int32(st), uint32(st), st, meaning)
	if st > namedByQEMU {
		text += " QEMU prints 'unknown error' for it, and the kernel header in QEMU 10 gives its name another number: this is the firmware's."
	}
	for _, command := range []string{start, update, finish} {
		if p := provenBefore(command, st); p != "" {
			text += " As the answer to " + command + " it also says: " + strings.ToLower(p[:1]) + p[1:]
		}
	}
	return text, spec + ", status codes; " + kernelAPI + "; order of the checks observed in SEV firmware 1.55.25", true
}

// errnos says what KVM and the Secure Processor's driver mean by an error number in a
// launch.
var errnos = map[string]string{
	"EPERM":     "a command that SNP guests do not have, or one that the process may not give",
	"ENOENT":    "the device or file is not there, as /dev/sev without the module ccp",
	"EIO":       "the firmware refused, and fw_error says how; with fw_error=0 it was KVM, which could not put a page into the guest's private memory: the same guest address twice, or memory that is not private",
	"EAGAIN":    "try again; QEMU does so by itself",
	"ENOMEM":    "the host has no memory for it",
	"EACCES":    "the user may not open it",
	"EFAULT":    "the kernel could not read what it was pointed at, as an ID authentication information that ends before its 4096 bytes",
	"EBUSY":     "at KVM_SEV_INIT2 no ASID is free; at SNP_LAUNCH_FINISH a vCPU was being created",
	"ENODEV":    "there is no Secure Processor, or it was not initialised",
	"EINVAL":    "KVM refused the arguments and never asked the firmware: a policy bit that it does not pass on, a page type or an address that it does not take, or an ID block without ID authentication information",
	"ENOTTY":    "KVM knows no such command for this VM: it is no SNP VM, SEV is off in kvm_amd, QEMU and kernel follow different versions of the interface, or the firmware could not create a guest context",
	"EOPNOTSUP": "KVM knows the interface only in a version from before it went upstream",
	"ETIMEDOUT": "the Secure Processor did not answer in time, and the driver gives it up until it is loaded anew",
	"E2BIG":     "a list has no room for the answer; QEMU asks again with more",
	"ENXIO":     "the kernel has no such attribute: it is older than what asks",
	"EEXIST":    "it is there already, as a page that was populated before",
}

func errnoOf(s string) (name string, number int, ok bool) {
	if v, isNumber := numberOf(s); isNumber {
		n := int(int64(v))
		if n < 0 {
			n = -n
		}
		if n <= 0 || n > 4095 {
			return "", 0, false
		}
		name = errnoName(n)
		return name, n, name != ""
	}
	name = strings.ToUpper(strings.TrimPrefix(s, "-"))
	if name == "ENOTSUP" {
		name = "EOPNOTSUP"
	}
	for n := 1; n < 134; n++ {
		if errnoName(n) == name {
			return name, n, true
		}
	}
	return "", 0, false
}

// errnoName gives the name that the kernel's source uses.
func errnoName(n int) string {
	if name := unix.ErrnoName(syscall.Errno(n)); name != "ENOTSUP" {
		return name
	}
	return "EOPNOTSUP"
}

func bareErrno(s string) bool {
	_, _, ok := errnoOf(s)
	return ok && (strings.HasPrefix(s, "-") || strings.HasPrefix(strings.ToUpper(s), "E"))
}

func explainErrno(s string) (string, string, bool) {
	if v, ok := numberOf(s); ok && v == 0 {
		return "0 is success.", "errno(3)", true
	}
	name, number, ok := errnoOf(s)
	if !ok {
		return "", "", false
	}
	text := fmt.Sprintf("%s is errno %d, %q; QEMU prints it as ret=-%d.", name, number, syscall.Errno(number).Error(), number)
	if meaning, known := errnos[name]; known {
		text += " In an SNP launch it means: " + meaning + "."
	}
	return text, kvmSEV + "; errno(3)", true
}

// policyBits says what each bit of a guest policy asks for.
var policyBits = []struct {
	bit  snp.GuestPolicy
	text string
}{
	{snp.PolicySMT, "bit 16 (SMT): the host may run with SMT on"},
	{snp.PolicyReservedOne, "bit 17: must be set"},
	{snp.PolicyMigrateMA, "bit 18 (MIGRATE_MA): a migration agent may be associated, which KVM never passes on"},
	{snp.PolicyDebug, "bit 19 (DEBUG): the host may read and write the guest's memory, so nothing is secret"},
	{snp.PolicySingleSocket, "bit 20 (SINGLE_SOCKET): only on a machine with one socket, or on one of its sockets"},
	{snp.PolicyCXLAllow, "bit 21 (CXL_ALLOW): CXL devices and memory may be there"},
	{snp.PolicyMemAES256XTS, "bit 22 (MEM_AES_256_XTS): memory must be encrypted with AES-256-XTS"},
	{snp.PolicyRAPLDis, "bit 23 (RAPL_DIS): power measurement (RAPL) must be off"},
	{snp.PolicyCiphertextHidingDRAM, "bit 24 (CIPHERTEXT_HIDING_DRAM): the host must not see ciphertext in memory"},
	{snp.PolicyPageSwapDisable, "bit 25 (PAGE_SWAP_DISABLE): the host may not swap or move guest pages"},
}

func explainPolicy(s string) (string, string, bool) {
	v, ok := numberOf(s)
	if !ok || strings.HasPrefix(s, "-") {
		return "", "", false
	}
	p := snp.GuestPolicy(v)
	words := []string{fmt.Sprintf("bits 15:0: firmware ABI %d.%d or newer", p.ABIMajor(), p.ABIMinor())}
	known := snp.GuestPolicy(0xffff)
	for _, b := range policyBits {
		known |= b.bit
		switch {
		case p&b.bit != 0:
			words = append(words, b.text)
		case b.bit == snp.PolicySMT:
			words = append(words, "bit 16 (SMT) clear: SMT must be off on the host")
		case b.bit == snp.PolicyReservedOne:
			words = append(words, "bit 17 clear: no firmware accepts it, and KVM says EINVAL (a policy of SEV or SEV-ES?)")
		}
	}
	if rest := p &^ known; rest != 0 {
		words = append(words, fmt.Sprintf("bits %s are reserved, and KVM says EINVAL", rest))
	}
	return fmt.Sprintf("Guest policy %s: %s.", p, strings.Join(words, "; ")), spec + ", Guest Policy; " + kvmSEV + ", snp_launch_start", true
}

func explainTCB(s string) (string, string, bool) {
	milan, source, ok := explainTCBOf(snp.TCBLayoutMilan)(s)
	if !ok {
		return "", "", false
	}
	turin, _, _ := explainTCBOf(snp.TCBLayoutTurin)(s)
	return milan + " " + turin, source, true
}

func explainTCBOf(layout snp.TCBLayout) func(string) (string, string, bool) {
	return func(s string) (string, string, bool) {
		v, ok := numberOf(s)
		if !ok || strings.HasPrefix(s, "-") {
			return "", "", false
		}
		p := layout.Unpack(snp.TCBVersion(v))
		words := fmt.Sprintf("boot loader %d, TEE %d, SNP firmware %d, microcode %d", p.BootLoader, p.TEE, p.SNP, p.Microcode)
		where := "On Milan and Genoa"
		if layout == snp.TCBLayoutTurin {
			where, words = "On Turin", fmt.Sprintf("FMC %d, ", p.FMC)+words
		}
		text := fmt.Sprintf("%s TCB %s is %s", where, snp.TCBVersion(v), words)
		if layout.Pack(p) != snp.TCBVersion(v) {
			text += ", with bits set that are reserved there"
		}
		return text + ".", "AMD 57230 and 56860, TCB_VERSION", true
	}
}

// bitNames explains words of bits.
type bitName struct {
	bit  int
	name string
	text string
}

func bitWords(v uint64, names []bitName) string {
	var words []string
	for _, n := range names {
		if v>>n.bit&1 != 0 {
			words = append(words, fmt.Sprintf("bit %d (%s): %s", n.bit, n.name, n.text))
			v &^= 1 << n.bit
		}
	}
	if v != 0 {
		words = append(words, fmt.Sprintf("bits 0x%x have no name here", v))
	}
	if len(words) == 0 {
		return "no bit is set"
	}
	return strings.Join(words, "; ")
}

func explainPlatformInfo(s string) (string, string, bool) {
	v, ok := numberOf(s)
	if !ok || strings.HasPrefix(s, "-") {
		return "", "", false
	}
	return fmt.Sprintf("PLATFORM_INFO 0x%x, at 0x40 of a report: %s.", v, bitWords(v, []bitName{
		{0, "SMT_EN", "SMT is on"}, {1, "TSME_EN", "all memory is encrypted (TSME)"}, {2, "ECC_EN", "memory has ECC"}, {3, "RAPL_DIS", "power measurement is off"},
		{4, "CIPHERTEXT_HIDING_DRAM_EN", "the host does not see ciphertext in memory"}, {5, "ALIAS_CHECK_COMPLETE", "memory was checked for aliases (CVE-2024-21944)"},
		{7, "TIO_EN", "trusted I/O is on"},
	})), reportSpec, true
}

func explainSignerInfo(s string) (string, string, bool) {
	v, ok := numberOf(s)
	if !ok || v>>32 != 0 {
		return "", "", false
	}
	signer := map[uint64]string{0: "the VCEK", 1: "the VLEK", 7: "nobody"}[v>>2&7]
	if signer == "" {
		signer = fmt.Sprintf("a key of unknown kind %d", v>>2&7)
	}
	rest := bitWords(v&^(7<<2), []bitName{
		{0, "AUTHOR_KEY_EN", "the guest was launched with an author key, whose digest the report has"},
		{1, "MASK_CHIP_KEY", "the host keeps the chip's key out of reports, which are then not signed"},
	})
	return fmt.Sprintf("Signer information 0x%x, at 0x48 of a report: bits 4:2: signed by %s; %s.", v, signer, rest), reportSpec, true
}

func explainFeatures(s string) (string, string, bool) {
	v, ok := numberOf(s)
	if !ok {
		f, err := vmsa.ParseFeatures(s)
		if err != nil {
			return "", "", false
		}
		v = f
	}
	text := fmt.Sprintf("SEV_FEATURES %s, in every vCPU's save area at 0x3b0 and so in the launch digest.", vmsa.DescribeFeatures(v))
	switch {
	case v == vmsa.FeaturesDefault:
		text += " This is what Linux 6.11 and newer give to QEMU's SNP guests."
	case v == vmsa.SNPActive|vmsa.DebugSwap:
		text += " This is what AMD's SNP host trees of Linux 6.6 and 6.7 give, whose kvm_amd has debug_swap on."
	case v&vmsa.SNPActive == 0:
		text += " Without SNPActive it is no SNP guest's."
	}
	return text, apm + ", SEV_FEATURES; " + kvmSEV, true
}

func explainSignature(s string) (string, string, bool) {
	v, ok := numberOf(s)
	if !ok || v>>32 != 0 {
		return "", "", false
	}
	return fmt.Sprintf("CPU signature 0x%x (EAX of CPUID function 1, RDX of a vCPU at reset) is %s.", v, vmsa.DescribeSignature(uint32(v))),
		"AMD64 Architecture Programmer's Manual, volume 3, CPUID Fn0000_0001_EAX; QEMU target/i386/cpu.c", true
}

func explainGUID(s string) (string, string, bool) {
	g, ok := ovmf.ParseGUID(s)
	if !ok {
		return "", "", false
	}
	name, kind, ok := ovmf.NameOf(g)
	if !ok {
		return "", "", false
	}
	return fmt.Sprintf("%s is a %s: %s.", g, kind, name), "EDK2 (OvmfPkg, MdeModulePkg), QEMU target/i386/sev.c, AMD 56421 for certificates", true
}

var sections = map[ovmf.SectionType]string{
	ovmf.SNPSecMem:       "memory that the firmware uses before it can accept pages itself; QEMU launches it as ZERO pages",
	ovmf.SNPSecrets:      "the page into which the SEV firmware puts the guest's message keys; launched as a SECRETS page",
	ovmf.CPUID:           "the page of CPUID leaves that QEMU fills and the SEV firmware checks; launched as a CPUID page",
	ovmf.SVSMCAA:         "the calling area of an SVSM; launched as ZERO pages",
	ovmf.SNPKernelHashes: "the page of the kernel hashes table; launched as a NORMAL page with kernel-hashes=on, else as a ZERO page",
}

func sectionWords() []string {
	var out []string
	for t := range sections {
		out = append(out, t.String())
	}
	slices.Sort(out)
	return out
}

func explainSection(s string) (string, string, bool) {
	v, ok := numberOf(s)
	t := ovmf.SectionType(v)
	if !ok {
		for known := range sections {
			if strings.EqualFold(known.String(), s) {
				t, ok = known, true
			}
		}
	}
	if !ok || v>>32 != 0 {
		return "", "", false
	}
	meaning, known := sections[t]
	if !known {
		meaning = "not one that EDK2 defines; QEMU launches it as ZERO pages"
	}
	return fmt.Sprintf("SEV metadata section type %d (0x%x), %s: %s.", uint32(t), uint32(t), t, meaning), "EDK2 OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm; " + qemuSEV, true
}

var pages = map[snp.PageType]string{
	snp.PageNormal:     "contents and address are measured",
	snp.PageVMSA:       "a vCPU's save area, which KVM makes and measures itself at SNP_LAUNCH_FINISH and never takes from user space",
	snp.PageZero:       "the firmware zeroes it; only the address is measured",
	snp.PageUnmeasured: "the contents are not measured, the address is",
	snp.PageSecrets:    "the firmware fills it with the guest's message keys; only the address is measured",
	snp.PageCPUID:      "the firmware checks the CPUID leaves in it; only the address is measured",
}

func pageWords() []string {
	var out []string
	for t := range pages {
		out = append(out, t.String())
	}
	slices.Sort(out)
	return out
}

func explainPage(s string) (string, string, bool) {
	v, ok := numberOf(s)
	t := snp.PageType(v)
	if !ok {
		for known := range pages {
			if strings.EqualFold(known.String(), s) {
				t, ok = known, true
			}
		}
	}
	meaning, known := pages[t]
	if !ok || !known || v>>8 != 0 {
		return "", "", false
	}
	return fmt.Sprintf("Page type %d is %s: %s.", uint8(t), t, meaning), abiUpdate + "; " + kvmAPI, true
}

// commands are those that a launch gives, by their names in the kernel's headers.
var commands = map[string]string{
	"KVM_SEV_INIT2":                "command 22 of KVM_MEMORY_ENCRYPT_OP: makes a VM one of SEV, with the features that its save areas have; takes an ASID",
	"KVM_SEV_SNP_LAUNCH_START":     "command 100 of KVM_MEMORY_ENCRYPT_OP: the firmware makes a guest context and judges the guest policy, and KVM activates it with an ASID",
	"KVM_SEV_SNP_LAUNCH_UPDATE":    "command 101 of KVM_MEMORY_ENCRYPT_OP: pages are given to the guest, encrypted and folded into the launch digest",
	"KVM_SEV_SNP_LAUNCH_FINISH":    "command 102 of KVM_MEMORY_ENCRYPT_OP: KVM has every vCPU's save area measured, then the firmware holds launch digest, policy and signatures against the ID block",
	"KVM_SEV_SNP_ENABLE_REQ_CERTS": "command 103 of KVM_MEMORY_ENCRYPT_OP: user space is asked for certificates when a guest wants an extended report",
	"SNP_INIT":                     "a firmware command: initialises SNP on the platform, given by the driver ccp",
	"SNP_GCTX_CREATE":              "a firmware command: makes a page a guest context, given by KVM at KVM_SEV_SNP_LAUNCH_START",
	"SNP_LAUNCH_START":             "a firmware command (0xa0): begins a launch; judges the guest policy",
	"SNP_ACTIVATE":                 "a firmware command: binds a guest to an ASID, given by KVM right after SNP_LAUNCH_START",
	"SNP_LAUNCH_UPDATE":            "a firmware command (0xa1): encrypts a page and folds it into the launch digest",
	"SNP_LAUNCH_FINISH":            "a firmware command (0xa2): checks the ID block in the order launch digest, policy, key algorithms, signatures, and lets the guest run",
	"SNP_GUEST_REQUEST":            "a firmware command: passes a guest's encrypted message on, such as one that asks for a report",
	"SNP_DECOMMISSION":             "a firmware command: ends a guest context",
	"SNP_PLATFORM_STATUS":          "command 9 of SEV_ISSUE_CMD on /dev/sev: firmware version, state, TCBs and number of guests",
	"SNP_COMMIT":                   "command 10 of SEV_ISSUE_CMD on /dev/sev: makes the running firmware the oldest that is accepted",
	"SNP_SET_CONFIG":               "command 11 of SEV_ISSUE_CMD on /dev/sev: sets the reported TCB and the masks of chip id and chip key",
	"SNP_VLEK_LOAD":                "command 12 of SEV_ISSUE_CMD on /dev/sev: loads a provider's report-signing key",
	"SEV_PLATFORM_STATUS":          "command 1 of SEV_ISSUE_CMD on /dev/sev: the platform's state as SEV has it, the first thing that QEMU asks",
	"SEV_ISSUE_CMD":                "ioctl 0xc0105300 on /dev/sev: gives a command to the Secure Processor",
	"KVM_MEMORY_ENCRYPT_OP":        "ioctl 0xc008aeba on a VM: every command of SEV and SNP",
	"KVM_CREATE_VM":                "ioctl 0xae01 on /dev/kvm: makes a VM, of type 4 for SNP",
	"KVM_CREATE_GUEST_MEMFD":       "ioctl 0xc040aed4 on a VM: memory that only the guest can map",
	"KVM_SET_MEMORY_ATTRIBUTES":    "ioctl 0x4020aed2 on a VM: makes guest memory private or shared",
	"KVM_SET_USER_MEMORY_REGION2":  "ioctl 0x40a0ae49 on a VM: puts memory at a guest address, with a guest_memfd behind it",
	"KVM_CHECK_EXTENSION":          "ioctl 0xae03: whether KVM can do something, such as KVM_CAP_VM_TYPES (235) with bit 4 for SNP and KVM_CAP_GUEST_MEMFD (234)",
	"KVM_RUN":                      "ioctl 0xae80 on a vCPU: runs the guest",
	"SNP_GET_REPORT":               "ioctl on /dev/sev-guest in a guest: an attestation report",
	"SNP_GET_EXT_REPORT":           "ioctl on /dev/sev-guest in a guest: an attestation report with the host's certificates",
	"SNP_GET_DERIVED_KEY":          "ioctl on /dev/sev-guest in a guest: a key that depends on what the guest is",
}

var hexInText = regexp.MustCompile(`\b0x[0-9a-f]{3,}\b`)

func commandOf(s string) (string, bool) {
	name := strings.ToUpper(s)
	if _, ok := commands[name]; ok {
		return name, true
	}
	if v, ok := numberOf(s); ok {
		for _, name := range slices.Sorted(maps.Keys(commands)) {
			for _, h := range hexInText.FindAllString(commands[name], -1) {
				if n, _ := numberOf(h); n == v {
					return name, true
				}
			}
		}
	}
	return "", false
}

func bareCommand(s string) bool {
	v, number := numberOf(s)
	_, ok := commandOf(s)
	return ok && (!number || v > 0xfff)
}

func explainCommand(s string) (string, string, bool) {
	name, ok := commandOf(s)
	if !ok {
		return "", "", false
	}
	return fmt.Sprintf("%s is %s.", name, commands[name]), kvmAPI + "; " + kernelAPI + "; " + spec, true
}

var terminationForm = regexp.MustCompile(`^0x[0-9a-fA-F]{1,16}:0x[0-9a-fA-F]{1,16}$`)

// terminations are what a guest gives as its reason to end, by set and code.
var terminations = map[[2]uint64]string{
	{0, 0}: "a general request, without a reason", {0, 1}: "no GHCB protocol version in common with the host", {0, 2}: "an SNP feature is on that the guest must know and does not",
	{1, 0}: "the GHCB could not be registered", {1, 1}: "a page's state could not be changed", {1, 2}: "a page could not be validated (PVALIDATE)",
	{1, 3}: "the guest does not run at VMPL0", {1, 4}: "the CPUID table does not hold", {1, 5}: "CPUID could not be had from the host either",
	{1, 6}: "the secrets page could not be found", {1, 7}: "no SVSM although the guest does not run at VMPL0", {1, 8}: "an SVSM that leaves the guest VMPL0",
	{1, 9}: "the SVSM's calling area is not aligned", {1, 10}: "SecureTSC could not be set up", {1, 11}: "the SVSM's calling area could not be moved",
}

func explainTermination(s string) (string, string, bool) {
	if !terminationForm.MatchString(s) {
		return "", "", false
	}
	a, b, _ := strings.Cut(s, ":")
	set, okSet := numberOf(a)
	code, okCode := numberOf(b)
	if !okSet || !okCode {
		return "", "", false
	}
	who := map[uint64]string{0: "the GHCB specification", 1: "Linux"}[set]
	if who == "" {
		who = "another guest than Linux"
	}
	meaning, known := terminations[[2]uint64{set, code}]
	if !known {
		meaning = "no reason that is known here"
	}
	return fmt.Sprintf("The guest asked to be ended with reason 0x%x of set 0x%x, which is %s's: %s.", code, set, who, meaning), sevCommon, true
}

// bytesOf reads hexadecimal digits or base64 of the lengths that digests have.
func bytesOf(s string) (n int, ok bool) {
	if b, err := hex.DecodeString(strings.TrimPrefix(s, "0x")); err == nil && digestLengths[len(b)] != "" {
		return len(b), true
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && digestLengths[len(b)] != "" {
		return len(b), true
	}
	return 0, false
}

// digestLengths says what is as long, in bytes.
var digestLengths = map[int]string{
	16:   "an image or family id, or a GUID",
	32:   "a SHA-256 digest (of a kernel, an initrd or a command line in the kernel hashes table, a launch digest of SEV and SEV-ES) or HOST_DATA",
	48:   "a SHA-384 digest: a launch digest (MEASUREMENT), an ID key or author key digest, or the contents of a page",
	64:   "REPORT_DATA, a CHIP_ID or a SHA-512 digest",
	96:   "an ID block",
	4096: "ID authentication information, or a page",
}

func explainDigest(s string) (string, string, bool) {
	n, ok := bytesOf(s)
	if !ok {
		return "", "", false
	}
	text := fmt.Sprintf("These are %d bytes, the length of %s.", n, digestLengths[n])
	if n == 48 {
		text += " What it was made of, `snplaunch diagnose` may find."
	}
	return text, spec, true
}

func entryWords() []string {
	var out []string
	for _, e := range launches {
		out = append(out, e.id)
	}
	for _, list := range catalogue() {
		for _, e := range list {
			out = append(out, e.id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// explainEntry gives cause and advice of an entry of the catalogue. What a log would
// fill in is an ellipsis.
func explainEntry(s string) (string, string, bool) {
	holes := regexp.MustCompile(`\$\d`)
	text := func(cause, advice string) string { return holes.ReplaceAllString(cause+" "+advice, "…") }
	for _, e := range launches {
		if strings.EqualFold(e.id, s) {
			return text(e.cause, e.advice), e.reference, true
		}
	}
	for _, list := range catalogue() {
		for _, e := range list {
			if strings.EqualFold(e.id, s) {
				return text(e.cause, e.advice), e.reference, true
			}
		}
	}
	return "", "", false
}
