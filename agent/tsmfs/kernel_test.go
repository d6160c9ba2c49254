package tsmfs

import (
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// kernel stands for Linux's FUSE: it asks the file system what system calls
// make of paths and descriptors. Nothing is mounted.
type kernel struct {
	t  testing.TB
	fs fuse.RawFileSystem
}

func newKernel(t testing.TB, p Provider) *kernel {
	return &kernel{t, newTree(p, &fs.Options{})}
}

// walk gives the node of a path such as tsm/report/a.
func (k *kernel) walk(path string) (uint64, fuse.Attr, syscall.Errno) {
	node := uint64(fuse.FUSE_ROOT_ID)
	var attr fuse.Attr
	for _, name := range strings.Split(path, "/") {
		var out fuse.EntryOut
		if st := k.fs.Lookup(nil, &fuse.InHeader{NodeId: node}, name, &out); st != 0 {
			return 0, attr, syscall.Errno(st)
		}
		node, attr = out.NodeId, out.Attr
	}
	return node, attr, 0
}

func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i], path[i+1:]
}

func (k *kernel) mkdir(path string) syscall.Errno {
	dir, name := split(path)
	node, _, errno := k.walk(dir)
	if errno != 0 {
		return errno
	}
	var out fuse.EntryOut
	in := fuse.MkdirIn{InHeader: fuse.InHeader{NodeId: node}, Mode: 0o700}
	return syscall.Errno(k.fs.Mkdir(nil, &in, name, &out))
}

func (k *kernel) rmdir(path string) syscall.Errno {
	dir, name := split(path)
	node, _, errno := k.walk(dir)
	if errno != 0 {
		return errno
	}
	return syscall.Errno(k.fs.Rmdir(nil, &fuse.InHeader{NodeId: node}, name))
}

// descriptor is an open file.
type descriptor struct {
	k        *kernel
	node, fh uint64
	mode     uint32 // O_RDONLY, O_WRONLY or O_RDWR
	offset   uint64
}

func (k *kernel) open(path string, flags uint32) (*descriptor, syscall.Errno) {
	node, _, errno := k.walk(path)
	if errno != 0 {
		return nil, errno
	}
	var out fuse.OpenOut
	in := fuse.OpenIn{InHeader: fuse.InHeader{NodeId: node}, Flags: flags}
	if st := k.fs.Open(nil, &in, &out); st != 0 {
		return nil, syscall.Errno(st)
	}
	if out.OpenFlags&fuse.FOPEN_DIRECT_IO == 0 {
		k.t.Errorf("%s: without FOPEN_DIRECT_IO the kernel caches what it holds", path)
	}
	return &descriptor{k: k, node: node, fh: out.Fh, mode: flags & syscall.O_ACCMODE}, 0
}

func (d *descriptor) read(n int) ([]byte, syscall.Errno) {
	if d.mode == syscall.O_WRONLY {
		return nil, syscall.EBADF // the kernel's own answer
	}
	buf := make([]byte, n)
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: d.node}, Fh: d.fh, Offset: d.offset, Size: uint32(n)}
	res, st := d.k.fs.Read(nil, &in, buf)
	if st != 0 {
		return nil, syscall.Errno(st)
	}
	b, _ := res.Bytes(buf)
	d.offset += uint64(len(b))
	return append([]byte(nil), b...), 0
}

func (d *descriptor) write(b []byte) (int, syscall.Errno) {
	if d.mode == syscall.O_RDONLY {
		return 0, syscall.EBADF
	}
	in := fuse.WriteIn{InHeader: fuse.InHeader{NodeId: d.node}, Fh: d.fh, Offset: d.offset}
	n, st := d.k.fs.Write(nil, &in, b)
	if st == 0 {
		d.offset += uint64(n)
	}
	return int(n), syscall.Errno(st)
}

func (d *descriptor) close() syscall.Errno {
	in := fuse.FlushIn{InHeader: fuse.InHeader{NodeId: d.node}, Fh: d.fh}
	st := d.k.fs.Flush(nil, &in)
	d.k.fs.Release(nil, &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: d.node}, Fh: d.fh})
	return syscall.Errno(st)
}

// get is what cat does.
func (k *kernel) get(path string) (string, syscall.Errno) {
	d, errno := k.open(path, syscall.O_RDONLY)
	if errno != 0 {
		return "", errno
	}
	defer d.close()
	var out []byte
	for {
		b, errno := d.read(500)
		if errno != 0 {
			return "", errno
		}
		if len(b) == 0 {
			return string(out), 0
		}
		out = append(out, b...)
	}
}

// put is what os.WriteFile does.
func (k *kernel) put(path, content string) syscall.Errno {
	d, errno := k.open(path, syscall.O_WRONLY|syscall.O_TRUNC)
	if errno != 0 {
		return errno
	}
	var out fuse.AttrOut
	in := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: fuse.InHeader{NodeId: d.node}, Valid: fuse.FATTR_SIZE}}
	if st := k.fs.SetAttr(nil, &in, &out); st != 0 {
		return syscall.Errno(st)
	}
	_, errno = d.write([]byte(content))
	if closed := d.close(); errno == 0 {
		errno = closed
	}
	return errno
}
