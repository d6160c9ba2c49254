package ovmf

import (
	"encoding/binary"
	"errors"
)

var errLZMA = errors.New("compressed section is damaged")

// decodeLZMA unpacks an LZMA stream of the old container (13 bytes of header:
// properties, dictionary size, unpacked size), which is what EDK2's
// LzmaCustomDecompress sections hold; at most limit bytes come out, beside an error those
// up to it. What follows the stream is ignored. It follows the public-domain LZMA specification
// (lzma-specification.txt of the LZMA SDK). The decoder is here because the kept
// Go libraries unpack only the newer .xz container.
func decodeLZMA(src []byte, limit int) ([]byte, error) {
	const header = 13
	if len(src) < header+5 || src[0] >= 9*5*5 || src[header] != 0 {
		return nil, errLZMA
	}
	props := uint(src[0])
	size := binary.LittleEndian.Uint64(src[5:])
	if size > uint64(limit) {
		return nil, errLZMA
	}
	d := &lzmaDecoder{
		lc: props % 9, lp: props / 9 % 5, pb: props / 45,
		src: src[header+5:], rng: 0xFFFFFFFF, code: binary.BigEndian.Uint32(src[header+1:]),
	}
	d.literal = make([]uint16, 0x300<<(d.lc+d.lp))
	for _, p := range [][]uint16{d.literal, d.isMatch[:], d.isRep[:], d.isRepG0[:], d.isRepG1[:], d.isRepG2[:], d.isRep0Long[:], d.special[:], d.align[:]} {
		reset(p)
	}
	for i := range d.slot {
		reset(d.slot[i][:])
	}
	d.lenOf.reset()
	d.repLenOf.reset()
	d.out = make([]byte, 0, min(size, 1<<20))
	return d.run(int(size))
}

const (
	lzmaStates   = 12
	probBits     = 11
	probInit     = 1 << (probBits - 1)
	moveBits     = 5
	topValue     = 1 << 24
	alignBits    = 4
	endPosModel  = 14
	fullDistance = 1 << (endPosModel / 2)
	matchMinLen  = 2
)

type lzmaDecoder struct {
	lc, lp, pb uint
	src, out   []byte
	rng, code  uint32
	bad        bool // the input ended too early

	literal                          []uint16
	isMatch, isRep0Long              [lzmaStates << 4]uint16
	isRep, isRepG0, isRepG1, isRepG2 [lzmaStates]uint16
	slot                             [4][64]uint16
	special                          [1 + fullDistance - endPosModel]uint16
	align                            [1 << alignBits]uint16
	lenOf, repLenOf                  lenDecoder
}

type lenDecoder struct {
	choice, choice2 uint16
	low, mid        [16][8]uint16
	high            [256]uint16
}

func reset(p []uint16) {
	for i := range p {
		p[i] = probInit
	}
}

func (l *lenDecoder) reset() {
	l.choice, l.choice2 = probInit, probInit
	for i := range l.low {
		reset(l.low[i][:])
		reset(l.mid[i][:])
	}
	reset(l.high[:])
}

func (d *lzmaDecoder) normalize() {
	if d.rng >= topValue {
		return
	}
	d.rng <<= 8
	d.code <<= 8
	if len(d.src) == 0 {
		d.bad = true
		return
	}
	d.code |= uint32(d.src[0])
	d.src = d.src[1:]
}

func (d *lzmaDecoder) bit(p *uint16) uint32 {
	bound := d.rng >> probBits * uint32(*p)
	var b uint32
	if d.code < bound {
		*p += (1<<probBits - *p) >> moveBits
		d.rng = bound
	} else {
		*p -= *p >> moveBits
		d.code -= bound
		d.rng -= bound
		b = 1
	}
	d.normalize()
	return b
}

func (d *lzmaDecoder) direct(n uint) uint32 {
	var v uint32
	for ; n > 0; n-- {
		d.rng >>= 1
		d.code -= d.rng
		t := -(d.code >> 31) // all ones where the bit is 0
		d.code += d.rng & t
		v = v<<1 + t + 1
		d.normalize()
	}
	return v
}

func (d *lzmaDecoder) tree(p []uint16, bits uint) uint32 {
	m := uint32(1)
	for range bits {
		m = m<<1 | d.bit(&p[m])
	}
	return m - 1<<bits
}

func (d *lzmaDecoder) reverseTree(p []uint16, bits uint) uint32 {
	m, v := uint32(1), uint32(0)
	for i := range bits {
		b := d.bit(&p[m])
		m = m<<1 | b
		v |= b << i
	}
	return v
}

func (d *lzmaDecoder) length(l *lenDecoder, pos uint) uint32 {
	if d.bit(&l.choice) == 0 {
		return d.tree(l.low[pos][:], 3)
	}
	if d.bit(&l.choice2) == 0 {
		return 8 + d.tree(l.mid[pos][:], 3)
	}
	return 16 + d.tree(l.high[:], 8)
}

// putLiteral decodes one byte; after a match it is coded against the byte that
// the match would have brought next.
func (d *lzmaDecoder) putLiteral(state uint, rep0 uint32) {
	var prev uint
	if n := len(d.out); n > 0 {
		prev = uint(d.out[n-1])
	}
	context := (uint(len(d.out))&(1<<d.lp-1))<<d.lc + prev>>(8-d.lc)
	p := d.literal[0x300*context:][:0x300]
	sym := uint32(1)
	if state >= 7 {
		match := uint32(d.out[len(d.out)-int(rep0)-1])
		for sym < 0x100 {
			want := match >> 7 & 1
			match <<= 1
			b := d.bit(&p[(1+want)<<8+sym])
			sym = sym<<1 | b
			if b != want {
				break
			}
		}
	}
	for sym < 0x100 {
		sym = sym<<1 | d.bit(&p[sym])
	}
	d.out = append(d.out, byte(sym))
}

func (d *lzmaDecoder) distance(length uint32) uint32 {
	slot := d.tree(d.slot[min(length, 3)][:], 6)
	if slot < 4 {
		return slot
	}
	bits := uint(slot>>1 - 1)
	dist := (2 | slot&1) << bits
	if slot < endPosModel {
		return dist + d.reverseTree(d.special[dist-slot:], bits)
	}
	return dist + d.direct(bits-alignBits)<<alignBits + d.reverseTree(d.align[:], alignBits)
}

func (d *lzmaDecoder) run(size int) ([]byte, error) {
	var state uint
	var rep0, rep1, rep2, rep3 uint32
	for len(d.out) < size && !d.bad {
		pos := uint(len(d.out)) & (1<<d.pb - 1)
		if d.bit(&d.isMatch[state<<4+pos]) == 0 {
			d.putLiteral(state, rep0)
			switch {
			case state < 4:
				state = 0
			case state < 10:
				state -= 3
			default:
				state -= 6
			}
			continue
		}
		after := func(low, high uint) uint {
			if state < 7 {
				return low
			}
			return high
		}
		var length uint32
		if d.bit(&d.isRep[state]) == 0 {
			rep3, rep2, rep1 = rep2, rep1, rep0
			length = d.length(&d.lenOf, pos)
			state = after(7, 10)
			rep0 = d.distance(length)
			if rep0 == 0xFFFFFFFF {
				return d.out, errLZMA // an end mark before the announced size
			}
		} else {
			if len(d.out) == 0 {
				return d.out, errLZMA
			}
			if d.bit(&d.isRepG0[state]) == 0 {
				if d.bit(&d.isRep0Long[state<<4+pos]) == 0 {
					state = after(9, 11)
					if int64(rep0) >= int64(len(d.out)) {
						return d.out, errLZMA
					}
					d.out = append(d.out, d.out[len(d.out)-int(rep0)-1])
					continue
				}
			} else {
				dist := rep1
				if d.bit(&d.isRepG1[state]) != 0 {
					dist = rep2
					if d.bit(&d.isRepG2[state]) != 0 {
						dist = rep3
						rep3 = rep2
					}
					rep2 = rep1
				}
				rep1, rep0 = rep0, dist
			}
			length = d.length(&d.repLenOf, pos)
			state = after(8, 11)
		}
		if int64(rep0) >= int64(len(d.out)) {
			return d.out, errLZMA
		}
		for n := min(int(length)+matchMinLen, size-len(d.out)); n > 0; n-- {
			d.out = append(d.out, d.out[len(d.out)-int(rep0)-1])
		}
	}
	if d.bad {
		return d.out, errLZMA
	}
	return d.out, nil
}
