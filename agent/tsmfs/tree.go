package tsmfs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// folder is a directory in which nothing can be made or removed, with the
// errors that configfs has for it.
type folder struct {
	fs.Inode
	since time.Time
}

func (d *folder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = 0o755, 2
	out.SetTimes(&d.since, &d.since, &d.since)
	return 0
}

func (d *folder) Setattr(context.Context, fs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EPERM
}

func (d *folder) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

func (d *folder) Rmdir(context.Context, string) syscall.Errno  { return syscall.EPERM }
func (d *folder) Unlink(context.Context, string) syscall.Errno { return syscall.EPERM }

func (d *folder) Create(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EACCES
}

func (d *folder) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

func (d *folder) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

func (d *folder) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

func (d *folder) Rename(context.Context, string, fs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EPERM
}

// root is the mount point; tsm and tsm/report are in it from the start.
type root struct {
	folder
	module *module
}

func (d *root) OnAdd(ctx context.Context) {
	add := func(parent *fs.Inode, name string, child fs.InodeEmbedder) *fs.Inode {
		n := parent.NewPersistentInode(ctx, child, fs.StableAttr{Mode: syscall.S_IFDIR})
		parent.AddChild(name, n, false)
		return n
	}
	tsm := add(&d.Inode, "tsm", &folder{since: d.since})
	add(tsm, "report", &reports{folder: folder{since: d.since}, module: d.module})
}

// reports is tsm/report, in which entries are made and removed.
type reports struct {
	folder
	module *module
}

func (d *reports) Mkdir(ctx context.Context, _ string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	now := time.Now()
	e := &entry{module: d.module}
	n := d.NewPersistentInode(ctx, &entryFolder{folder: folder{since: now}, entry: e}, fs.StableAttr{Mode: syscall.S_IFDIR})
	for _, a := range attributes {
		n.AddChild(a.name, n.NewPersistentInode(ctx, &attributeFile{entry: e, attribute: a, since: now}, fs.StableAttr{}), false)
	}
	out.Mode, out.Nlink = 0o755, 2
	return n, 0
}

// Rmdir removes an entry; its attributes are no obstacle.
func (d *reports) Rmdir(_ context.Context, name string) syscall.Errno {
	n := d.GetChild(name)
	if n == nil {
		return syscall.ENOENT
	}
	e, ok := n.Operations().(*entryFolder)
	if !ok {
		return syscall.EPERM
	}
	e.entry.remove()
	n.RmAllChildren()
	n.ForgetPersistent()
	return 0
}

// entryFolder is the folder of an entry.
type entryFolder struct {
	folder
	entry *entry
}

// attributeFile is an attribute of an entry.
type attributeFile struct {
	fs.Inode
	entry     *entry
	attribute *attribute
	since     time.Time
}

func (n *attributeFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = n.attribute.mode(), 1
	if !n.attribute.binary {
		out.Size = textSize
	}
	out.SetTimes(&n.since, &n.since, &n.since)
	return 0
}

// Setattr takes the truncation that comes with O_TRUNC, without effect.
func (n *attributeFile) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return syscall.EPERM
	}
	return n.Getattr(ctx, f, out)
}

// Open refuses, even to root, what the attribute has no function for.
func (n *attributeFile) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	mode := flags & syscall.O_ACCMODE
	if mode != syscall.O_RDONLY && n.attribute.store == nil || mode != syscall.O_WRONLY && n.attribute.show == nil {
		return nil, 0, syscall.EACCES
	}
	return &file{entry: n.entry, attribute: n.attribute}, fuse.FOPEN_DIRECT_IO, 0
}
