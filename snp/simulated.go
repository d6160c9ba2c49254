package snp

// SimulatedMarker stands as serialNumber in the Subject of every certificate
// of the software SNP host. Its certificates must otherwise carry AMD's names,
// which verifiers pin; this attribute is what tells them apart, and what package report
// refuses unless it was told to trust that very root.
const SimulatedMarker = "SIMULATED, snplaunch software SNP host, not AMD"

// simulatedChip is how the chip ids of the software SNP host begin. A report that
// came without certificates shows by it that there is no use, and no right, in
// asking AMD for them.
var simulatedChip = [4]byte{'Z', 'S', 'I', 'M'}

// MarkSimulatedChip puts the mark of the software SNP host at the beginning of a chip id.
func MarkSimulatedChip(id *[64]byte) { copy(id[:], simulatedChip[:]) }

// SimulatedChip says whether a chip id is one of the software SNP host. AMD's are
// no text; that one begins so by chance happens to one chip in four thousand million.
func SimulatedChip(id [64]byte) bool { return [4]byte(id[:]) == simulatedChip }
