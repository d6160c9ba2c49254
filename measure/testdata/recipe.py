#!/usr/bin/env python3
"""Recipe of the expected digests in this package's tests:

    python3 testdata/recipe.py           those that stand in measure_test.go
    python3 testdata/recipe.py variants  testdata/variants.txt, for variants_test.go

Builds the synthetic firmware of package ovmftest, the hashes page and the save
areas from their published layouts, and folds them with hashlib. It shares no
code with the package under test. Where sev-snp-measure 0.0.13 knows a variant,
it was seen to agree, but for what variants_test.go says of SVSM and GCE on Genoa.
"""
import sys
from hashlib import sha256, sha384
from struct import pack
from uuid import UUID

PAGE = 4096
NORMAL, VMSA, ZERO, UNMEASURED, SECRETS, CPUID = 1, 2, 3, 4, 5, 6


def guid(s):
    return UUID(s).bytes_le


def image(sections, rv, secret, reset=0x80B004, size=65536, svsm=None):
    img = bytearray((n % 251) if n < size // 2 else 0xFF for n in range(size))
    meta = b"ASEV" + pack("<III", 16 + 12 * len(sections), 1, len(sections))
    meta += b"".join(pack("<III", *s) for s in sections)
    img[size - 0x800:size - 0x800 + len(meta)] = meta
    table = b""
    entries = [
        ("00f771de-1a7e-4fcb-890e-68c77e2fb44e", pack("<I", reset)),
        ("7255371f-3a3b-4b04-927b-1da6efa8d454", pack("<II", *rv)),
        ("4c2eb361-7d9b-4cc3-8081-127c90d3d294", pack("<II", *secret)),
    ]
    if svsm is not None:
        entries = [("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd", pack("<I", svsm))]
    for g, data in entries + [("dc886566-984a-4798-a75e-5585a7bf67cc", pack("<I", 0x800))]:
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


# What VMMs do differently: attributes of CS (first vCPU, others), DS and its
# like, SS, TR; PAT; RDX, None for the signature; MXCSR and FCW.
PAT = 0x0007040600070406
VMMS = {
    "QEMU": (0x9B, 0x9B, 0x93, 0x93, 0x8B, PAT, None, 0x1F80, 0x37F),
    "ec2": (0x9A, 0x9B, 0x93, 0x92, 0x83, PAT, 0x600, 0, 0),
    "gce": (0x9B, 0x9B, 0x93, 0x93, 0x8B, 0x00070106, 0x600, 0, 0),
    "krun": (0x9A, 0x9A, 0x92, 0x92, 0x83, PAT, 0x600, 0x1F80, 0x37F),
}
BSP = 0xFFFFFFF0


def save_area(sig, features, start, vmm="QEMU", fpu=True, svsm=False):
    cs_bsp, cs_ap, ds, ss, tr, pat, rdx, mxcsr, fcw = VMMS[vmm]
    if vmm == "krun":
        start = BSP
    if rdx is None:
        rdx = sig
    if not fpu:
        mxcsr = fcw = 0
    p = bytearray(PAGE)

    def put(off, fmt, *v):
        b = pack("<" + fmt, *v)
        p[off:off + len(b)] = b

    seg = "HHIQ"
    if svsm:  # flat 32-bit segments with selectors 8 and 16, GS as at reset
        for off in (0x00, 0x20, 0x30, 0x40):
            put(off, seg, 16, 0xC93, 0xFFFFFFFF, 0)
        put(0x10, seg, 8, 0xC9B, 0xFFFFFFFF, 0)
        put(0x50, seg, 0, 0x93, 0xFFFF, 0)
        rip, cr0 = start, 0x11
    else:
        for off in (0x00, 0x30, 0x40, 0x50):
            put(off, seg, 0, ds, 0xFFFF, 0)
        put(0x10, seg, 0xF000, cs_bsp if start == BSP else cs_ap, 0xFFFF, start & 0xFFFF0000)
        put(0x20, seg, 0, ss, 0xFFFF, 0)
        rip, cr0 = start & 0xFFFF, 0x10
    put(0x60, seg, 0, 0, 0xFFFF, 0)
    put(0x70, seg, 0, 0x82, 0xFFFF, 0)
    put(0x80, seg, 0, 0, 0xFFFF, 0)
    put(0x90, seg, 0, tr, 0xFFFF, 0)
    for off, v in ((0xD0, 0x1000), (0x148, 0x40), (0x158, cr0), (0x160, 0x400),
                   (0x168, 0xFFFF0FF0), (0x170, 2), (0x178, rip),
                   (0x268, pat), (0x310, rdx), (0x3B0, features), (0x3E8, 1)):
        put(off, "Q", v)
    put(0x408, "I", mxcsr)
    put(0x410, "H", fcw)
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


def variant(sections=None, rv=(0x810C00, 0x400), secret=(0x810000, 0xC00), reset=0x80B004, size=65536,
            kernel=b"kernel", initrd=b"initrd", cmdline=b"console=ttyS0", sig=0x800F12, features=1, cpus=2,
            vmm="QEMU", fpu=True, vmsa_gpa=0xFFFFFFFFF000, flip=None):
    """The digest of one launch; the defaults are the guest that all variants differ from."""
    sections = AMDSEV if sections is None else sections
    img = bytearray(image(sections, rv, secret, reset, size))
    if flip is not None:
        img[flip] ^= 1
    ld, base = bytes(48), (1 << 32) - size
    for off in range(0, size, PAGE):
        ld = extend(ld, NORMAL, base + off, sha384(img[off:off + PAGE]).digest())
    page = kernel is not None and hash_page(kernel, initrd, cmdline, rv[0] & 0xFFF)
    late = []
    for gpa, length, kind in sections:
        for a in range(gpa, gpa + length, PAGE):
            if kind == 0x10 and page:
                here = page if a == gpa else bytes(PAGE)
                ld = extend(ld, NORMAL, a, sha384(here).digest())
            elif kind == 3 and vmm == "ec2":
                late.append(a)
            else:
                ld = extend(ld, {2: SECRETS, 3: CPUID, 1: UNMEASURED if vmm == "gce" else ZERO}.get(kind, ZERO), a)
    for a in late:
        ld = extend(ld, CPUID, a)
    for n in range(cpus):
        ld = extend(ld, VMSA, vmsa_gpa, sha384(save_area(sig, features, reset if n else BSP, vmm, fpu)).digest())
    return ld.hex()


def plain(es, kernel=b"kernel", initrd=b"initrd", cmdline=b"console=ttyS0", sig=0x800F12, features=0, cpus=2, fpu=True):
    """The SHA-256 of SEV and SEV-ES."""
    h = sha256(image(AMDSEV, (0x810C00, 0x400), (0x810000, 0xC00)))
    if kernel is not None:
        h.update(hash_page(kernel, initrd, cmdline, 0)[:176])
    for n in range(cpus if es else 0):
        h.update(save_area(sig, features, 0x80B004 if n else BSP, fpu=fpu))
    return h.hexdigest()


def svsm(vars_size=0x8000, entry=0x10, sig=0x800F12, features=1, cpus=2, fpu=True):
    firmware, low = image(AMDSEV, (0x810C00, 0x400), (0x810000, 0xC00)), [(0x800000, 0x1000, 2), (0x801000, 0x1000, 3)]
    img = image(low, (0, 0), (0, 0), svsm=entry)
    ld, end = bytes(48), 1 << 32
    for data in (firmware, img):
        base = end - len(data)
        for off in range(0, len(data), PAGE):
            ld = extend(ld, NORMAL, base + off, sha384(data[off:off + PAGE]).digest())
        end = base - vars_size
    for gpa, _, kind in low:
        ld = extend(ld, {2: SECRETS, 3: CPUID}[kind], gpa)
    for _ in range(cpus):
        ld = extend(ld, VMSA, 0xFFFFFFFFF000, sha384(save_area(sig, features, base + entry, fpu=fpu, svsm=True)).digest())
    return ld.hex()


def variants():
    yield "base", variant()
    yield "firmware size 128 KiB", variant(size=131072)
    yield "firmware bit", variant(flip=0x100)
    yield "reset address", variant(reset=0x12345678)
    yield "reset address, one vCPU", variant(reset=0x12345678, cpus=1)
    yield "hashes table base", variant(rv=(0x810A00, 0x400))
    yield "hashes table size", variant(rv=(0x810C00, 0x200))
    yield "secret area", variant(secret=(0x810000, 0x800))
    yield "section moved", variant([(0x700000, 0x9000, 1)] + AMDSEV[1:])
    yield "section larger", variant([AMDSEV[0], (0x80A000, 0x2000, 1)] + AMDSEV[2:])
    yield "section of another type", variant(AMDSEV[:4] + [(0x80F000, 0x1000, 1)] + AMDSEV[5:])
    yield "section of an unknown type", variant(AMDSEV[:4] + [(0x80F000, 0x1000, 0x7F)] + AMDSEV[5:])
    yield "secrets page as unknown type", variant(AMDSEV[:2] + [(0x80D000, 0x1000, 0x7F)] + AMDSEV[3:])
    yield "sections in another order", variant(AMDSEV[::-1])
    yield "hashes section of two pages", variant(AMDSEV[:5] + [(0x812000, 0x1E000, 1), (0x810000, 0x2000, 0x10)])
    yield "no sections but the hashes'", variant(AMDSEV[6:])
    yield "kernel", variant(kernel=b"Kernel")
    yield "no initrd", variant(initrd=b"")
    yield "command line with blanks", variant(cmdline=b" console=ttyS0\n")
    yield "no command line", variant(cmdline=b"")
    yield "no kernel", variant(kernel=None)
    yield "signature", variant(sig=0xA10F10)
    yield "features", variant(features=0x21)
    yield "features none", variant(features=0)
    yield "features reserved", variant(features=0x8000000000000001)
    yield "one vCPU", variant(cpus=1)
    yield "seven vCPUs", variant(cpus=7)
    yield "amd-6.8", variant(fpu=False)
    yield "amd-6.6", variant(fpu=False, features=0x21)
    yield "ec2", variant(vmm="ec2")
    yield "gce", variant(vmm="gce")
    yield "gce on Genoa", variant(vmm="gce", vmsa_gpa=0xFFFFFFFFFF000)
    yield "krun", variant(vmm="krun")
    yield "sev", plain(False)
    yield "sev, no kernel", plain(False, kernel=None)
    yield "seves", plain(True)
    yield "seves, Rome, 5 vCPUs", plain(True, sig=0x830F10, cpus=5)
    yield "seves, 6.6", plain(True, features=0x20, fpu=False)
    yield "seves, no kernel", plain(True, kernel=None)
    yield "svsm", svsm()
    yield "svsm, other variable store", svsm(vars_size=0x84000)
    yield "svsm, no variable store", svsm(vars_size=0)
    yield "svsm, entry", svsm(entry=0x2040)
    yield "svsm, Turin, 4 vCPUs", svsm(sig=0xB00F00, cpus=4)
    yield "svsm, amd-6.8", svsm(fpu=False)


if sys.argv[1:] == ["variants"]:
    for line in variants():
        print("%s: %s" % line)
    sys.exit()

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
