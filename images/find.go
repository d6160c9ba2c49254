package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Find looks for what Setup would provide, without network and without
// writing. What is not there is empty in the set, and Missing has a sentence
// for it; an error means that the search itself failed, or that a file that the
// user named cannot be used.
func Find(ctx context.Context, o Options) (*Set, error) {
	return find(ctx, o, "/", false)
}

// find looks below root ("/" but in tests); deep compares the contents of cached
// files, not only their size and time.
func find(ctx context.Context, o Options, root string, deep bool) (*Set, error) {
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	s := &Set{}
	if s.QEMU, err = findQEMU(ctx, o.QEMU); err != nil {
		if o.QEMU != "" {
			return nil, err
		}
		s.miss(err.Error() + "; run `snplaunch setup --install` as root, or name one with --qemu")
	}
	if s.Firmware, err = findFirmwareArtifact(c, root, o.Firmware, amdSev, roleFirmware, deep); err != nil {
		return nil, err
	}
	if s.Firmware.Path == "" {
		s.miss("the AmdSev build of OVMF (OVMF.amdsev.fd) is missing; run `snplaunch setup`, or name one with --ovmf")
	}
	if s.GenericFirmware, err = findFirmwareArtifact(c, root, o.GenericFirmware, generic, roleGeneric, deep); err != nil {
		return nil, err
	}
	if s.GenericFirmware.Path == "" {
		s.miss("an OVMF of one piece with SNP metadata (OVMF.fd), for guests without kernel hashes, is missing; run `snplaunch setup`, or name one with --ovmf")
	}
	if o.Kernel != "" {
		if s.Kernel, err = named(o.Kernel); err != nil {
			return nil, err
		}
		s.ModulesDir = o.ModulesDir
	} else if m := c.part(roleKernel, deep); m != nil {
		s.Kernel, s.ModulesDir = m.artifact(), m.modulesDir()
	} else {
		s.miss("a guest kernel is missing; run `snplaunch setup`, or name one with --kernel")
	}
	if err := s.findExtras(ctx, c, o, deep); err != nil {
		return nil, err
	}
	return s, s.findInitrd(c, o)
}

// findExtras looks for what only some callers ask for.
func (s *Set) findExtras(ctx context.Context, c *cache, o Options, deep bool) error {
	if o.QEMUNext {
		q, err := findQEMUNext(ctx, c, deep)
		switch {
		case err != nil:
			return err
		case q.Path == "":
			s.miss(fmt.Sprintf("QEMU %d or later of the distribution, beside the machine's own, is missing; run `snplaunch setup --qemu-next`", minQEMUNext))
		default:
			s.QEMUNext = &q
		}
	}
	if o.Libvirt {
		if m := c.part(roleLibvirt, deep); m != nil {
			a := m.artifact()
			s.Libvirt = &a
		} else {
			s.miss("libvirt, unpacked, is missing; run `snplaunch setup --libvirt`")
		}
	}
	if o.PlainFirmware {
		if m := c.part(rolePlain, deep); m != nil {
			a := m.artifact()
			s.PlainFirmware = &a
		} else {
			s.miss("an OVMF without SNP metadata is missing; run `snplaunch setup --plain-firmware`")
		}
	}
	return nil
}

// findFirmwareArtifact gives the firmware that the user named, the machine's or
// the cache's, in that order.
func findFirmwareArtifact(c *cache, root, path string, kind firmwareKind, r role, deep bool) (Artifact, error) {
	if path != "" {
		if err := checkTables(path, kind); err != nil {
			return Artifact{}, err
		}
		return named(path)
	}
	if p := findFirmware(root, kind); p != "" {
		return named(p)
	}
	if m := c.part(r, deep); m != nil {
		return m.artifact(), nil
	}
	return Artifact{}, nil
}

// named gives a file that is not the cache's, as it is now.
func named(path string) (Artifact, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Artifact{}, err
	}
	sum, err := hashFile(abs)
	if err != nil {
		return Artifact{}, err
	}
	return Artifact{Path: abs, SHA256: sum}, nil
}

// initrdRecord says what an initrd in the cache was built from.
type initrdRecord struct {
	Artifact Artifact `json:"artifact"`
	// Modules is the folder whose modules it brings.
	Modules string `json:"modules"`
	// Source is the hash of the agent's sources; Program, in its place, that
	// of the program which is the small initrd's init.
	Source  string `json:"source,omitempty"`
	Program string `json:"program,omitempty"`
}

// initrdRecordName names the record of the initrd for a hash of sources or
// program, and without a hash that of the one that was built last. Each checkout
// has its own, so that two of them do not take turns in building theirs.
func initrdRecordName(hash string) string {
	if hash == "" {
		return "initrd.json"
	}
	return filepath.Join("initrd", "for-"+hash[:16]+".json")
}

// noShell is the note about the small initrd.
const noShell = "the initrd holds the agent alone, so the guest has no shell and no commands; with Go and the sources at hand, `snplaunch setup` builds one with both"

// findInitrd fills in the initrd, if the one in the cache fits the kernel and
// the sources of today.
func (s *Set) findInitrd(c *cache, o Options) (err error) {
	if o.Initrd != "" {
		s.Initrd, err = named(o.Initrd)
		return err
	}
	const remedy = "; run `snplaunch setup`, or name one with --initrd"
	source, err := sourceHash(o)
	if err != nil {
		return err
	}
	path := c.path(initrdRecordName(source))
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		path = c.path(initrdRecordName(""))
		b, err = os.ReadFile(path)
	}
	if err != nil {
		s.miss("an initrd with the agent is missing" + remedy)
		return nil
	}
	var r initrdRecord
	if err := json.Unmarshal(b, &r); err != nil {
		s.miss(fmt.Sprintf("%s cannot be read (%v)", path, err) + remedy)
		return nil
	}
	if sum, ok := c.known(r.Artifact.Path); !ok || sum != r.Artifact.SHA256 {
		s.miss("the initrd in the cache is damaged or gone" + remedy)
		return nil
	}
	if s.Kernel.Path != "" && r.Modules != s.ModulesDir {
		s.miss("the initrd in the cache was built for another kernel" + remedy)
		return nil
	}
	current, err := r.current(source)
	if err != nil {
		return err
	}
	if !current {
		s.miss("the initrd in the cache was built from other sources than today's" + remedy)
		return nil
	}
	s.Initrd = r.Artifact
	if r.Program != "" {
		s.Notes = append(s.Notes, noShell)
	}
	return nil
}

// current says whether the initrd is what would be built today, as far as that
// can be told without building: sources that are not there, whose hash is empty,
// cannot have changed.
func (r *initrdRecord) current(source string) (bool, error) {
	if r.Program != "" {
		exe, err := os.Executable()
		if err != nil {
			return false, err
		}
		sum, err := hashFile(exe)
		return sum == r.Program, err
	}
	return source == "" || source == r.Source, nil
}

// sourceHash is the hash of the sources that an initrd would be built from,
// empty where there are none.
func sourceHash(o Options) (string, error) {
	dir := o.SourceDir
	if dir == "" {
		var err error
		if dir, err = FindSource(); errors.Is(err, errNoSource) {
			return "", nil
		} else if err != nil {
			return "", err
		}
	}
	all, _, err := hashSource(dir)
	return all, err
}
