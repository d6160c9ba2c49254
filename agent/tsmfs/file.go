package tsmfs

import (
	"bytes"
	"context"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// textSize is what a text attribute can hold, in bytes (SIMPLE_ATTR_SIZE).
const textSize = 4096

// file is an attribute that somebody opened (struct configfs_buffer). What is
// read is what was there at the first read; what is written to a binary
// attribute is collected, and stored when the file is closed.
type file struct {
	entry     *entry
	attribute *attribute

	mu      sync.Mutex
	content []byte
	filled  bool // for reading
	written bool // and not yet stored
}

var (
	_ fs.FileReader  = (*file)(nil)
	_ fs.FileWriter  = (*file)(nil)
	_ fs.FileFlusher = (*file)(nil)
)

func (f *file) Read(_ context.Context, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.filled {
		content, errno := f.entry.read(f.attribute)
		if errno != 0 {
			return nil, errno
		}
		f.content = bytes.Clone(content)
		f.filled = len(content) > 0
	}
	if offset >= int64(len(f.content)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, f.content[offset:])]), 0
}

func (f *file) Write(_ context.Context, data []byte, offset int64) (uint32, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.attribute.binary {
		// Every write is a value of its own, wherever it is written to.
		n := min(len(data), textSize-1)
		return uint32(n), f.entry.write(f.attribute, data[:n])
	}
	f.written = true
	if offset < 0 || offset > maxInblob-int64(len(data)) {
		return 0, syscall.EFBIG
	}
	if grow := int(offset) + len(data) - len(f.content); grow > 0 {
		f.content = append(f.content, make([]byte, grow)...)
	}
	return uint32(copy(f.content[offset:], data)), 0
}

// Flush is a close of one of the file's descriptors; as in configfs, it never
// fails.
func (f *file) Flush(context.Context) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written {
		f.written = false
		_ = f.entry.write(f.attribute, f.content)
	}
	return 0
}
