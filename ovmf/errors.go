package ovmf

import "errors"

// What can be wrong with an image. Errors of this package wrap one of these
// and add the place.
var (
	// ErrSize: no OVMF image has this size.
	ErrSize = errors.New("firmware size is not possible, as it is measured by page (give the image as the package ships it)")
	// ErrBIOSSize: QEMU says "could not load PC BIOS".
	ErrBIOSSize = errors.New("firmware's size is not one that QEMU's -bios takes (use the image as the package ships it)")
	// ErrNoTable: the footer GUID is missing, so this is not an OVMF image of
	// one piece. QEMU says "SEV information block/Firmware GUID Table block
	// not found in pflash rom".
	ErrNoTable = errors.New("no OVMF GUID table, so this is not an OVMF image (give OVMF.amdsev.fd or the one-piece OVMF.fd, not OVMF_VARS or another BIOS)")
	// ErrTableTruncated: the table says it is longer than the image.
	ErrTableTruncated = errors.New("OVMF GUID table is truncated (give the whole image, OVMF.amdsev.fd or the one-piece OVMF.fd)")
	// ErrTableEntry: an entry does not fit in the table or in its own type.
	ErrTableEntry = errors.New("OVMF GUID table entry is malformed (use an unmodified image)")
	// ErrMetadataTruncated: the SEV metadata lies outside the image.
	ErrMetadataTruncated = errors.New("SEV metadata is truncated (use an unmodified image)")
	// ErrMetadataSignature: no "ASEV" where the table points.
	ErrMetadataSignature = errors.New("SEV metadata has no ASEV signature (use an unmodified image)")
	// ErrMetadataVersion: another version than 1.
	ErrMetadataVersion = errors.New("SEV metadata has a version that QEMU does not know either (use the image of an EDK2 release)")
	// ErrMetadataCount: more sections than the metadata has room for.
	ErrMetadataCount = errors.New("SEV metadata counts more sections than it holds (use an unmodified image)")
	// ErrSectionAlignment: a section is empty or not made of whole pages.
	ErrSectionAlignment = errors.New("SEV metadata section is not made of whole 4096-byte pages, so it cannot be launched (use an unmodified image)")
	// ErrSectionOverlap: two sections, or a section and the firmware, share a
	// page, which cannot be launched twice.
	ErrSectionOverlap = errors.New("SEV metadata sections overlap, and no page is launched twice (use an unmodified image)")

	// ErrSectionsTooLarge: more launch pages than any firmware has.
	ErrSectionsTooLarge = errors.New("SEV metadata sections are larger than any firmware's, so this image is damaged (use an unmodified one)")

	// ErrNoHashArea: neither a table entry nor a section for kernel hashes:
	// a generic build.
	ErrNoHashArea = errors.New("firmware has no place for kernel hashes (use an AmdSev build, e.g. OVMF.amdsev.fd)")
	// ErrHashSectionMissing: the table entry is there, but no section, so
	// QEMU would place the table without having it measured.
	ErrHashSectionMissing = errors.New("firmware names a kernel hashes table (SEV_HASH_TABLE_RV) but has no SNP_KERNEL_HASHES section, so the table would not be measured (use an AmdSev build of EDK2 2023.05 or later)")
	// ErrHashEntryMissing: the section is there, but no table entry. QEMU says
	// "kernel specified but guest firmware has no hashes table GUID".
	ErrHashEntryMissing = errors.New("firmware has an SNP_KERNEL_HASHES section but no SEV_HASH_TABLE_RV entry that says where the table goes (use an unmodified AmdSev build)")
	// ErrHashBaseZero: the entry's base is 0, as in generic builds. QEMU says
	// "guest firmware hashes table area is invalid".
	ErrHashBaseZero = errors.New("firmware's kernel hashes table has base 0: a generic build (use an AmdSev build, e.g. OVMF.amdsev.fd)")
	// ErrHashTooSmall: the area cannot hold the table of 176 bytes.
	ErrHashTooSmall = errors.New("firmware's kernel hashes area is smaller than the table of 176 bytes (use an unmodified AmdSev build)")
	// ErrHashOutsideSection: the area does not lie in the section's first
	// page, where QEMU puts the table.
	ErrHashOutsideSection = errors.New("firmware's kernel hashes table does not lie in the first page of its SNP_KERNEL_HASHES section (use an unmodified AmdSev build)")
	// ErrHashSections: more than one SNP_KERNEL_HASHES section.
	ErrHashSections = errors.New("firmware has more than one SNP_KERNEL_HASHES section (use an unmodified AmdSev build)")
)
