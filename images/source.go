package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// modulePath is the name in snplaunch's go.mod.
const modulePath = "github.com/snplaunch/snplaunch"

// agentDirs are the folders that the agent is compiled from.
var agentDirs = []string{"agent", "sim/guestdev", "snp"}

// source is a checkout of snplaunch and the Go that compiles it.
type source struct {
	dir       string
	goRoot    string
	goVersion string
	// hash is of all that the guest's programs are compiled from,
	// commandsHash of what all but the agent are; go.sum stands for what is
	// not in this repository.
	hash, commandsHash string
}

// errNoSource means that the initrd with a shell cannot be built here.
var errNoSource = errors.New("no sources of snplaunch")

// errNoGo means the same, for want of a compiler.
var errNoGo = errors.New("no Go")

// FindSource gives the folder with snplaunch's go.mod: the working directory,
// the folder of this program, or one above either.
func FindSource() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for {
			if isSource(dir) {
				return dir, nil
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return "", fmt.Errorf("%w in the working directory, beside this program or above either", errNoSource)
}

func isSource(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && bytes.HasPrefix(b, []byte("module "+modulePath+"\n"))
}

// openSource looks at the sources in dir, or in FindSource's, and at Go.
func openSource(ctx context.Context, dir string) (*source, error) {
	var err error
	if dir == "" {
		if dir, err = FindSource(); err != nil {
			return nil, err
		}
	} else if !isSource(dir) {
		return nil, fmt.Errorf("%w in %s: its go.mod is missing or names another module than %s", errNoSource, dir, modulePath)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &source{dir: dir}
	if s.hash, s.commandsHash, err = hashSource(dir); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("go"); err != nil {
		return nil, fmt.Errorf("%w in PATH, which compiles the agent and u-root's commands for the initrd", errNoGo)
	}
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("asking Go for its version: %w", withStderr(err))
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) < 2 || lines[0] == "" {
		return nil, fmt.Errorf("asking Go for its version: unexpected answer %q", out)
	}
	s.goRoot, s.goVersion = lines[0], lines[1]
	return s, nil
}

// hashSource hashes the sources of the guest's programs.
func hashSource(dir string) (all, commands string, err error) {
	files := []string{"go.mod", "go.sum"}
	for _, d := range append([]string{shellDir}, agentDirs...) {
		var found []string
		err := filepath.WalkDir(filepath.Join(dir, d), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.Type().IsRegular() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				rel, err := filepath.Rel(dir, path)
				found = append(found, rel)
				return err
			}
			return nil
		})
		if err != nil {
			return "", "", fmt.Errorf("sources of the guest's programs: %w", err)
		}
		sort.Strings(found)
		files = append(files, found...)
		if d != shellDir {
			continue
		}
		if commands, err = hashFiles(dir, files); err != nil {
			return "", "", err
		}
	}
	all, err = hashFiles(dir, files)
	return all, commands, err
}

// hashFiles hashes names and contents of files in dir.
func hashFiles(dir string, files []string) (string, error) {
	h := sha256.New()
	for _, f := range files {
		sum, err := hashFile(filepath.Join(dir, f))
		if err != nil {
			return "", fmt.Errorf("sources of the guest's programs: %w", err)
		}
		fmt.Fprintln(h, f, sum)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// buildAgent compiles the agent. It does so without mkuimage, which compiles
// the standard library anew for each binary and stamps the state of the
// checkout into it.
func (s *source) buildAgent(ctx context.Context, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "./agent/cmd/snp-agent")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling the agent for the initrd: %w\n%s", err, bytes.TrimSpace(b))
	}
	return nil
}

// withStderr adds what a failed command said to its error.
func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}
