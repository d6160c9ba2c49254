// Package launcher does the main job: from one description of a guest it
// derives both the launch digest and the QEMU command, launches the guest,
// has it attest, and says whether the firmware reported what was computed.
//
// Two backends do the same work. On hardware there is one QEMU and the
// machine's own Secure Processor. On the software SNP host, QEMU A goes
// through the whole SNP launch under sim/supervise, which hears from it, and
// from nothing else, what is launched; QEMU B then runs the guest, without
// SNP, once its firmware and hashes page were seen to be those that A
// measured; and the report is made by the firmware in sim/psp from A's guest
// context.
package launcher
