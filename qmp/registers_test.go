package qmp

import "testing"

// Outputs of "info registers" from QEMU 10.0.2 (-M q35 -accel tcg), cut.
func TestParseRegisters(t *testing.T) {
	for _, tc := range []struct {
		name, out string
		want      Registers
		bad       bool
	}{
		{name: "reset", out: "\r\nCPU#0\r\nEAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1\r\nESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\r\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\nES =0000 00000000 0000ffff 00009300\r\n",
			want: Registers{RIP: 0xfff0}},
		{name: "application processor before its start-up IPI", out: "CPU#1\r\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n",
			want: Registers{RIP: 0xfff0, Halted: true}},
		{name: "64-bit", out: "RSI=0000000000000000\r\nRIP=ffffffff81e0d3a2 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n",
			want: Registers{RIP: 0xffffffff81e0d3a2, Halted: true}},
		{name: "no CPU", out: "No CPU available\r\n", bad: true},
		{name: "empty", bad: true},
		{name: "no HLT", out: "RIP=0000000000000000 RFL=00000246\r\n", bad: true},
		{name: "too long", out: "RIP=1ffffffff81e0d3a2 RFL=0 HLT=1\r\n", bad: true},
	} {
		got, err := parseRegisters(tc.out)
		if (err != nil) != tc.bad || got != tc.want {
			t.Errorf("%s: got %+v, %v; want %+v, error %v", tc.name, got, err, tc.want, tc.bad)
		}
	}
}
