// Package ovmf reads what an OVMF firmware image says about SEV-SNP: the
// GUIDed table below the reset vector, the SEV metadata sections that become
// launch updates, where application processors start, and where the kernel
// hashes table goes. Start with Parse.
//
// Nothing is held in memory but the table itself; the image is read through
// an io.ReaderAt.
//
// Layouts follow EDK2 (OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm and
// OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm) and what QEMU makes of them
// (hw/i386/pc_sysfw_ovmf.c, target/i386/sev.c). Integers are little-endian;
// GUIDs are stored with their first three fields little-endian.
package ovmf
