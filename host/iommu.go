package host

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// IOMMU is what the kernel shows of the AMD IOMMUs.
type IOMMU struct {
	Present bool `json:"present"` // there is one in /sys/class/iommu
	// Features is the extended feature register of the first; FeaturesKnown says
	// whether it was read.
	Features      uint64 `json:"efr"`
	FeaturesKnown bool   `json:"efr_known"`
	PassThrough   bool   `json:"passthrough"` // the first group's default domain is an identity one
}

// efrSNPSup is SNPSup of the extended feature register (AMD 48882, MMIO offset 0x30).
const efrSNPSup = 1 << 63

// iommu reads /sys/class/iommu/ivhdN/amd-iommu/features, "EFR2:EFR" in hexadecimal
// and EFR alone before Linux 5.19 or so (drivers/iommu/amd/init.c), and
// /sys/kernel/iommu_groups/0/type (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
func (p probe) iommu() IOMMU {
	var m IOMMU
	if p.ctx.Err() != nil {
		return m
	}
	// The pattern has no special characters but its own.
	found, _ := filepath.Glob(p.path("sys/class/iommu") + "/ivhd*")
	m.Present = len(found) > 0
	for _, dir := range found {
		b, err := os.ReadFile(filepath.Join(dir, "amd-iommu/features"))
		if err != nil {
			continue
		}
		text := strings.TrimSpace(string(b))
		text = text[strings.LastIndexByte(text, ':')+1:]
		if v, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64); err == nil {
			m.Features, m.FeaturesKnown = v, true
			break
		}
	}
	m.PassThrough = p.word("sys/kernel/iommu_groups/0/type") == "identity"
	return m
}
