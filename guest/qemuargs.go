package guest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ownedOptions are QEMU's options that other keys of a description decide, with
// what to use in their place.
var ownedOptions = map[string]string{
	"bios":            "use firmware",
	"pflash":          "use firmware: SNP starts from an image of one piece, given by -bios",
	"kernel":          "use kernel",
	"initrd":          "use initrd",
	"append":          "use append",
	"shim":            "use kernel: the hashes table has no place for a shim",
	"smp":             "use vcpus",
	"cpu":             "use cpu",
	"m":               "use memory_mib",
	"mem-path":        "use memory_backend",
	"mem-prealloc":    "use memory_backend",
	"machine":         "leave it out: the machine of an SNP guest is q35 without SMM",
	"M":               "leave it out: the machine of an SNP guest is q35 without SMM",
	"accel":           "leave it out: an SNP guest runs under KVM",
	"enable-kvm":      "leave it out: an SNP guest runs under KVM",
	"no-acpi":         "leave it out: the firmware needs ACPI's tables",
	"gdb":             "use gdb",
	"s":               "use gdb: 1234",
	"readconfig":      "write its contents as further arguments",
	"set":             "give the option itself the property",
	"incoming":        "leave it out: an SNP guest cannot be migrated",
	"loadvm":          "leave it out: an SNP guest has no snapshots",
	"preconfig":       "leave it out: the launcher does not leave that state",
	"daemonize":       "leave it out: the launcher waits for QEMU",
	"only-migratable": "leave it out: an SNP guest cannot be migrated",
	"h":               "run QEMU by itself to read its help",
	"help":            "run QEMU by itself to read its help",
	"version":         "run QEMU by itself to read its version",
}

// validateQEMUArgs refuses what changes what is measured, or contradicts a key.
func validateQEMUArgs(f *findings, args []string) {
	for i, word := range args {
		field := fmt.Sprintf("qemu_args[%d]", i)
		if strings.IndexByte(word, 0) >= 0 {
			f.launch(field, quote(word), "it has a NUL byte, which no program argument can carry", "remove it")
		}
		option, ok := strings.CutPrefix(word, "-")
		if !ok {
			if i == 0 {
				f.launch(field, quote(word), "QEMU takes a word that follows no option for a disk", "use disks, or begin with an option")
			}
			continue
		}
		option = strings.TrimPrefix(option, "-")
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		if remedy, owned := ownedOptions[option]; owned {
			f.launch(field, quote(word), "the description decides it", remedy)
		} else if reason, remedy := refusedValue(option, value); reason != "" {
			f.launch(field, quote(word+" "+value), reason, remedy)
		}
	}
}

// refusedValue looks for what changes what is measured in the values of options
// that are good for other things too.
func refusedValue(option, value string) (reason, remedy string) {
	kind := firstProperty(value, map[string]string{"object": "qom-type", "device": "driver", "drive": "", "global": "driver"}[option])
	switch option {
	case "object":
		switch kind {
		case "sev-snp-guest", "sev-guest", "tdx-guest", "igvm-cfg":
			return "the description decides how the guest is protected", "use policy, host_data, id_block, kernel_hashes, vcek_disabled and guest_visible_workarounds"
		}
	case "device":
		switch {
		case strings.HasSuffix(kind, "-cpu"):
			return "it is a vCPU, and each is measured", "use vcpus"
		case kind == "loader", kind == "guest-loader":
			return "it writes memory or registers that were measured without it", "leave it out"
		}
	case "global":
		driver, _, _ := strings.Cut(kind, ".")
		if strings.HasSuffix(driver, "-cpu") || driver == "cpu" {
			return "it changes the CPU model, which is measured", "use cpu, properties after commas"
		}
		if strings.HasPrefix(driver, "sev-") {
			return "the description decides how the guest is protected", "use policy, host_data and id_block"
		}
	case "drive":
		if strings.Contains(","+value+",", ",if=pflash,") {
			return "SNP starts from an image of one piece, given by -bios", "use firmware"
		}
	}
	return "", ""
}

// firstProperty gives what an argument is about: its first property, whether or not
// it is named, or the one of that name in JSON.
func firstProperty(value, name string) string {
	if strings.HasPrefix(value, "{") {
		var properties map[string]any
		if json.Unmarshal([]byte(value), &properties) == nil {
			kind, _ := properties[name].(string)
			return kind
		}
	}
	for _, p := range strings.Split(value, ",") {
		if kind, ok := strings.CutPrefix(p, name+"="); ok && name != "" {
			return kind
		}
	}
	first, _, _ := strings.Cut(value, ",")
	return first
}
