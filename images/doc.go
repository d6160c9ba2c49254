// Package images finds, fetches, checks, keeps and builds what a guest is made
// of: QEMU, the firmware, the kernel with its modules, and the initrd around
// package agent.
//
// Find looks and changes nothing; Setup also fetches and builds what Find does
// not find. What the machine has comes first; what is fetched comes from the
// machine's own package mirror, through apt, with the keys that it trusts, into a
// folder of the user's own.
package images
