// Package solve says what a launch digest was made of that is not the one
// expected: it searches the ways in which a guest can differ from its
// description, and names the smallest change that explains the digest. Start
// with Solve.
//
// A digest says nothing about what is near it, so every description has to be
// tried. What makes that quick is that launches share their beginnings: the
// digest after firmware and metadata sections is folded once for each
// combination of those, the save areas of a kind of vCPU are hashed once, and
// each further vCPU costs one SHA-384 of 112 bytes.
//
// Descriptions that give one digest are one launch, and no digest can tell
// them apart: an Explanation names all of them.
package solve
