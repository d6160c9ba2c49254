package kvm

import "github.com/snplaunch/snplaunch/snp"

// Page is a page that entered a guest's digest, as it was handed to the
// firmware: before encryption, and before the firmware filled in secrets.
type Page struct {
	snp.Update
	Bytes []byte // snp.PageSize; nil for a page of zeros
}

// Pages gives every page of the launch, in order, where Options.KeepPages asked
// for them.
func (vm *VM) Pages() []Page { return vm.pages[:len(vm.pages):len(vm.pages)] }

// keepPage remembers a page that the firmware has just taken.
func (vm *VM) keepPage(bytes []byte) {
	if !vm.host.opts.KeepPages {
		return
	}
	updates := vm.guest.Updates()
	vm.pages = append(vm.pages, Page{updates[len(updates)-1], bytes})
}
