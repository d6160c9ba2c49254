#!/usr/bin/env python3
"""Recipe of the expected digests in measure_test.go: python3 testdata/recipe.py

Builds the synthetic firmware of package ovmftest, the hashes page and the save
areas from their published layouts, and folds them with hashlib. It shares no
code with the package under test.
"""
from hashlib import sha256, sha384
from struct import pack
from uuid import UUID

PAGE = 4096
NORMAL, VMSA, ZERO, SECRETS, CPUID = 1, 2, 3, 5, 6


def guid(s):
    return UUID(s).bytes_le


def image(sections, rv, secret, reset=0x80B004, size=65536):
    img = bytearray((n % 251) if n < size // 2 else 0xFF for n in range(size))
    meta = b"ASEV" + pack("<III", 16 + 12 * len(sections), 1, len(sections))
    meta += b"".join(pack("<III", *s) for s in sections)
    img[size - 0x800:size - 0x800 + len(meta)] = meta
    table = b""
    for g, data in (
        ("00f771de-1a7e-4fcb-890e-68c77e2fb44e", pack("<I", reset)),
        ("7255371f-3a3b-4b04-927b-1da6efa8d454", pack("<II", *rv)),
        ("4c2eb361-7d9b-4cc3-8081-127c90d3d294", pack("<II", *secret)),
        ("dc886566-984a-4798-a75e-5585a7bf67cc", pack("<I", 0x800)),
    ):
        table += data + pack("<H", len(data) + 18) + guid(g)
    table += pack("<H", len(table) + 18) + guid("96b582de-1fb2-45f7-baea-a366c55a082d")
    img[size - 0x20 - len(table):size - 0x20] = table
    return bytes(img)


FIVE = [(0x800000, 0x9000, 1), (0x80A000, 0x3000, 1), (0x80D000, 0x1000, 2),
        (0x80E000, 0x1000, 3), (0x80F000, 0x1000, 4)]
AMDSEV = FIVE + [(0x811000, 0x1F000, 1), (0x810000, 0x1000, 0x10)]
GENERIC = FIVE + [(0x810000, 0x10000, 1)]
RV, SECRET = (0x810C00, 0x400), (0x810000, 0xC00)


def hash_page(kernel, initrd, cmdline, offset=0xC00):
    t = guid("9438d606-4f22-4cc9-b479-a793d411fd21") + pack("<H", 168)
    for g, d in (("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", cmdline + b"\0"),
                 ("44baf731-3a2f-4bd7-9af1-41e29169781d", initrd),
                 ("4de79437-abd2-427f-b835-d5b172d2045b", kernel)):
        t += guid(g) + pack("<H", 50) + sha256(d).digest()
    return bytes(offset) + t + bytes(PAGE - offset - len(t))


def save_area(sig, features, start):
    p = bytearray(PAGE)

    def put(off, fmt, *v):
        b = pack("<" + fmt, *v)
        p[off:off + len(b)] = b

    seg = "HHIQ"
    for off in (0x00, 0x20, 0x30, 0x40, 0x50):
        put(off, seg, 0, 0x93, 0xFFFF, 0)
    put(0x10, seg, 0xF000, 0x9B, 0xFFFF, start & 0xFFFF0000)
    put(0x60, seg, 0, 0, 0xFFFF, 0)
    put(0x70, seg, 0, 0x82, 0xFFFF, 0)
    put(0x80, seg, 0, 0, 0xFFFF, 0)
    put(0x90, seg, 0, 0x8B, 0xFFFF, 0)
    for off, v in ((0xD0, 0x1000), (0x148, 0x40), (0x158, 0x10), (0x160, 0x400),
                   (0x168, 0xFFFF0FF0), (0x170, 2), (0x178, start & 0xFFFF),
                   (0x268, 0x0007040600070406), (0x310, sig), (0x3B0, features), (0x3E8, 1)):
        put(off, "Q", v)
    put(0x408, "I", 0x1F80)
    put(0x410, "H", 0x37F)
    return bytes(p)


def extend(ld, kind, gpa, contents=bytes(48)):
    return sha384(ld + contents + pack("<HBBBBBBQ", 0x70, kind, 0, 0, 0, 0, 0, gpa)).digest()


def fold(img, sections, page, sig, features, cpus):
    ld = bytes(48)
    base = (1 << 32) - len(img)
    for off in range(0, len(img), PAGE):
        ld = extend(ld, NORMAL, base + off, sha384(img[off:off + PAGE]).digest())
    firmware = ld
    for gpa, size, kind in sections:
        for a in range(gpa, gpa + size, PAGE):
            if kind == 0x10 and page:
                ld = extend(ld, NORMAL, a, sha384(page).digest())
            else:
                ld = extend(ld, {2: SECRETS, 3: CPUID}.get(kind, ZERO), a)
    for n in range(cpus):
        start = 0x80B004 if n else 0xFFFFFFF0
        ld = extend(ld, VMSA, 0xFFFFFFFFF000, sha384(save_area(sig, features, start)).digest())
    return firmware.hex(), ld.hex()


amdsev = image(AMDSEV, RV, SECRET)
generic = image(GENERIC, (0, 0), (0, 0))
strange = AMDSEV + [(0x830000, 0x2000, 0x7F)]
strange_img = image(strange, RV, SECRET)

print("SHA-256 of the AmdSev image", sha256(amdsev).hexdigest())
print("OVMF hash of the AmdSev image", fold(amdsev, [], None, 0, 0, 0)[0])
for name, args in (
    ("AmdSev, no kernel, 1 EPYC-v4", (amdsev, AMDSEV, None, 0x800F12, 1, 1)),
    ("AmdSev, kernel, command line, 1 EPYC-v4",
     (amdsev, AMDSEV, hash_page(b"kernel", b"", b"console=ttyS0"), 0x800F12, 1, 1)),
    ("AmdSev, kernel, initrd, 3 EPYC-Milan, features 0x21",
     (amdsev, AMDSEV, hash_page(b"kernel", b"initrd", b" quiet\n"), 0xA00F11, 0x21, 3)),
    ("generic, kernel without hashes, 2 EPYC-Turin", (generic, GENERIC, None, 0xB00F00, 1, 2)),
    ("AmdSev with a section of type 0x7f, kernel, 2 EPYC-Genoa",
     (strange_img, strange, hash_page(b"kernel", b"", b""), 0xA10F10, 1, 2)),
):
    print(name, fold(*args)[1])
print("SHA-384 of the hashes page", sha384(hash_page(b"kernel", b"", b"console=ttyS0")).hexdigest())
print("SHA-384 of the save area of an EPYC's vCPU 0", sha384(save_area(0x800F12, 1, 0xFFFFFFF0)).hexdigest())
print("SHA-384 of the save area of an EPYC's vCPU 1", sha384(save_area(0x800F12, 1, 0x80B004)).hexdigest())
