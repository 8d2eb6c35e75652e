package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// attempt is what the file spool.opening says: how it went when the store was last opened. The
// file is there while a store is being opened, and stays when that comes to nothing: a damaged
// table may well panic in a goroutine of Badger's, and end the process.
type attempt struct {
	deaths   int // Opens in a row whose process ended in the midst of it
	failures int // Opens in a row that found damage
}

// maxDeaths is how many Opens in a row may end with their process before the directory is taken
// for the reason. A kill or a power cut in the midst of Open looks the same, so it is not few.
const maxDeaths = 25

func readAttempt(dir string) (*attempt, error) {
	text, err := os.ReadFile(filepath.Join(dir, attemptName))
	if errors.Is(err, os.ErrNotExist) {
		return new(attempt), nil
	}
	if err != nil {
		return nil, err
	}
	return parseAttempt(text), nil
}

// parseAttempt reads the file. One that was torn says nothing.
func parseAttempt(text []byte) *attempt {
	var a attempt
	n, err := fmt.Sscanf(string(text), "%d %d\n", &a.deaths, &a.failures)
	if n != 2 || err != nil || a.deaths < 0 || a.failures < 0 {
		return new(attempt)
	}
	return &a
}

func (a attempt) write(dir string) error {
	path := filepath.Join(dir, attemptName)
	if a == (attempt{}) {
		err := os.Remove(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%d %d\n", a.deaths, a.failures), 0o600)
}

// begun counts this Open as one whose process ended, until it is known better. After too many such
// it refuses.
func (a *attempt) begun(dir string) error {
	if a.deaths >= maxDeaths {
		a.failures = max(a.failures, 1)
		return fmt.Errorf("%w: the process ended %d times in a row while it opened it", ErrDamaged, a.deaths)
	}
	now := *a
	now.deaths++
	return now.write(dir)
}

func (a *attempt) succeeded(dir string) error {
	*a = attempt{}
	return a.write(dir)
}

// failed notes that this Open came to nothing. Only damage counts.
func (a *attempt) failed(dir string, reason error) error {
	if errors.Is(reason, ErrVersion) || isKeyError(reason) {
		return nil // nothing has been changed, and nothing is
	}
	if errors.Is(reason, ErrDamaged) {
		*a = attempt{failures: a.failures + 1}
	}
	return a.write(dir)
}

// errMovedAside says that tryOpen made room for a new store.
var errMovedAside = errors.New("moved aside")

// moveAside moves Badger's files to a directory beside this one, and has a new mark say what they
// should have held. The lock stays here all the time, and so does the old mark, to the last step:
// after a kill in between the next Open finds the store damaged as before, and goes on with it. The
// store must not be used any more.
func (s *Store) moveAside(p *place, reason error) error {
	aside := fmt.Sprintf("%s.damaged-%s", p.dir, s.now().UTC().Format("20060102T150405.000000000Z"))
	m, err := readMark(p.dir, s.key)
	if err != nil {
		// Without the mark nothing is known; peers remember the incarnation and say so.
		s.log.Error("spool: the mark of the damaged store cannot be read: what is lost is not known", "dir", p.dir, "err", err)
		m = mark{}
	}
	id, err := s.randomID()
	if err != nil {
		return err
	}
	if err := makeDir(aside); err != nil {
		return err
	}
	if err := moveFiles(p.dir, aside); err != nil {
		return err
	}
	fresh := markFile{dir: p.dir, key: s.key, room: s.profile.mark}
	if err := errors.Join(fresh.begin(mark{id: id, incarnation: m.incarnation, queues: m.queues}, 0), fresh.close()); err != nil {
		return err
	}
	s.log.Error("spool: the damaged store was moved aside, a new one begins", "dir", p.dir, "aside", aside, "err", reason)
	return errMovedAside
}

// moveFiles moves what is Badger's, and copies the mark.
func moveFiles(dir, aside string) error {
	names, err := movable(dir)
	if err != nil {
		return err
	}
	old, err := readStart(filepath.Join(dir, markName), maxMark)
	if err == nil {
		err = os.WriteFile(filepath.Join(aside, markName), old, 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(aside), syncDir(dir))
}

// movable lists Badger's files in the order in which they are moved: without its manifest a store
// is damaged, whatever else is there.
func movable(dir string) (names []string, err error) {
	entries, err := listOwn(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case lockName, markName, markDraftName, attemptName, ballastName:
		case manifestName:
			names = slices.Insert(names, 0, name)
		default:
			names = append(names, name)
		}
	}
	return names, nil
}
