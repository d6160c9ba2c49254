package launcher

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/snp"
)

// samePages says whether QEMU B holds, at the addresses of every NORMAL page
// that QEMU A had measured, those very bytes. Only then does B run what A
// launched. memory is a file that B has inherited under the given path.
func samePages(ctx context.Context, b *vm, memory *os.File, path string, launched []snp.Update) error {
	type region struct{ gpa, length uint64 }
	var regions []region
	want := map[uint64]snp.ContentDigest{}
	for _, u := range launched {
		if u.Type != snp.PageNormal {
			continue
		}
		if n := len(regions); n > 0 && regions[n-1].gpa+regions[n-1].length == u.GPA {
			regions[n-1].length += u.Length
		} else {
			regions = append(regions, region{u.GPA, u.Length})
		}
		want[u.GPA] = u.Contents
	}
	if len(regions) == 0 {
		return errors.New("the software host heard of no page with contents")
	}
	page := make([]byte, snp.PageSize)
	for _, r := range regions {
		if err := b.qmp.PMemSave(ctx, r.gpa, r.length, path); err != nil {
			return fmt.Errorf("reading the memory of %s: %w", b.name, err)
		}
		if _, err := memory.Seek(0, io.SeekStart); err != nil {
			return err
		}
		for gpa := r.gpa; gpa < r.gpa+r.length; gpa += snp.PageSize {
			if _, err := io.ReadFull(memory, page); err != nil {
				return fmt.Errorf("reading the memory of %s at 0x%x: %w", b.name, gpa, err)
			}
			if snp.ContentDigest(sha512.Sum384(page)) != want[gpa] {
				return fmt.Errorf("%s has other contents at guest address 0x%x than were measured; it was not started", b.name, gpa)
			}
		}
	}
	return nil
}

// memoryFile makes an anonymous file that a QEMU can inherit.
func memoryFile(name string, contents []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(contents); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// duplicate gives a second descriptor of the same file, for a child to inherit.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
