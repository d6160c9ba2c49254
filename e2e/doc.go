// Package e2e runs a matrix of launches and says which of them did not do what
// was expected. Start with Load and Matrix.Run, or in a test of your own with
// Run.
//
// A matrix (matrix.yaml) has groups. Each spans axes over a description of a
// guest; every point is a cell, and so is each thing that can be made wrong on
// purpose with one (Tampers). A cell is a launch without a boot, whose ID block
// lets the firmware itself compare the digest, or a full one with boot, report,
// verification and steps.
//
// The package's tests launch with the real QEMU, the real firmware and a real
// kernel, and see that computed, launched and reported measurement agree, and
// that what must fail does.
package e2e
