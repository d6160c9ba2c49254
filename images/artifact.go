package images

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// Artifact is one file that a guest is made of.
type Artifact struct {
	Path    string `json:"path"`
	Package string `json:"package,omitempty"` // the package it came in; "snplaunch" for what is built here
	Version string `json:"version,omitempty"` // of the package, or of the kernel that an initrd fits
	SHA256  string `json:"sha256,omitempty"`  // 64 lower-case hexadecimal digits; empty where the machine provides the file
}

// hashFile gives the SHA-256 of a file as 64 lower-case hexadecimal digits.
func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
