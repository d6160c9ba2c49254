package host

import (
	"bufio"
	"compress/gzip"
	"io"
	"os"
	"strings"
)

// KernelConfig is how the running kernel was built.
type KernelConfig struct {
	Path string `json:"path,omitempty"` // where it was read; empty: nowhere
	// Options are CONFIG_… with the value "y" or "m", of those that are asked for.
	Options map[string]string `json:"options,omitempty"`
}

// wantedOptions are looked for. guest_memfd's option was renamed in 6.17.
var wantedOptions = map[string]bool{
	"CONFIG_KVM_AMD_SEV": true, "CONFIG_KVM_PRIVATE_MEM": true, "CONFIG_KVM_GUEST_MEMFD": true,
	"CONFIG_CRYPTO_DEV_SP_PSP": true, "CONFIG_AMD_IOMMU": true, "CONFIG_KVM_AMD": true,
}

func (k KernelConfig) has(option string) bool { return k.Options[option] != "" }

// kernelConfig reads the first of the places where distributions keep it.
func (p probe) kernelConfig(release string) KernelConfig {
	places := []string{"proc/config.gz"}
	if release != "" && !strings.Contains(release, "/") {
		places = append(places, "boot/config-"+release, "lib/modules/"+release+"/config", "usr/lib/modules/"+release+"/config")
	}
	for _, place := range places {
		if p.ctx.Err() != nil {
			break
		}
		f, err := os.Open(p.path(place))
		if err != nil {
			continue
		}
		options, err := readConfig(f, strings.HasSuffix(place, ".gz"))
		f.Close()
		if err == nil && len(options) > 0 {
			return KernelConfig{"/" + place, options}
		}
	}
	return KernelConfig{}
}

// mostConfig bounds a configuration: they have about 300 KiB.
const mostConfig = 8 << 20

func readConfig(r io.Reader, zipped bool) (map[string]string, error) {
	if zipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	options := map[string]string{}
	s := bufio.NewScanner(io.LimitReader(r, mostConfig))
	for s.Scan() {
		if name, v, ok := strings.Cut(s.Text(), "="); ok && wantedOptions[name] {
			options[name] = v
		}
	}
	return options, s.Err()
}
