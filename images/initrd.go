package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/u-root/mkuimage/cpio"

	"github.com/snplaunch/snplaunch/agent/guestagent"
)

// guestModules are the kernel modules that the agent may load: the real
// device's driver, and what the simulated device is made with.
var guestModules = []string{"cuse", "sev-guest"}

// optionalModules are more of them: without configfs, which kernels before 6.7
// can lack, a guest on the software host has a device but no configfs-tsm. The others
// are for devices that few guests have.
var optionalModules = []string{"configfs", "virtio_net", "virtio_blk", "vmw_vsock_virtio_transport"}

// InitrdOptions says what an initrd is built from.
type InitrdOptions struct {
	// SourceDir is the folder with snplaunch's go.mod. Where it is empty,
	// FindSource looks for it.
	SourceDir string
	// ModulesDir is lib/modules/VERSION of the kernel that the guest boots.
	// Where it is empty the initrd has no modules, which is right for a
	// kernel that has them built in.
	ModulesDir string
	// CacheDir holds the finished initrd and what goes into it; the same
	// folder as Options.CacheDir, and the same default.
	CacheDir string
	// Progress, which may be nil, gets a line before each step that takes
	// more than a moment.
	Progress func(string)
}

// BuildInitrd builds the guest's initrd: u-root's shell and basic commands, and
// the agent as /init. It needs Go and snplaunch's sources; BuildSmallInitrd
// does without both. The same inputs give the same bytes, and where they have
// been built before, nothing is built.
func BuildInitrd(ctx context.Context, o InitrdOptions) (Artifact, error) {
	b, err := newInitrdBuild(o)
	if err != nil {
		return Artifact{}, err
	}
	src, err := openSource(ctx, o.SourceDir)
	if err != nil {
		return Artifact{}, err
	}
	modules, err := b.moduleRecords()
	if err != nil {
		return Artifact{}, err
	}
	key := hashParts("initrd", initrdFormat, src.goVersion, src.hash, src.commandsKey(), hashRecords(modules))
	return b.finish(ctx, "initrd", key, func(tmp string) ([]cpio.Record, error) {
		base, err := b.busybox(ctx, src, tmp)
		if err != nil {
			return nil, err
		}
		b.progress("building the agent")
		init := filepath.Join(tmp, "init")
		if err := src.buildAgent(ctx, init); err != nil {
			return nil, err
		}
		record, err := programRecord("init", init)
		if err != nil {
			return nil, err
		}
		// The agent under its own name: a guest's own tests ask it for keys.
		name := cpio.Symlink("bin/snp-agent", "/init")
		return append(append(append(baseRecords(), base...), record, name), modules...), nil
	})
}

// BuildSmallInitrd builds an initrd of the agent alone, without Go and without
// sources: program is a static executable that calls guestagent.RunAsInit when
// it runs as init, as snplaunch itself does. The guest has no shell and no
// commands; a command that the host asks for must be brought by other means.
func BuildSmallInitrd(ctx context.Context, program string, o InitrdOptions) (Artifact, error) {
	b, err := newInitrdBuild(o)
	if err != nil {
		return Artifact{}, err
	}
	if err := checkStatic(program); err != nil {
		return Artifact{}, err
	}
	sum, err := hashFile(program)
	if err != nil {
		return Artifact{}, fmt.Errorf("small initrd: %w", err)
	}
	modules, err := b.moduleRecords()
	if err != nil {
		return Artifact{}, err
	}
	key := hashParts("small initrd", initrdFormat, sum, hashRecords(modules))
	return b.finish(ctx, "small-initrd", key, func(string) ([]cpio.Record, error) {
		record, err := programRecord("init", program)
		if err != nil {
			return nil, err
		}
		return append(append(baseRecords(), record), modules...), nil
	})
}

// initrdFormat changes whenever the code in this package makes another initrd
// from the same inputs.
const initrdFormat = "3"

// initrdBuild is one build.
type initrdBuild struct {
	o     InitrdOptions
	cache *cache
}

func newInitrdBuild(o InitrdOptions) (*initrdBuild, error) {
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	return &initrdBuild{o, c}, nil
}

func (b *initrdBuild) progress(s string) {
	if b.o.Progress != nil {
		b.o.Progress(s)
	}
}

// finish gives the initrd of that key, from the cache or by writing the
// records that make gives.
func (b *initrdBuild) finish(ctx context.Context, name, key string, make func(tmp string) ([]cpio.Record, error)) (Artifact, error) {
	a := Artifact{
		Path:    b.cache.path("initrd", name+"-"+key[:16]+".cpio.gz"),
		Package: "snplaunch", Version: filepath.Base(b.o.ModulesDir),
	}
	if b.o.ModulesDir == "" {
		a.Version = ""
	}
	if sum, ok := b.cache.known(a.Path); ok {
		a.SHA256 = sum
		return a, nil
	}
	tmp, err := b.cache.tempDir()
	if err != nil {
		return Artifact{}, err
	}
	defer os.RemoveAll(tmp)
	records, err := make(tmp)
	if err != nil {
		return Artifact{}, err
	}
	if err := ctx.Err(); err != nil {
		return Artifact{}, err
	}
	out := filepath.Join(tmp, "initrd")
	if err := writeInitrd(out, records); err != nil {
		return Artifact{}, err
	}
	a.SHA256, err = b.cache.add(out, a.Path)
	return a, err
}

// moduleRecords gives the modules as guestagent expects them.
func (b *initrdBuild) moduleRecords() ([]cpio.Record, error) {
	if b.o.ModulesDir == "" {
		return nil, nil
	}
	tree, err := openModuleTree(b.o.ModulesDir)
	if err != nil {
		return nil, err
	}
	wanted, err := tree.forGuest()
	if err != nil {
		return nil, err
	}
	var out []cpio.Record
	for _, want := range wanted {
		for i, m := range want.files {
			name := filepath.Join(guestagent.ModulesDir, want.name, fmt.Sprintf("%02d-%s.ko", i, m.name))
			out = append(out, cpio.StaticRecord(m.data, cpio.Info{Name: name[1:], Mode: cpio.S_IFREG | 0o644}))
		}
	}
	return out, nil
}

// baseRecords are the folders and devices that init needs before it has
// mounted anything, and the one user there is.
func baseRecords() []cpio.Record {
	out := []cpio.Record{
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.StaticFile("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644),
		cpio.StaticFile("etc/group", "root:x:0:\n", 0o644),
	}
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"} {
		out = append(out, cpio.Directory(d, 0o755))
	}
	return out
}

func programRecord(name, path string) (cpio.Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return cpio.Record{}, fmt.Errorf("initrd: %w", err)
	}
	return cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | 0o755}), nil
}

// writeInitrd writes records as a compressed archive, with all folders on the
// way to a file, in the order of their names and without times, owners and
// inode numbers of this machine.
func writeInitrd(path string, records []cpio.Record) error {
	byName := map[string]cpio.Record{}
	for _, r := range records {
		r.Name = cpio.Normalize(r.Name)
		byName[r.Name] = r
	}
	for name := range byName {
		for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
			if _, ok := byName[d]; !ok {
				byName[d] = cpio.Directory(d, 0o755)
			}
		}
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	sort.Strings(names) // a folder comes before what is in it
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	defer f.Close()
	z, err := compress(f)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	w := cpio.Newc.Writer(z)
	for i, name := range names {
		r := cpio.MakeReproducible(byName[name])
		r.Ino = uint64(i)
		if err := w.WriteRecord(r); err != nil {
			return fmt.Errorf("initrd: writing %s: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	return errors.Join(z.Close(), f.Close())
}

// hashParts hashes strings so that no two lists of strings collide.
func hashParts(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashRecords(records []cpio.Record) string {
	h := sha256.New()
	for _, r := range records {
		fmt.Fprintf(h, "%s %o %d\n", r.Name, r.Mode, r.FileSize)
		if r.ReaderAt != nil {
			io.Copy(h, io.NewSectionReader(r, 0, int64(r.FileSize)))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
