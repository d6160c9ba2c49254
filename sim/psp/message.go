package psp

import (
	"crypto/aes"
	"crypto/cipher"
	"math"

	"github.com/snplaunch/snplaunch/snp"
)

// Layout of a guest message, one page each for request and response (56860,
// SNP_GUEST_REQUEST; Linux struct snp_guest_msg_hdr): AUTHTAG[32], MSG_SEQNO
// u64, reserved u64, ALGO, HDR_VERSION u8, HDR_SIZE u16, MSG_TYPE, MSG_VERSION
// u8, MSG_SIZE u16, reserved u32, MSG_VMPCK u8, reserved[35], payload.
const (
	msgSeqno      = 0x20
	msgAlgo       = 0x30
	msgHdrVersion = 0x31
	msgHdrSize    = 0x32
	msgType       = 0x34
	msgMsgVersion = 0x35
	msgSize       = 0x36
	msgVMPCK      = 0x3C
	msgPayload    = 0x60

	msgAAD    = 0x30 // the header from here on is authenticated
	msgTag    = 16   // bytes of AUTHTAG that are used
	aes256GCM = 1    // ALGO
	hdrV1     = 1
)

// Request is SNP_GUEST_REQUEST: it takes the page of a request and gives that of
// the response. Its checks come in the order that was observed in SEV firmware
// 1.55.25; a request that fails one moves no counter.
func (g *Guest) Request(page []byte) ([]byte, snp.Status) {
	if st := g.usable(); st != snp.StatusSuccess {
		return nil, st
	}
	if g.state != stateRunning {
		return nil, snp.StatusInvalidGuestState
	}
	if len(page) != snp.PageSize {
		return nil, snp.StatusInvalidParam
	}
	size, vmpck := int(le.Uint16(page[msgSize:])), page[msgVMPCK]
	switch {
	case page[msgAlgo] != aes256GCM, page[msgHdrVersion] != hdrV1, le.Uint16(page[msgHdrSize:]) != msgPayload,
		size == 0, size%aes.BlockSize != 0, size > snp.PageSize-msgPayload, int(vmpck) >= len(g.vmpck):
		return nil, snp.StatusInvalidParam
	}
	seqno := le.Uint64(page[msgSeqno:])
	aead := messageCipher(g.vmpck[vmpck])
	sealed := append(append([]byte{}, page[msgPayload:msgPayload+size]...), page[:msgTag]...)
	payload, err := aead.Open(nil, nonce(seqno), sealed, page[msgAAD:msgPayload])
	if err != nil {
		return nil, snp.StatusBadMeasurement
	}
	// The response takes the next number, so that this one must not be the last.
	if stored := g.counters[vmpck]; seqno == math.MaxUint64 || seqno != stored+1 {
		return nil, snp.StatusAEADOverflow
	}
	typ, answer, st := g.answer(uint32(vmpck), page[msgType], page[msgMsgVersion], payload)
	if st != snp.StatusSuccess {
		return nil, st
	}
	g.counters[vmpck] += 2
	rsp := make([]byte, snp.PageSize)
	le.PutUint64(rsp[msgSeqno:], seqno+1)
	rsp[msgAlgo], rsp[msgHdrVersion] = aes256GCM, hdrV1
	le.PutUint16(rsp[msgHdrSize:], msgPayload)
	rsp[msgType], rsp[msgMsgVersion], rsp[msgVMPCK] = typ, page[msgMsgVersion], vmpck
	le.PutUint16(rsp[msgSize:], uint16(len(answer)))
	sealed = aead.Seal(nil, nonce(seqno+1), answer, rsp[msgAAD:msgPayload])
	copy(rsp[msgPayload:], sealed[:len(answer)])
	copy(rsp, sealed[len(answer):])
	return rsp, snp.StatusSuccess
}

// nonce is the initialisation vector of a message: its number, zero-extended.
func nonce(seqno uint64) []byte { return append(le.AppendUint64(nil, seqno), 0, 0, 0, 0) }

// messageCipher is AES-256-GCM with a VMPCK.
func messageCipher(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return aead
}
