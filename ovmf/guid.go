package ovmf

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// GUID is an EFI GUID as it lies in the image: the first three fields are
// little-endian, the rest is in reading order.
type GUID [16]byte

// GUIDs of the table and its entries.
var (
	// GUIDTableFooter ends the table; it occupies the bytes from 0x30 to 0x20
	// before the end of the image.
	GUIDTableFooter = mustGUID("96b582de-1fb2-45f7-baea-a366c55a082d")
	// GUIDSEVESReset holds the start address of application processors, u32.
	GUIDSEVESReset = mustGUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
	// GUIDSecretArea holds base and size, u32 each, of the launch secret area.
	GUIDSecretArea = mustGUID("4c2eb361-7d9b-4cc3-8081-127c90d3d294")
	// GUIDHashTableRV (SEV_HASH_TABLE_RV) holds base and size, u32 each, of
	// the kernel hashes table.
	GUIDHashTableRV = mustGUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
	// GUIDSEVMetadata holds the distance from the end of the image to the SEV
	// metadata, u32.
	GUIDSEVMetadata = mustGUID("dc886566-984a-4798-a75e-5585a7bf67cc")
	// GUIDTDXMetadata is TDX's counterpart of GUIDSEVMetadata.
	GUIDTDXMetadata = mustGUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
	// GUIDSVSMInfo appears in SVSM images, not in OVMF.
	GUIDSVSMInfo = mustGUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")
)

// mustGUID encodes a GUID written 8-4-4-4-12.
func mustGUID(s string) GUID {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != 16 {
		panic("ovmf: " + s + " is not a GUID")
	}
	var g GUID
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(raw[0:]))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(raw[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(raw[6:]))
	copy(g[8:], raw[8:])
	return g
}

// String gives the GUID written 8-4-4-4-12 in lower case.
func (g GUID) String() string {
	var raw [16]byte
	binary.BigEndian.PutUint32(raw[0:], binary.LittleEndian.Uint32(g[0:]))
	binary.BigEndian.PutUint16(raw[4:], binary.LittleEndian.Uint16(g[4:]))
	binary.BigEndian.PutUint16(raw[6:], binary.LittleEndian.Uint16(g[6:]))
	copy(raw[8:], g[8:])
	h := hex.EncodeToString(raw[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
