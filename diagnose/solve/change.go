package solve

// dimension is one way in which descriptions differ. Their order is that of
// plausibility: of explanations of one size that with the earlier ones comes first.
// Changes are made to a description in this order, too.
type dimension int

const (
	dimVCPUs dimension = iota
	dimCPU
	dimHashes
	dimHost // before dimFeatures, which then say otherwise than the profile
	dimFeatures
	dimLine
	dimInitrd
	dimKernel
	dimFirmware
	dimVMM
	dimOrder
	dimSVSM
	dimExtent
	dimSwap
	dimensions
)

var dimensionNames = [dimensions]string{
	dimVCPUs: "vcpus", dimCPU: "cpu", dimHashes: "kernel_hashes", dimFeatures: "guest_features", dimHost: "host_kernel",
	dimLine: "append", dimInitrd: "initrd", dimKernel: "kernel", dimFirmware: "firmware", dimVMM: "vmm",
	dimOrder: "sections", dimSVSM: "svsm", dimExtent: "extent", dimSwap: "kernel and initrd",
}

// String gives the key of the description that it is about, where there is one.
func (d dimension) String() string { return dimensionNames[d] }

// alternative is one change to a description.
type alternative struct {
	dim   dimension
	rare  bool // tried late, and never together with another rare one
	file  bool // a file of the folders, which are read after all else was tried by itself
	set   func(*point)
	words func() words
}

// words are what a change is in words.
type words struct {
	found, described string // the two values
	with, without    string // "with kernel hashes off", "with them on"
	note             string
	names            []string // other names for the same value
}

// change gives it as data.
func (a *alternative) change() Change {
	w := a.words()
	return Change{Dimension: a.dim.String(), Described: w.described, Found: w.found, Note: w.note}
}

// apply gives the description that p becomes.
func apply(p point, list ...*alternative) point {
	for _, a := range list {
		a.set(&p)
	}
	return p
}
