package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// A test that needs a second process starts this binary again with a role and a directory.
const (
	roleVar = "SPOOL_TEST_ROLE"
	dirVar  = "SPOOL_TEST_DIR"
	keyVar  = "SPOOL_TEST_KEY" // of the store; none: not encrypted
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
	case "open":
		openOnce(os.Getenv(dirVar))
		return
	case "walk":
		walkUntilKilled(os.Getenv(dirVar))
		return
	case "fill":
		fillDisk(os.Getenv(dirVar))
		return
	case "drain":
		drainAndClose(os.Getenv(dirVar))
		return
	case "needles":
		writeNeedlesAndWait(os.Getenv(dirVar))
		return
	case "move":
		moveUntilKilled(os.Getenv(dirVar))
		return
	default:
		if run := rolesHere[role]; run != nil {
			run(os.Getenv(dirVar))
			return
		}
		fmt.Fprintln(os.Stderr, "unknown role", role)
		os.Exit(2)
	}
	// A walk opens a store several times; the command line may still ask for more walks.
	if err := errors.Join(flag.Set("rapid.checks", "10"), flag.Set("rapid.nofailfile", "true")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m)
}

// fate is how a second process fared that opened a store and closed it.
type fate struct {
	Text    string // of the error
	Locked  bool
	Damaged bool
	Forked  bool // it was opened all the same, under a new store id
}

func openOnce(dir string) {
	var forked bool
	s, err := Open(dir, childOptions())
	if err == nil {
		damage := s.Stat().Damage
		forked = damage != nil
		err = errors.Join(damage, s.Close())
	}
	f := fate{fmt.Sprint(err), errors.Is(err, ErrLocked), errors.Is(err, ErrDamaged), forked}
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// childOptions are those of a store that a second process opens.
func childOptions() Options {
	opt := Options{Profile: ProfileEdge}
	if key := os.Getenv(keyVar); key != "" {
		opt.Key = []byte(key)
	}
	return opt
}

func openElsewhere(t *testing.T, dir string, environ ...string) (f fate) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	// The race detector would wait a second before it lets the process end.
	cmd.Env = append(os.Environ(), roleVar+"=open", dirVar+"="+dir, "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, environ...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err)
	must(t, json.Unmarshal(out, &f))
	return f
}

// mustOpen opens a store that the test closes, at the latest at its end.
func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	return mustOpenWith(t, dir, Options{Profile: ProfileEdge})
}

func mustOpenWith(t testing.TB, dir string, opt Options) *Store {
	t.Helper()
	s, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantOpenError opens dir, which must fail with the given kind and a text that has all the parts.
func wantOpenError(t *testing.T, dir string, want error, parts ...string) {
	t.Helper()
	s, err := Open(dir, Options{Profile: ProfileEdge})
	if err == nil {
		mustClose(t, s)
	}
	if !errors.Is(err, want) {
		t.Fatalf("open: got error %v, want %v", err, want)
	}
	if !containsAll(err.Error(), append(parts, dir)) {
		t.Errorf("open: error %q does not have all of %q", err, append(parts, dir))
	}
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !containsAny(text, []string{p}) {
			return false
		}
	}
	return true
}

// withoutLog has the groups of s go to Badger directly from now on.
func withoutLog(s *Store) { sizeLog(s, 0) }

// sizeLog bounds the files of the write-ahead log from now on.
func sizeLog(s *Store, most int64) {
	s.change.Lock() // the committer, which has nothing to do, reads it after the next change
	defer s.change.Unlock()
	for _, f := range s.ahead.files {
		f.most = most
	}
	s.profile.segment = most
}

// keepAll has what is appended from now on lie in segments of that size.
func keepAll(s *Store, size int64) {
	s.change.Lock() // as in sizeLog
	defer s.change.Unlock()
	s.profile.segment, s.profile.keep, s.profile.large = size, 1, 1
}

// killed returns a directory as a kill -9 of its owner would leave it now. Nothing is being
// committed while it copies, and what Badger wrote to its maps the copy reads.
func killed(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "killed")
	must(t, copyLive(dir, to))
	return to
}

// copyLive copies the directory of an open store. After an Open Badger turns old logs into tables
// in the background, and takes over from the write-ahead log at any time; so it copies again until
// nothing moved meanwhile.
func copyLive(from, to string) error {
	for {
		before, err := outline(from)
		if err != nil {
			return err
		}
		err = copyDir(from, to)
		after, errAfter := outline(from)
		if errAfter != nil {
			return errAfter
		}
		if before == after {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// outline is what changes when Badger makes or drops a file, or writes to its log.
func outline(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	logs := crc32.New(castagnoli)
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".mem" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		logs.Write(b)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return fmt.Sprintf("%v %x %x", entries, manifest, logs.Sum(nil)), nil
}

func copyDir(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if err := copySparse(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copySparse copies a file and leaves pages of zeros out: Badger's logs are mostly hole.
func copySparse(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	page, hole := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := io.ReadFull(src, page)
		if n > 0 && !bytes.Equal(page[:n], hole[:n]) {
			if _, err := dst.WriteAt(page[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return dst.Truncate(off)
		}
		if err != nil {
			return err
		}
	}
}
