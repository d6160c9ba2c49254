package images

import (
	"compress/gzip"
	"io"
)

// compress wraps the archive in gzip, which every kernel can undo.
func compress(w io.Writer) (io.WriteCloser, error) {
	return gzip.NewWriterLevel(w, gzip.BestCompression)
}
