package snp

// SimulatedMarker stands as serialNumber in the Subject of every certificate
// of the software SNP host. Its certificates must otherwise carry AMD's names,
// which verifiers pin; this attribute is what tells them apart, and what package report
// refuses unless it was told to trust that very root.
const SimulatedMarker = "SIMULATED, snplaunch software SNP host, not AMD"
