package policy

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Beside is where the policy of the mesh credential at path lies, for all that use that credential.
func Beside(path string) string { return strings.TrimSuffix(path, ".pem") + ".policy" }

// Read reads a file and checks its signature. If there is none the error matches fs.ErrNotExist; else see Parse and
// Verify. It names the file and where it can the line.
func Read(path string, authority ed25519.PublicKey) (*Policy, error) {
	p, err := ReadDraft(path)
	if err != nil {
		return nil, err
	}
	if err := p.Verify(authority); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// ReadDraft is Read for a file that need not be signed.
func ReadDraft(path string) (_ *Policy, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return p, nil
}

// Write puts the text into the file at path, in place of what is there: whoever reads sees the old one or the new one,
// a power cut included. Missing directories are an error.
func (p *Policy) Write(path string) error {
	if err := p.place(path); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("policy: in place, but perhaps not after a power cut: %w", err)
	}
	return nil
}

// place writes the text beside path and gives it that name.
func (p *Policy) place(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(p.text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// syncDir forces a new name to disk.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // file systems that do not know the operation have no other way to offer
	}
	return errors.Join(err, d.Close())
}
