// Package measure predicts the launch digest of a guest: it lists, in order,
// every page that the firmware will be told about, and folds the list into the
// digest. Start with Measure, or with MeasureWith for other guests than QEMU's
// of SEV-SNP (Options.Mode, Options.VMM) and for guests that would not launch.
// FromOneVCPU, Metadata and guest.DigestInput do without the images.
//
// The order is QEMU's (target/i386/sev.c) and KVM's
// (arch/x86/kvm/svm/sev.c): the firmware image, the SEV metadata sections in
// table order, then one save area for each vCPU. The folding is SNP_LAUNCH_UPDATE's
// (AMD document 56860, PAGE_INFO).
package measure
