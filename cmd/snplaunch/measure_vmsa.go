package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/vmsa"
)

// vmsaFlags are the flags of measure for save areas.
type vmsaFlags struct {
	dump    bool
	dir     string
	explain bool
}

func addVMSAFlags(fs *flag.FlagSet) *vmsaFlags {
	v := &vmsaFlags{}
	fs.Var((*dumpValue)(v), "dump-vmsa", "write the measured save areas to vmsa0.bin, vmsa1.bin… in the current folder, or with --dump-vmsa=`DIR` there")
	fs.BoolVar(&v.explain, "explain-vmsa", false, "list the fields of the measured save areas")
	return v
}

// dumpValue is --dump-vmsa, with or without a folder.
type dumpValue vmsaFlags

func (*dumpValue) String() string { return "" }

// IsBoolFlag lets the flag stand alone; Set then hears "true", which as a
// folder is spelled ./true.
func (*dumpValue) IsBoolFlag() bool { return true }

func (d *dumpValue) Set(s string) error {
	d.dump, d.dir = true, s
	switch s {
	case "":
		return fmt.Errorf("no folder is named (leave the = out for the current one)")
	case "true":
		d.dir = "."
	case "false":
		d.dump = false
	}
	return nil
}

// write writes the save areas where that is asked for: one file for each vCPU,
// none where one cannot be written.
func (v *vmsaFlags) write(r *measure.Result) error {
	if !v.dump {
		return nil
	}
	if _, err := r.SaveArea(0); err != nil { // before a folder is made for nothing
		return fmt.Errorf("--dump-vmsa: %w", err)
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return fmt.Errorf("--dump-vmsa: %w", err)
	}
	var files []namedFile
	for cpu := range r.VCPUs {
		page, err := r.SaveArea(cpu)
		if err != nil {
			return fmt.Errorf("--dump-vmsa: %w", err)
		}
		files = append(files, namedFile{filepath.Join(v.dir, fmt.Sprintf("vmsa%d.bin", cpu)), page[:]})
	}
	return writeTogether(files...)
}

// saveAreaFields is a save area, field by field.
type saveAreaFields struct {
	FirstVCPU int          `json:"first_vcpu"`
	LastVCPU  int          `json:"last_vcpu"`
	Fields    []vmsa.Field `json:"fields"`
}

// fields reads the save areas that differ, where that is asked for.
func (v *vmsaFlags) fields(r *measure.Result) ([]saveAreaFields, error) {
	if !v.explain {
		return nil, nil
	}
	if _, err := r.SaveArea(0); err != nil {
		return nil, fmt.Errorf("--explain-vmsa: %w", err)
	}
	var out []saveAreaFields
	var last *[vmsa.PageSize]byte
	for cpu := range r.VCPUs {
		page, err := r.SaveArea(cpu)
		if err != nil {
			return nil, fmt.Errorf("--explain-vmsa: %w", err)
		}
		if last != nil && *last == *page {
			out[len(out)-1].LastVCPU = cpu
			continue
		}
		last = page
		out = append(out, saveAreaFields{cpu, cpu, vmsa.Fields(page)})
	}
	return out, nil
}

// printSaveAreas lists save areas as tables.
func (e *env) printSaveAreas(areas []saveAreaFields) error {
	for i, a := range areas {
		if i > 0 {
			fmt.Fprintln(e.stdout)
		}
		if a.FirstVCPU == a.LastVCPU {
			fmt.Fprintf(e.stdout, "VMSA of vCPU %d\n", a.FirstVCPU)
		} else {
			fmt.Fprintf(e.stdout, "VMSA of vCPUs %d to %d\n", a.FirstVCPU, a.LastVCPU)
		}
		w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		for _, f := range a.Fields {
			fmt.Fprintf(w, "0x%03x\t%s\t%s\t%s\n", f.Offset, f.Name, f.Value, f.What)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(e.stdout, "All other bytes are zero.")
	}
	return nil
}
