package snp

import (
	"encoding/binary"
	"fmt"
)

// Sizes in bytes of the ID block structures (56860, SNP_LAUNCH_FINISH).
const (
	IDBlockSize       = 96
	IDAuthSize        = 4096
	ECDSAPublicSize   = 0x404 // public key: curve, Qx, Qy, zeros
	ECDSASigSize      = 512   // signature: r, s, zeros
	ECDSACoordSize    = 72    // one coordinate or r or s: little-endian, zero-extended
	IDBlockVersion    = 1
	KeyAlgoECDSAP384  = 1 // ID_KEY_ALGO, AUTH_KEY_ALGO: ECDSA P-384 with SHA-384
	ECDSACurveP384    = 2 // CURVE of a public key
	idAuthSigOffset   = 0x040
	idAuthKeyOffset   = 0x240
	idAuthAuthSigOff  = 0x680
	idAuthAuthKeyOff  = 0x880
	idAuthReserved1   = 0x008
	idAuthReserved2   = 0x644
	idAuthReserved3   = 0xC84
	idBlockGuestSVN   = 0x54
	idBlockPolicy     = 0x58
	idBlockFamilyID   = 0x30
	idBlockImageID    = 0x40
	idBlockVersionOff = 0x50
)

// IDBlock is the ID block: what the guest owner signed and the firmware
// compares with the launch.
type IDBlock struct {
	LD       LaunchDigest
	FamilyID FamilyID
	ImageID  ImageID
	Version  uint32 // IDBlockVersion
	GuestSVN uint32
	Policy   GuestPolicy
}

// Bytes gives the 96 bytes that are signed.
func (b *IDBlock) Bytes() [IDBlockSize]byte {
	var out [IDBlockSize]byte
	copy(out[0:], b.LD[:])
	copy(out[idBlockFamilyID:], b.FamilyID[:])
	copy(out[idBlockImageID:], b.ImageID[:])
	binary.LittleEndian.PutUint32(out[idBlockVersionOff:], b.Version)
	binary.LittleEndian.PutUint32(out[idBlockGuestSVN:], b.GuestSVN)
	binary.LittleEndian.PutUint64(out[idBlockPolicy:], uint64(b.Policy))
	return out
}

// ParseIDBlock reads the 96 bytes of an ID block; it judges nothing.
func ParseIDBlock(raw []byte) (*IDBlock, error) {
	if len(raw) != IDBlockSize {
		return nil, fmt.Errorf("ID block: got %d bytes, want %d", len(raw), IDBlockSize)
	}
	b := &IDBlock{
		Version:  binary.LittleEndian.Uint32(raw[idBlockVersionOff:]),
		GuestSVN: binary.LittleEndian.Uint32(raw[idBlockGuestSVN:]),
		Policy:   GuestPolicy(binary.LittleEndian.Uint64(raw[idBlockPolicy:])),
	}
	copy(b.LD[:], raw)
	copy(b.FamilyID[:], raw[idBlockFamilyID:])
	copy(b.ImageID[:], raw[idBlockImageID:])
	return b, nil
}

// PublicKeyBytes is a public key as the firmware takes it: CURVE u32, then Qx
// and Qy of ECDSACoordSize bytes each, then zeros. A key digest is the SHA-384
// of all of it.
type PublicKeyBytes [ECDSAPublicSize]byte

// SignatureBytes is a signature as the firmware takes it: r and s of
// ECDSACoordSize bytes each, then zeros.
type SignatureBytes [ECDSASigSize]byte

// IDAuth is the ID authentication information structure.
type IDAuth struct {
	IDKeyAlgo     uint32 // KeyAlgoECDSAP384
	AuthorKeyAlgo uint32 // KeyAlgoECDSAP384, or 0 where there is no author key
	IDBlockSig    SignatureBytes
	IDKey         PublicKeyBytes
	IDKeySig      SignatureBytes // by the author key over IDKey
	AuthorKey     PublicKeyBytes
}

// Bytes gives the page of 4096 bytes that SNP_LAUNCH_FINISH takes.
func (a *IDAuth) Bytes() []byte {
	out := make([]byte, IDAuthSize)
	binary.LittleEndian.PutUint32(out[0:], a.IDKeyAlgo)
	binary.LittleEndian.PutUint32(out[4:], a.AuthorKeyAlgo)
	copy(out[idAuthSigOffset:], a.IDBlockSig[:])
	copy(out[idAuthKeyOffset:], a.IDKey[:])
	copy(out[idAuthAuthSigOff:], a.IDKeySig[:])
	copy(out[idAuthAuthKeyOff:], a.AuthorKey[:])
	return out
}

// ParseIDAuth reads the 4096 bytes of an ID auth structure. It checks the
// size and nothing else: firmware 1.55.25 was observed to ignore reserved
// bytes, so refusing them here would refuse what the firmware takes.
// IDAuthReservedZero tells whether they are zero.
func ParseIDAuth(raw []byte) (*IDAuth, error) {
	if len(raw) != IDAuthSize {
		return nil, fmt.Errorf("ID auth: got %d bytes, want %d", len(raw), IDAuthSize)
	}
	a := &IDAuth{
		IDKeyAlgo:     binary.LittleEndian.Uint32(raw[0:]),
		AuthorKeyAlgo: binary.LittleEndian.Uint32(raw[4:]),
	}
	copy(a.IDBlockSig[:], raw[idAuthSigOffset:])
	copy(a.IDKey[:], raw[idAuthKeyOffset:])
	copy(a.IDKeySig[:], raw[idAuthAuthSigOff:])
	copy(a.AuthorKey[:], raw[idAuthAuthKeyOff:])
	return a, nil
}

// IDAuthReservedZero says whether the reserved bytes of an ID auth page are
// all zero, as the specification asks.
func IDAuthReservedZero(raw []byte) bool {
	if len(raw) != IDAuthSize {
		return false
	}
	for _, r := range [][2]int{{idAuthReserved1, idAuthSigOffset}, {idAuthReserved2, idAuthAuthSigOff}, {idAuthReserved3, IDAuthSize}} {
		for _, c := range raw[r[0]:r[1]] {
			if c != 0 {
				return false
			}
		}
	}
	return true
}
