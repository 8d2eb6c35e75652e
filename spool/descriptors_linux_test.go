package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A process that has no descriptors left is told so; what was on disk is there when it has some again.
func TestWhatWasOnDiskIsThereAfterDescriptorsRanOut(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=poor", dirVar+"="+filepath.Join(t.TempDir(), "spool"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// rolesHere are those that not every system has.
var rolesHere = map[string]func(dir string){"poor": ownDescriptors}

// ownDescriptors runs out of them.
func ownDescriptors(dir string) {
	if err := runOut(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// limitTo lets the process open so many files more than it has; less than 0: as many as it likes.
func limitTo(more int) error {
	const most = 1 << 10
	limit := 0
	for ; limit < most; limit++ {
		if _, err := os.Readlink(fmt.Sprint("/proc/self/fd/", limit)); err == nil {
			continue
		}
		if more--; more == -1 {
			break
		}
	}
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(limit), Max: most})
}

func runOut(dir string) error {
	owed := make(map[uint64]bool) // by seq; false: it may be there
	failures := make(map[string]int)
	const lives = 8
	for life := range lives {
		if err := limitTo(-1); err != nil {
			return err
		}
		s, q, err := reopened(dir, owed)
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		err = appendWithFew(s, q, owed)
		if err != nil {
			failures[cause(err)]++
		}
		if life%4 != 0 {
			if err := limitTo(-1); err != nil {
				return err
			}
		}
		if err := s.Close(); err != nil {
			failures["close: "+cause(err)]++
		}
		if err := limitTo(-1); err != nil {
			return err
		}
		<-s.done // Close gives up on Badger after a while, which tries again and again
		for range 3 {
			if err := openWithFew(dir); err != nil {
				failures["open: "+cause(err)]++
			}
		}
	}
	if err := limitTo(-1); err != nil {
		return err
	}
	s, _, err := reopened(dir, owed)
	if err != nil {
		return err
	}
	fmt.Println(len(owed), "records owed,", failures)
	if len(failures) == 0 {
		return errors.New("it never ran out of descriptors")
	}
	return s.Close()
}

// cause is what went wrong, without the names of files.
func cause(err error) string {
	if errors.Is(err, syscall.EMFILE) || strings.Contains(err.Error(), syscall.EMFILE.Error()) {
		return syscall.EMFILE.Error()
	}
	return err.Error()
}

// reopened opens the store and holds what it owes against what it must.
func reopened(dir string, owed map[uint64]bool) (*Store, *Queue, error) {
	s, err := Open(dir, Options{})
	if err != nil {
		return nil, nil, err
	}
	q, state, err := s.OpenQueue("jobs")
	if err != nil || s.Stat().Damage != nil || state.Lost != nil {
		return nil, nil, fmt.Errorf("damage %v, lost %v: %w", s.Stat().Damage, state.Lost, errors.Join(err, errors.New("it is not sound")))
	}
	there := make(map[uint64]bool)
	for from := uint64(1); from < state.Next; {
		b, err := q.Read(from)
		if err != nil {
			return nil, nil, fmt.Errorf("reading from %d of %d: %w", from, state.Next, err)
		}
		for seq := max(b.Base, from); seq <= b.Last; seq++ {
			there[seq] = true
		}
		from = b.Last + 1
	}
	for seq, sure := range owed {
		if sure && !there[seq] {
			return nil, nil, fmt.Errorf("%d was on disk and is gone", seq)
		}
		owed[seq] = there[seq]
		if !there[seq] {
			delete(owed, seq)
		}
	}
	return s, q, nil
}

// appendWithFew appends until the store fails, or for a while, with more and with fewer descriptors.
func appendWithFew(s *Store, q *Queue, owed map[uint64]bool) error {
	body := strings.Repeat("d", 10<<10)
	for range 120 {
		if rand.IntN(8) == 0 {
			if err := limitTo(rand.IntN(4) - 1); err != nil {
				return err
			}
		}
		var seqs []uint64
		err := put(s, func(c *Change) {
			for range 1 + rand.IntN(100) {
				seq, _, _, err := c.Append(q, len(body)+10, framed(body))
				if err != nil {
					return
				}
				owed[seq] = false
				seqs = append(seqs, seq)
			}
		})
		if err != nil {
			return err
		}
		for _, seq := range seqs {
			owed[seq] = true
		}
	}
	return nil
}

// openWithFew opens and closes a store with few descriptors left.
func openWithFew(dir string) error {
	if err := limitTo(rand.IntN(30)); err != nil {
		return err
	}
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	return s.Close()
}
