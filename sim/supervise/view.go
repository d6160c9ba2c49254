package supervise

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// View is how a foreign command sees what a machine with SEV-SNP has and this one may
// lack: /dev/kvm, /dev/sev, the parameters of kvm_amd, the cpuid device.
type View string

const (
	// ViewAuto is ViewPrivate where this process may mount, else ViewTrapped.
	ViewAuto View = ""
	// ViewPrivate: files of their own in a mount namespace. All that a program
	// can do with a path works, and no call but an open with O_RDWR is held for it.
	// A user who may not mount gets a user namespace around it, in which files of
	// others belong to nobody and supplementary groups have no name.
	ViewPrivate View = "private"
	// ViewTrapped: open, stat and access are held and answered for these
	// paths. It needs no privilege and changes nothing else, but each such call
	// of every program takes about 20 microseconds longer; listings of the
	// folders do not show the files.
	ViewTrapped View = "trapped"

	// viewReal: nothing is shown, as the command is on the machine's own host.
	viewReal View = "real"
)

// resolve decides for ViewAuto.
func (v View) resolve() (View, error) {
	switch v {
	case ViewAuto:
		if hasCapability(unix.CAP_SYS_ADMIN) {
			return ViewPrivate, nil
		}
		return ViewTrapped, nil
	case ViewPrivate, ViewTrapped:
		return v, nil
	}
	return "", fmt.Errorf("the view of the software SNP host is private or trapped, not %q", string(v))
}

// filterOf is what has to be held under a view.
func (v View) filterOf() selection {
	switch v {
	case ViewPrivate:
		return selectPrivate
	case viewReal:
		return selectHeard
	}
	return selectTrapped
}

// mountPrivateView shows the nodes to this process, which is alone in its mount
// namespace, and to all that it will start. Whether it works or not, nothing
// outside of the namespace is changed.
func mountPrivateView(nodes map[string]*node) error {
	// What the system mounts later is seen, what is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := overlayFolder("/dev", nodes); err != nil {
		return fmt.Errorf("a private /dev: %w", err)
	}
	return showParameters(nodes)
}

// showParameters puts the module's parameters in place. Where the module is
// loaded, its folder of parameters is covered by one in which ours are changed; else
// the folder of all modules is covered by one that has this module more.
func showParameters(nodes map[string]*node) error {
	folder := path.Dir(pathModule)
	if _, err := os.Stat(pathParameters); err == nil {
		folder = pathParameters
	} else if _, err := os.Stat(pathModule); err == nil {
		folder = pathModule // built in, without parameters of its own
	} else if _, err := os.Stat(folder); err != nil {
		return nil // no /sys: whoever looks there finds nothing, as on any such machine
	}
	if err := overlayFolder(folder, nodes); err != nil {
		return fmt.Errorf("a private %s: %w", folder, err)
	}
	return nil
}

// overlayFolder covers a folder with a copy that refers to the entries of the
// old one, but for the nodes and the folders that lead to them.
func overlayFolder(folder string, nodes map[string]*node) (err error) {
	old, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(old)
	if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Unmount(folder, unix.MNT_DETACH)
		}
	}()
	return fillFolder(folder, descriptorPath(os.Getpid(), old), nodes)
}

// fillFolder fills an empty folder: with the nodes that belong there, and with
// mounts of what source has besides.
func fillFolder(folder, source string, nodes map[string]*node) error {
	here := map[string]string{} // first path element below folder to a node's path
	for p := range nodes {
		if rest, below := strings.CutPrefix(p, folder+"/"); below {
			first, _, _ := strings.Cut(rest, "/")
			here[first] = path.Join(folder, first)
		}
	}
	entries, err := os.ReadDir(source)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if _, replaced := here[e.Name()]; replaced {
			continue
		}
		if err := showEntry(filepath.Join(folder, e.Name()), filepath.Join(source, e.Name()), e.Type()); err != nil {
			// One that has just gone, or that may not be bound, is not worth a failure.
			if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrPermission) {
				return err
			}
		}
	}
	for _, first := range slices.Sorted(mapKeys(here)) {
		p := here[first]
		n := nodes[p]
		if n == nil || n.mode&unix.S_IFMT == unix.S_IFDIR { // a folder on the way to one
			if err := os.Mkdir(p, 0o755); err != nil {
				return err
			}
			if err := fillFolder(p, filepath.Join(source, first), nodes); err != nil {
				return err
			}
			continue
		}
		if err := n.create(p, filepath.Join(source, "null")); err != nil {
			return err
		}
	}
	return nil
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// showEntry makes an entry of the old folder visible in the new one.
func showEntry(target, source string, kind os.FileMode) error {
	switch {
	case kind&os.ModeSymlink != 0:
		to, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(to, target)
	case kind.IsDir():
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(target, nil, 0o444); err != nil {
			return err
		}
	}
	return os.NewSyscallError("mount", unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""))
}

// create makes a node: a device as a null device, whose ioctls are held, either made or, in
// a user namespace, where none can be made, bound.
func (n *node) create(target, null string) error {
	if n.mode&unix.S_IFMT == unix.S_IFREG {
		f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(n.mode&0o777))
		if err != nil {
			return err
		}
		for _, p := range n.pieces {
			if _, err := f.WriteAt(p.data, p.at); err != nil {
				f.Close()
				return err
			}
		}
		return f.Close()
	}
	err := unix.Mknod(target, n.mode, int(unix.Mkdev(1, 3)))
	if err == nil {
		return os.Chmod(target, os.FileMode(n.mode&0o777)) // the umask has been at it
	}
	if !errors.Is(err, unix.EPERM) {
		return os.NewSyscallError("mknod", err)
	}
	return showEntry(target, null, 0)
}
