# A session of libvirt: the domain snp.xml of the current folder is defined,
# started, asked and destroyed. What is asked goes to stdout, a line each.
set -eu
uri=qemu:///session
virtlogd -d
libvirtd -d
# A file of theirs has no newline after the number.
trap 'for d in libvirtd virtlogd; do kill "$(cat "$XDG_RUNTIME_DIR/libvirt/$d.pid")"; done' EXIT
tries=0
until virsh -c $uri version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { echo "libvirtd does not answer" >&2; exit 1; }
  sleep 0.1
done
virsh -c $uri domcapabilities --machine q35 | grep -c '<value>sev-snp</value>'
virsh -c $uri -q define --validate snp.xml
virsh -c $uri -q start snp
virsh -c $uri -q domstate snp
virsh -c $uri qemu-monitor-command snp '{"execute":"query-sev"}'
virsh -c $uri domlaunchsecinfo snp || echo "no launch security info"
virsh -c $uri -q destroy snp
virsh -c $uri -q domstate snp
virsh -c $uri -q undefine snp
