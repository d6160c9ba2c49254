package measure

import (
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// plainDigest is the launch digest of SEV and SEV-ES: one SHA-256 over all
// that LAUNCH_UPDATE_DATA encrypts, which is the firmware and, with kernel
// hashes, their table, and for SEV-ES over the save areas that
// LAUNCH_UPDATE_VMSA encrypts (AMD's SEV API, chapter 6, LAUNCH_UPDATE_*).
func (l *launch) plainDigest() error {
	var wg sync.WaitGroup
	var hashErr, firmwareErr error
	h := sha256.New()
	wg.Go(func() {
		_, err := io.Copy(h, l.in.Firmware.Reader())
		if err != nil {
			firmwareErr = fmt.Errorf("reading %s: %w", l.in.Firmware.Path, err)
			return
		}
		firmwareErr = l.in.Firmware.Unchanged()
	})
	if l.usesHashes() {
		wg.Go(func() { l.HashTable, hashErr = hashTable(l.g, l.in) })
	}
	wg.Wait()
	if firmwareErr != nil {
		return firmwareErr
	}
	if hashErr != nil {
		return hashErr
	}
	if l.HashTable != nil {
		table := l.HashTable.Bytes()
		h.Write(table[:])
	}
	if l.Mode == SEVES {
		if err := l.setSaveAreas(l.g, l.opt); err != nil {
			return err
		}
		bsp, ap := l.areas(l.CPUSig, l.GuestFeatures)
		h.Write(bsp[:])
		for range l.VCPUs - 1 {
			h.Write(ap[:])
		}
	}
	l.Digest = h.Sum(nil)
	return nil
}
