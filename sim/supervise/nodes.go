package supervise

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// node is a file that a machine with SEV-SNP has and that programs look at to
// find out whether this is one.
type node struct {
	mode         uint32 // S_IFMT and permissions
	major, minor uint32 // of a device
	ino          uint64
	pieces       []piece
}

// piece is a part of a regular file's contents; between pieces are holes.
type piece struct {
	at   int64
	data []byte
}

func (n *node) size() int64 {
	var size int64
	for _, p := range n.pieces {
		size = max(size, p.at+int64(len(p.data)))
	}
	return size
}

// Where a machine with SEV-SNP differs from others.
const (
	pathKVM        = "/dev/kvm"
	pathSEV        = "/dev/sev"
	pathCPUID      = "/dev/cpu/0/cpuid"
	pathModule     = "/sys/module/kvm_amd"
	pathParameters = pathModule + "/parameters"
)

// moduleParameters are those that AMD's guides and libvirt have people look at.
var moduleParameters = []string{"sev", "sev_es", "sev_snp"}

// nodes lists what is shown, parents before their entries.
//
// The cpuid file answers for leaf 0x8000001F alone, which scripts read to find the
// C-bit. The real one counts each 16 bytes that are read as one leaf (Linux
// arch/x86/kernel/cpuid.c); an ordinary file cannot. So the leaf is put in both places
// where it is looked for: at its own number, for pread(2), and 0x1F records after
// 0x80000000, for dd, which seeks there and reads on.
func nodes(cbitpos int) map[string]*node {
	yes := []piece{{0, []byte("Y\n")}}
	leaf := cpuidSEV(cbitpos)
	m := map[string]*node{
		pathKVM:        {mode: unix.S_IFCHR | 0o666, major: 10, minor: 232},
		pathSEV:        {mode: unix.S_IFCHR | 0o666, major: 10, minor: 124},
		pathCPUID:      {mode: unix.S_IFREG | 0o444, pieces: []piece{{0x8000001F, leaf}, {0x80000000 + 0x1F*16, leaf}}},
		pathModule:     {mode: unix.S_IFDIR | 0o755},
		pathParameters: {mode: unix.S_IFDIR | 0o755},
	}
	for _, p := range moduleParameters {
		m[path.Join(pathParameters, p)] = &node{mode: unix.S_IFREG | 0o444, pieces: yes}
	}
	for i, p := range slices.Sorted(maps.Keys(m)) {
		m[p].ino = uint64(i) + 1
	}
	return m
}

// cpuidSEV is CPUID 0x8000001F, EAX to EDX (AMD APM 3, E.4.17), of a machine
// with SME, SEV, SEV-ES, SEV-SNP and VMPLs. The C-bit is where this machine's CPUID instruction
// has it, which a program may compare; ASIDs are those of an EPYC 9004.
func cpuidSEV(cbitpos int) []byte {
	const (
		features = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5
		reduced  = 5 << 6 // physical address bits
		vmpls    = 4 << 12
		asids    = 1006
		minSEV   = 100 // the lowest ASID without SEV-ES
	)
	var b []byte
	for _, r := range []uint32{features, uint32(max(cbitpos, 0))&0x3F | reduced | vmpls, asids, minSEV} {
		b = append(b, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
	}
	return b
}

// lastNames are the last elements of the paths that nodes gives: what a relative
// path must end in to be worth a closer look.
func lastNames(nodes map[string]*node) map[string]bool {
	m := map[string]bool{}
	for p := range nodes {
		m[path.Base(p)] = true
	}
	return m
}

// lookUp finds the node that a system call names. dirFD and name are the
// call's; a relative name counts from the caller's folder.
func (l *loop) lookUp(c *caller, dirFD int32, addr uint64) (string, *node) {
	name, err := c.readString(addr, maxPath)
	if err != nil || name == "" {
		return "", nil
	}
	if name[0] != '/' {
		if !l.lastNames[path.Base(name)] {
			return "", nil
		}
		folder := fmt.Sprintf("/proc/%d/cwd", c.pid)
		if dirFD != unix.AT_FDCWD {
			folder = fmt.Sprintf("/proc/%d/fd/%d", c.pid, dirFD)
		}
		folder, err := readLink(folder)
		if err != nil {
			return "", nil
		}
		name = folder + "/" + name
	} else if !strings.HasPrefix(name, "/dev/") && !strings.HasPrefix(name, "/sys/module/") && !strings.Contains(name, "/.") && !strings.Contains(name, "//") {
		return "", nil // most of them
	}
	name = path.Clean(name)
	return name, l.nodes[name]
}

// access is access(2) for whoever is neither owner nor group of the node.
func (n *node) access(mode uint32) unix.Errno {
	if n.mode&mode&7 != mode&7 {
		return unix.EACCES
	}
	return 0
}

// stat is what stat(2) tells.
func (n *node) stat() *unix.Stat_t {
	return &unix.Stat_t{
		Dev: unix.Mkdev(0, 0x534e), Ino: n.ino, Nlink: 1, Mode: n.mode, Rdev: unix.Mkdev(n.major, n.minor),
		Size: n.size(), Blksize: 4096,
	}
}

// statx is what statx(2) tells.
func (n *node) statx() *unix.Statx_t {
	return &unix.Statx_t{
		Mask: unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_NLINK | unix.STATX_UID | unix.STATX_GID | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_BLOCKS,
		Mode: uint16(n.mode), Nlink: 1, Ino: n.ino, Size: uint64(n.size()), Blksize: 4096,
		Rdev_major: n.major, Rdev_minor: n.minor, Dev_minor: 0x534e,
	}
}
