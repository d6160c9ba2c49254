package tsmfs

import (
	"fmt"
	"io"
	"log"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Mount mounts the file system over the folder dir, usually MountPoint, and
// serves it until unmount is called or the process ends. It needs /dev/fuse and
// the right to mount.
func Mount(dir string, p Provider) (unmount func() error, err error) {
	opts := &fs.Options{MountOptions: fuse.MountOptions{
		FsName: "snplaunch", Name: "tsm", DirectMountStrict: true,
		// As in configfs everybody may look; the kernel checks permissions.
		AllowOther: true, Options: []string{"default_permissions"},
		DisableXAttrs: true, Logger: log.New(io.Discard, "", 0),
	}}
	server, err := fuse.NewServer(newTree(p, opts), dir, &opts.MountOptions)
	if err != nil {
		return nil, fmt.Errorf("mounting the simulated configfs on %s: %w (it needs /dev/fuse, which the kernel module fuse makes)", dir, err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return nil, fmt.Errorf("mounting the simulated configfs on %s: %w", dir, err)
	}
	return func() error { return unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// newTree makes the file system.
func newTree(p Provider, opts *fs.Options) fuse.RawFileSystem {
	return fs.NewNodeFS(&root{folder: folder{since: time.Now()}, module: &module{provider: p}}, opts)
}
