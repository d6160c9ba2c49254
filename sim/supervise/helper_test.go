package supervise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The helpers do what QEMU and scripts do, with the system calls that they
// use. Each gives the number of things that were not as they should be.

type helper struct{ bad int }

func (h *helper) check(good bool, format string, args ...any) {
	if !good {
		h.bad++
		fmt.Fprintf(os.Stderr, "helper: "+format+"\n", args...)
	}
}

func (h *helper) must(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		fmt.Fprintf(os.Stderr, "helper: line %d: %v\n", line, err)
		os.Exit(100)
	}
}

func runHelper(name string, args []string) int {
	h := &helper{}
	do := map[string]func([]string){
		"look": h.look, "files": h.files, "given": h.given, "received": h.received, "kicks": h.kicks,
		"guest": h.guest, "exec": h.exec, "print": h.print, "nested": h.nested, "denied": h.denied, "supervise": h.supervise,
		"survivor": h.survivor, "open": h.open,
	}[name]
	if do == nil {
		fmt.Fprintf(os.Stderr, "no helper %q\n", name)
		return 101
	}
	do(args)
	return h.bad
}

func ioctl(fd int, request, arg uintptr) (int, unix.Errno) {
	r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	return int(r), e
}

// Requests, include/uapi/linux/kvm.h and cdrom.h.
const (
	getAPIVersion = 0xAE00
	createVM      = 0xAE01
	checkExt      = 0xAE03
	createVCPU    = 0xAE41
	vcpuMmapSize  = 0xAE04
	encryptOp     = 0xC008AEBA
	cdromEject    = 0x5309
)

func (h *helper) openKVM() int {
	fd, err := unix.Open(pathKVM, unix.O_RDWR|unix.O_CLOEXEC, 0)
	h.must(err)
	return fd
}

// look finds the host with every call that programs use for it.
func (h *helper) look([]string) {
	for _, dev := range []struct {
		path  string
		minor uint32
	}{{pathKVM, 232}, {pathSEV, 124}} {
		var st unix.Stat_t
		h.must(unix.Stat(dev.path, &st))
		h.check(st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Mode&0o666 == 0o666, "stat %s: mode %o", dev.path, st.Mode)
		h.must(unix.Lstat(dev.path, &st))
		h.check(st.Mode&unix.S_IFMT == unix.S_IFCHR, "lstat %s: mode %o", dev.path, st.Mode)
		path, err := unix.BytePtrFromString(dev.path)
		h.must(err)
		_, _, e := unix.Syscall(unix.SYS_STAT, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&st)), 0)
		h.check(e == 0 && st.Mode&unix.S_IFMT == unix.S_IFCHR, "stat(2) %s: %v, mode %o", dev.path, e, st.Mode)
		_, _, e = unix.Syscall(unix.SYS_LSTAT, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&st)), 0)
		h.check(e == 0 && st.Mode&unix.S_IFMT == unix.S_IFCHR, "lstat(2) %s: %v, mode %o", dev.path, e, st.Mode)
		var sx unix.Statx_t
		h.must(unix.Statx(unix.AT_FDCWD, dev.path, 0, unix.STATX_ALL, &sx))
		h.check(sx.Mode&unix.S_IFMT == unix.S_IFCHR, "statx %s: mode %o", dev.path, sx.Mode)
		h.must(unix.Access(dev.path, unix.R_OK|unix.W_OK))
		h.must(unix.Faccessat(unix.AT_FDCWD, dev.path, unix.R_OK, 0))
		h.must(unix.Faccessat2(unix.AT_FDCWD, dev.path, unix.W_OK, 0))
		e = errnoOf(unix.Faccessat2(unix.AT_FDCWD, dev.path, unix.X_OK, 0))
		h.check(e == unix.EACCES, "a device is executable: %v", e)
		_, _, e = unix.Syscall(unix.SYS_ACCESS, uintptr(unsafe.Pointer(path)), unix.F_OK, 0)
		h.check(e == 0, "access(2) %s: %v", dev.path, e)
		// However it is opened, it is the host's.
		for name, open := range map[string]func() (int, error){
			"O_RDWR":           func() (int, error) { return unix.Open(dev.path, unix.O_RDWR, 0) },
			"O_RDONLY":         func() (int, error) { return unix.Open(dev.path, unix.O_RDONLY, 0) },
			"O_RDWR|O_CREAT":   func() (int, error) { return unix.Open(dev.path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o666) },
			"openat2":          func() (int, error) { return unix.Openat2(unix.AT_FDCWD, dev.path, &unix.OpenHow{Flags: unix.O_RDWR}) },
			"by folder":        func() (int, error) { return openIn("/dev", filepath.Base(dev.path)) },
			"from the folder":  func() (int, error) { return openFrom("/dev", filepath.Base(dev.path)) },
			"a roundabout way": func() (int, error) { return unix.Open("/dev/../dev//./"+filepath.Base(dev.path), unix.O_RDWR, 0) },
			"open(2)": func() (int, error) {
				fd, _, e := unix.Syscall(unix.SYS_OPEN, uintptr(unsafe.Pointer(path)), unix.O_RDWR, 0)
				if e != 0 {
					return -1, e
				}
				return int(fd), nil
			},
		} {
			fd, err := open()
			h.check(err == nil, "%s of %s: %v", name, dev.path, err)
			if err != nil {
				continue
			}
			if dev.path == pathKVM {
				v, e := ioctl(fd, getAPIVersion, 0)
				h.check(v == 12 && e == 0, "%s of %s: KVM_GET_API_VERSION gives %d, %v", name, dev.path, v, e)
			} else {
				status := make([]byte, 12)
				issue := issueCommand(1, status)
				_, e := ioctl(fd, sevIssueCommand, uintptr(unsafe.Pointer(&issue[0])))
				h.check(e == 0 && status[0] == 1, "%s of %s: PLATFORM_STATUS gives %v, % x", name, dev.path, e, status)
				runtime.KeepAlive(status)
			}
			cloexec, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			h.must(err)
			h.check((cloexec != 0) == (name == "O_RDWR|O_CREAT"), "%s of %s: close-on-exec %d", name, dev.path, cloexec)
			unix.Close(fd)
		}
	}
	for _, p := range moduleParameters {
		name := filepath.Join(pathParameters, p)
		b, err := os.ReadFile(name) // O_RDONLY|O_CLOEXEC
		h.check(err == nil && string(b) == "Y\n", "%s: %q, %v", name, b, err)
		st, err := os.Stat(name)
		h.check(err == nil && st.Mode().IsRegular() && st.Mode().Perm() == 0o444, "%s: %v, %v", name, st, err)
	}
	st, err := os.Stat(pathParameters)
	h.check(err == nil && st.IsDir(), "%s: %v", pathParameters, err)
	h.check(errors.Is(unix.Access("/sys/module/kvm_amd/parameters/none", unix.F_OK), unix.ENOENT), "a parameter that does not exist is there")
	h.check(errors.Is(unix.Access("/dev/kvm0", unix.F_OK), unix.ENOENT), "a device that does not exist is there")

	fd, err := unix.Open(pathCPUID, unix.O_RDONLY, 0)
	h.must(err)
	want := cpuidSEV(51)
	got := make([]byte, 16)
	n, err := unix.Pread(fd, got, 0x8000001F)
	h.check(n == 16 && err == nil && bytes.Equal(got, want), "cpuid by pread: % x, %v", got, err)
	h.check(binary.LittleEndian.Uint32(got[4:])&0x3F == 51, "C-bit %d", binary.LittleEndian.Uint32(got[4:])&0x3F)

	// As scripts ask, AMDSEV's for one.
	for _, line := range []string{
		"test -e /dev/sev && test -c /dev/sev && test -r /dev/kvm && test -w /dev/kvm",
		"[ -e /sys/module/kvm_amd ] && [ -d /sys/module/kvm_amd/parameters ]",
		`[ "$(cat /sys/module/kvm_amd/parameters/sev_snp)" = Y ] && grep -q Y /sys/module/kvm_amd/parameters/sev_es`,
		"stat /dev/sev >/dev/null && ls -l /dev/sev /dev/kvm >/dev/null",
		`[ $(( $(dd if=/dev/cpu/0/cpuid ibs=16 count=32 skip=134217728 2>/dev/null | tail -c 16 | od -An -t u4 -j 4 -N 4) & 63 )) = 51 ]`,
		"cd /dev && test -e sev && exec 3<>kvm",
		"cd /sys/module/.. && test -r module/kvm_amd/parameters/sev",
	} {
		out, err := exec.Command("/bin/sh", "-c", line).CombinedOutput()
		h.check(err == nil, "%s: %v\n%s", line, err, out)
	}
}

func errnoOf(err error) unix.Errno {
	var e unix.Errno
	errors.As(err, &e)
	return e
}

func openIn(folder, name string) (int, error) {
	dir, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.Openat(dir, name, unix.O_RDWR, 0)
}

func openFrom(folder, name string) (int, error) {
	back, err := os.Getwd()
	if err != nil {
		return -1, err
	}
	if err := os.Chdir(folder); err != nil {
		return -1, err
	}
	fd, err := unix.Open(name, unix.O_RDWR, 0)
	return fd, errors.Join(err, os.Chdir(back))
}

// issueCommand is struct sev_issue_cmd, packed: cmd u32, data u64, error u32.
func issueCommand(cmd uint32, data []byte) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint32(b, cmd)
	binary.LittleEndian.PutUint64(b[4:], uint64(uintptr(unsafe.Pointer(&data[0]))))
	return b
}

// files: what a descriptor stands for goes by its file, whatever becomes of
// the number, and files of others are left alone.
func (h *helper) files([]string) {
	fd := h.openKVM()
	ask := func(fd int, what string) {
		v, e := ioctl(fd, getAPIVersion, 0)
		h.check(v == 12 && e == 0, "%s: KVM_GET_API_VERSION gives %d, %v", what, v, e)
	}
	ask(fd, "opened")
	done := make(chan struct{})
	go func() { // from another thread
		runtime.LockOSThread()
		defer close(done)
		ask(fd, "in another thread")
	}()
	<-done
	dup, err := unix.Dup(fd)
	h.must(err)
	unix.Close(fd)
	ask(dup, "duplicated")
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0) // gets the number again
	h.must(err)
	h.check(null == fd, "number %d was not used again: %d", fd, null)
	for _, request := range []uintptr{getAPIVersion, checkExt, createVM, sevIssueCommand} {
		_, e := ioctl(null, request, 0)
		h.check(e == unix.ENOTTY, "ioctl 0x%x of the null device: %v", request, e)
	}
	// /dev/null bears no other name by being open as one.
	_, e := ioctl(dup, cdromEject, 0)
	h.check(e != 0, "CDROMEJECT is answered")
	h.must(unix.Dup3(dup, null, unix.O_CLOEXEC))
	ask(null, "put in another's place")

	vm, e := ioctl(dup, createVM, 0)
	h.check(e == 0 && vm > 2, "KVM_CREATE_VM: %d, %v", vm, e)
	size, e := ioctl(dup, vcpuMmapSize, 0)
	h.check(e == 0 && size > 0, "KVM_GET_VCPU_MMAP_SIZE: %d, %v", size, e)
	vcpu, e := ioctl(vm, createVCPU, 0)
	h.check(e == 0, "KVM_CREATE_VCPU: %v", e)
	_, err = unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	h.must(err)
	for name, f := range map[string]int{"VM": vm, "vCPU": vcpu} {
		flags, err := unix.FcntlInt(uintptr(f), unix.F_GETFD, 0)
		h.must(err)
		h.check(flags == unix.FD_CLOEXEC, "a %s's descriptor outlives exec", name)
	}
	// A child has the device, and a VM that it may not use: kvm_vm_ioctl.
	child := exec.Command("/proc/self/exe", helperWord, "given")
	child.ExtraFiles = []*os.File{os.NewFile(uintptr(dup), "kvm"), os.NewFile(uintptr(vm), "vm")}
	child.Stderr = os.Stderr
	h.check(child.Run() == nil, "in a child: %v", child.ProcessState)
	_, e = ioctl(vm, checkExt, 0)
	h.check(e == 0, "KVM_CHECK_EXTENSION on a VM that a child has used: %v", e)

	// A descriptor that is sent.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	h.must(err)
	child = exec.Command("/proc/self/exe", helperWord, "received")
	child.ExtraFiles = []*os.File{os.NewFile(uintptr(pair[1]), "socket")}
	child.Stderr = os.Stderr
	h.must(child.Start())
	h.must(unix.Sendmsg(pair[0], []byte{1}, unix.UnixRights(dup), nil, 0))
	h.check(child.Wait() == nil, "in a child that was sent a descriptor: %v", child.ProcessState)
}

func (h *helper) given([]string) {
	v, e := ioctl(3, getAPIVersion, 0)
	h.check(v == 12 && e == 0, "an inherited /dev/kvm gives %d, %v", v, e)
	_, e = ioctl(4, checkExt, 0)
	h.check(e == unix.EIO, "another process's VM gives %v, not EIO", e)
}

func (h *helper) received([]string) {
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, on, _, _, err := unix.Recvmsg(3, buf, oob, 0)
	h.must(err)
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	h.must(err)
	fds, err := unix.ParseUnixRights(&msgs[0])
	h.must(err)
	v, e := ioctl(fds[0], getAPIVersion, 0)
	h.check(v == 12 && e == 0, "a received /dev/kvm gives %d, %v", v, e)
	vm, e := ioctl(fds[0], createVM, 0)
	h.check(e == 0, "KVM_CREATE_VM on it: %v", e)
	_, e = ioctl(vm, checkExt, 0)
	h.check(e == 0, "KVM_CHECK_EXTENSION on that VM: %v", e)
}

// kicks: KVM_RUN ends with EINTR when a signal comes or immediate_exit is set,
// also where the handler asks for other calls to be made again.
func (h *helper) kicks([]string) {
	kvmFD := h.openKVM()
	vm, e := ioctl(kvmFD, createVM, 0)
	h.check(e == 0, "KVM_CREATE_VM: %v", e)
	size, _ := ioctl(kvmFD, vcpuMmapSize, 0)
	vcpu, e := ioctl(vm, createVCPU, 0)
	h.check(e == 0, "KVM_CREATE_VCPU: %v", e)
	run, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	h.must(err)
	signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1) // Go installs it with SA_RESTART

	run[1] = 1 // immediate_exit
	_, e = ioctl(vcpu, kvmRun, 0)
	h.check(e == unix.EINTR, "KVM_RUN with immediate_exit: %v", e)
	run[1] = 0
	for i := range 5 {
		tid := make(chan int, 1)
		var entered atomic.Int64
		result := make(chan unix.Errno, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid <- unix.Gettid()
			entered.Store(1)
			_, e := ioctl(vcpu, kvmRun, 0)
			result <- e
		}()
		id := <-tid
		for !inCall(id, unix.SYS_IOCTL) {
			time.Sleep(time.Millisecond)
		}
		select {
		case e := <-result:
			h.check(false, "KVM_RUN does not wait: %v", e)
		case <-time.After(20 * time.Millisecond):
		}
		h.must(unix.Tgkill(os.Getpid(), id, unix.SIGUSR1))
		select {
		case e := <-result:
			h.check(e == unix.EINTR, "kick %d of a vCPU: %v", i, e)
		case <-time.After(5 * time.Second):
			h.check(false, "kick %d of a vCPU does not get through", i)
			return
		}
	}
}

// inCall says whether a thread of this process is in a system call.
func inCall(tid, nr int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
	return err != nil || strings.HasPrefix(string(b), strconv.Itoa(nr)+" ")
}

// guest starts an SNP launch and then does as its argument says: it ends, or
// waits.
func (h *helper) guest(args []string) {
	kvmFD := h.openKVM()
	vm, e := ioctl(kvmFD, createVM, 4)
	h.check(e == 0, "KVM_CREATE_VM: %v", e)
	sev, err := unix.Open(pathSEV, unix.O_RDWR, 0)
	h.must(err)
	command := func(id uint32, params []byte) {
		cmd := make([]byte, 24)
		binary.LittleEndian.PutUint32(cmd, id)
		binary.LittleEndian.PutUint64(cmd[8:], uint64(uintptr(unsafe.Pointer(&params[0]))))
		binary.LittleEndian.PutUint32(cmd[20:], uint32(sev))
		_, e := ioctl(vm, encryptOp, uintptr(unsafe.Pointer(&cmd[0])))
		h.check(e == 0, "KVM_MEMORY_ENCRYPT_OP %d: %v", id, e)
		runtime.KeepAlive(params)
	}
	command(22, make([]byte, 48)) // KVM_SEV_INIT2
	start := make([]byte, 64)
	binary.LittleEndian.PutUint64(start, 0x30000)
	command(100, start) // KVM_SEV_SNP_LAUNCH_START
	if h.bad == 0 && len(args) > 0 {
		h.must(os.WriteFile(args[0], nil, 0o600))
		time.Sleep(time.Minute)
	}
}

// exec starts this program again, by way of a thread that is not the first,
// with arguments that it may or may not write to.
func (h *helper) exec(args []string) {
	path, err := unix.BytePtrFromString("/proc/self/exe")
	h.must(err)
	pointer := func(s string) *byte {
		p, err := unix.BytePtrFromString(s)
		h.must(err)
		return p
	}
	var option *byte
	if args[0] == "literal" { // as in a compiled program
		option = unsafe.StringData("sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=1\x00")
	} else {
		option = pointer("sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=1")
	}
	argv := []*byte{pointer("helper"), pointer(helperWord), pointer("print"), pointer(args[1]), option, nil}
	envv := []*byte{nil}
	onOtherThread(func() {
		_, _, e := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
		h.check(false, "execve: %v", e)
	})
}

// print writes an argument to a file.
func (h *helper) print(args []string) {
	h.must(os.WriteFile(args[0], []byte(args[1]), 0o600))
}

// nested tries to supervise while it is supervised.
func (h *helper) nested(args []string) {
	_, err := Start(exec.Command("/bin/true"), Config{CBitPos: -1})
	h.must(os.WriteFile(args[0], fmt.Appendln(nil, err), 0o600))
}

// denied keeps system calls from itself, as a container's profile does, and
// then supervises: RESULT ERRNO NUMBER… -- COMMAND….
func (h *helper) denied(args []string) {
	errno, err := strconv.Atoi(args[1])
	h.must(err)
	prog := []unix.SockFilter{{Code: bpfLoad, K: dataNR}}
	i := 2
	for ; args[i] != "--"; i++ {
		nr, err := strconv.Atoi(args[i])
		h.must(err)
		prog = append(prog, unix.SockFilter{Code: bpfEq, K: uint32(nr), Jf: 1}, unix.SockFilter{Code: bpfRet, K: 0x00050000 | uint32(errno)})
	}
	prog = append(prog, unix.SockFilter{Code: bpfRet, K: retAllow})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	runtime.LockOSThread()
	h.must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	const setModeFilter, tsync = 1, 1
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, tsync, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		h.must(e)
	}
	runtime.UnlockOSThread()
	h.supervise(append([]string{args[0], string(ViewAuto)}, args[i+1:]...))
}

// supervise supervises a command itself: RESULT VIEW COMMAND…. What happened
// goes to the file.
func (h *helper) supervise(args []string) {
	ca := os.Getenv("SUPERVISE_ROOTS")
	said := &log{}
	machine, err := machineFrom(ca)
	h.must(err)
	f, err := StartForeign(args[2], args[2:], Config{Host: machine, CBitPos: 51, View: View(args[1]), Logf: said.add})
	if err != nil {
		said.add("error: %v", err)
	} else {
		status, err := f.Wait()
		said.add("status %d, %v, view %s", status, err, f.View())
	}
	h.must(os.WriteFile(args[0], []byte(said.String()), 0o644))
}

// survivor leaves a process behind that lives a while, and ends with 7.
func (h *helper) survivor(args []string) {
	cmd := exec.Command("/bin/sleep", args[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	h.must(cmd.Start())
	h.bad = 7
}

// open opens /dev/kvm, whatever that gives.
func (h *helper) open([]string) {
	if fd, err := unix.Open(pathKVM, unix.O_RDWR, 0); err == nil {
		_, _ = ioctl(fd, getAPIVersion, 0)
	}
}
