// Package e2e launches guests with the real QEMU, the real firmware and a real
// kernel, and sees that computed, launched and reported measurement agree, and
// that what must fail does.
package e2e
