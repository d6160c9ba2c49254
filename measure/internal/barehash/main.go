// Command barehash hashes what a measurement has to hash and does nothing else: the
// yardstick of scripts/bench. It shares no code with what it is held against.
//
//	barehash FIRMWARE [FILE…]  each file on a goroutine of its own, the firmware by page
//	barehash -chain N          N digests of 112 bytes, each of which holds the one before, spread over the processors
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

const (
	pageSize   = 4096
	infoSize   = 112 // PAGE_INFO
	contentsAt = 48
	bufferSize = 128 << 10
)

func main() {
	n := flag.Int("chain", 0, "`N`: digests to make, spread over the processors")
	flag.Parse()
	if *n > 0 {
		chains(*n)
		return
	}
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: barehash FIRMWARE [FILE…] | barehash -chain N")
		os.Exit(2)
	}
	sums := make([][]byte, flag.NArg())
	var wg sync.WaitGroup
	for i, path := range flag.Args() {
		wg.Go(func() {
			f, err := os.Open(path)
			if err == nil {
				if i == 0 {
					sums[i], err = pages(f)
				} else {
					sums[i], err = whole(f)
				}
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "barehash:", err)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
	for _, s := range sums {
		fmt.Printf("%x\n", s)
	}
}

// whole gives the SHA-256 of a file.
func whole(f *os.File) ([]byte, error) {
	h := sha256.New()
	// Without its other methods the file is read through the buffer.
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, bufferSize))
	return h.Sum(nil), err
}

// pages gives the digest of a chain of PAGE_INFOs, of which only contents and
// digest are filled in. Equal neighbours among the pages are hashed once.
func pages(f *os.File) ([]byte, error) {
	var info [infoSize]byte
	var last [pageSize]byte
	buf := make([]byte, bufferSize)
	for first := true; ; {
		n, err := io.ReadFull(f, buf)
		for at := 0; at+pageSize <= n; at += pageSize {
			if page := buf[at : at+pageSize]; first || !bytes.Equal(page, last[:]) {
				first = false
				copy(last[:], page)
				digest := sha512.Sum384(page)
				copy(info[contentsAt:], digest[:])
			}
			next := sha512.Sum384(info[:])
			copy(info[:], next[:])
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return info[:contentsAt], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// chains makes n digests, in a chain for each processor.
func chains(n int) {
	var wg sync.WaitGroup
	processors := runtime.GOMAXPROCS(0)
	for range processors {
		wg.Go(func() {
			var info [infoSize]byte
			for range n / processors {
				next := sha512.Sum384(info[:])
				copy(info[:], next[:])
			}
		})
	}
	wg.Wait()
}
