package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

// idblockParts reads what the one or two files of verify and show hold.
func idblockParts(verb string, files []string) (*idblock.Parts, error) {
	if len(files) == 0 {
		return nil, usageError("idblock %s: name the file with the ID block, and that with the ID auth where it is another", verb)
	}
	all := &idblock.Parts{}
	for _, f := range files {
		p, err := idblock.ReadParts(f)
		if err != nil {
			return nil, err
		}
		if err := all.Merge(p); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	if all.Block == nil {
		return nil, fmt.Errorf("%s has no ID block; name a file that has", files[0])
	}
	return all, nil
}

func idblockVerify(e *env, args []string) error {
	fs := e.flags("idblock verify", "FILE [FILE] [flags]\n\nMakes every check that the firmware makes at SNP_LAUNCH_FINISH, in its order, and says which hold and which fail; exit code 1 when one fails. The files hold ID block and ID auth: raw, base64, QEMU options, JSON, or a libvirt domain.")
	measurement := fs.String("measurement", "", "`HEX|BASE64`: launch digest that the ID block must hold")
	policy := fs.String("policy", "", "`N`: policy that it must hold")
	author := fs.String("author-key-enabled", "auto", "`on|off|auto`: whether the author key counts; auto: as the files say, else when there is one")
	asJSON := fs.Bool("json", false, "print an object")
	files, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	parts, err := idblockParts("verify", files)
	if err != nil {
		return err
	}
	if parts.Auth == nil {
		return fmt.Errorf("%s has an ID block but no ID auth, and the signatures are in the latter; name its file, too", files[0])
	}
	block, err := snp.ParseIDBlock(parts.Block)
	if err != nil {
		return err
	}
	auth, err := snp.ParseIDAuth(parts.Auth)
	if err != nil {
		return err
	}
	var launch idblock.Launch
	if *measurement != "" {
		ld, err := idblock.ParseLaunchDigest(*measurement)
		if err != nil {
			return usageError("--measurement: %w", err)
		}
		launch.LD = &ld
	}
	if *policy != "" {
		p, err := snp.ParseGuestPolicy(*policy)
		if err != nil {
			return usageError("--policy: %w", err)
		}
		launch.Policy = &p
	}
	withAuthor := idblock.HasAuthorKey(auth)
	if *author != "auto" {
		if withAuthor, err = parseOnOff(*author); err != nil {
			return usageError("--author-key-enabled: %w", err)
		}
	} else if parts.AuthorKeyEnabled != nil {
		withAuthor = *parts.AuthorKeyEnabled
	}
	checks := idblock.Checks(block, auth, withAuthor, launch)
	remarks, err := idblock.Remarks(block, parts.Auth)
	if err != nil {
		return err
	}
	failure := idblock.FirstFailure(checks)
	if *asJSON {
		type check struct {
			idblock.Check
			Status string `json:"status,omitempty"`
		}
		out := struct {
			Holds         bool           `json:"holds"`
			AuthorKey     bool           `json:"author_key_enabled"`
			IDKeyDigest   snp.KeyDigest  `json:"id_key_digest"`
			AuthorKeyHash *snp.KeyDigest `json:"author_key_digest,omitempty"`
			Checks        []check        `json:"checks"`
			Remarks       []string       `json:"remarks,omitempty"`
		}{Holds: failure == nil, AuthorKey: withAuthor, IDKeyDigest: idblock.DigestPublicKey(auth.IDKey), Remarks: remarks}
		if withAuthor {
			d := idblock.DigestPublicKey(auth.AuthorKey)
			out.AuthorKeyHash = &d
		}
		for _, c := range checks {
			status := ""
			if c.Outcome == idblock.Fails {
				status = c.Status.String()
			}
			out.Checks = append(out.Checks, check{c, status})
		}
		return errors.Join(e.json(out), failure)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, c := range checks {
		word := map[idblock.Outcome]string{idblock.Holds: "ok", idblock.Fails: "FAILS", idblock.NotChecked: "-"}[c.Outcome]
		fmt.Fprintf(w, "%s\t%s\t%s\n", word, c.Field, c.Text)
	}
	for _, r := range remarks {
		fmt.Fprintf(w, "note\t%s\n", r)
	}
	return errors.Join(w.Flush(), failure)
}

func idblockShow(e *env, args []string) error {
	fs := e.flags("idblock show", "FILE [FILE] [--json]\n\nPrints the fields of ID block and ID auth in words. The files are as for verify.")
	asJSON := fs.Bool("json", false, "print a list of objects")
	files, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	parts, err := idblockParts("show", files)
	if err != nil {
		return err
	}
	block, err := snp.ParseIDBlock(parts.Block)
	if err != nil {
		return err
	}
	lines, err := idblock.Show(block, parts.Auth)
	if err != nil {
		return err
	}
	if *asJSON {
		return e.json(lines)
	}
	for _, l := range lines {
		fmt.Fprintln(e.stdout, l)
	}
	return nil
}
