package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Giving room back takes some doing. A deleted key is only a tombstone in a memtable; Badger
// counts the garbage of a value log file when a compaction meets the tombstone, and never
// collects the file it is writing to. So a sweep
//
//  1. writes keys under a throw-away prefix, of values that go to the value log: one at least, or
//     when a queue has emptied so many that Badger begins a new value log file
//  2. drops that prefix, the only public way to have the memtable written out and compacted;
//     this blocks commits for some milliseconds
//  3. flattens the tree, so that tombstones meet what they bury
//  4. collects value log files until there is none that is worth it
//
// It is due when profile.sweep bytes are garbage, when a queue empties and an eighth of that is,
// and when the store falls idle. The sweeper is one goroutine, from Open to Close, beside the committer.
//
// A process may end as soon as its queue has emptied, and a kill may come at any time. So Close
// sweeps once more when next to nothing is owed, for sweepAtClose at most; and what Open finds to
// take much more room than what is owed counts as garbage, see condemnLeftovers. Each step is one of
// Badger's that a kill cannot hurt, and the next Open begins the sweep anew.
const (
	wastePrefix = '~'

	// leastSweep is the garbage for which an idle store is swept.
	leastSweep = 512 << 10

	// sweepAtClose bounds the sweep of Close. A step that has begun is ended.
	sweepAtClose = 2 * time.Second

	// restDisk is what the files of a swept store that owes nothing may take.
	restDisk = 2 << 20

	wasteValue = valueThreshold // goes to the value log
	wasteBatch = 256
)

// sweeper is what the committer and the sweeper share. Guarded by Store.change, but asked.
type sweeper struct {
	garbage int64     // bytes deleted or overwritten in Badger since the last sweep
	pending int64     // bytes whose deletion Badger does not know of yet
	over    bool      // it is to take over from the write-ahead log
	values  int64     // those of them in the value log
	emptied bool      // a queue has emptied since
	asked   chan bool // holds one; true: release the active files as well
}

// discarded counts garbage. s.change must be held.
func (s *Store) discarded(bytes int64) {
	s.sweep.garbage += bytes
	if bytes >= valueThreshold {
		s.sweep.values += bytes
	}
}

// sweepIfDue asks for a sweep if it is time. s.change must be held.
func (s *Store) sweepIfDue(idle bool) {
	w := &s.sweep
	garbage := w.garbage + w.pending
	due := garbage >= s.profile.sweep || w.emptied && garbage >= s.profile.sweep/8 || idle && garbage >= leastSweep
	if len(s.dead) > 0 || !due {
		return
	}
	if w.pending > 0 {
		w.over = true
		s.kick()
		return // it is asked again when Badger knows of all
	}
	select {
	case w.asked <- w.emptied && w.values >= leastSweep:
		w.garbage, w.values, w.emptied = 0, 0, false
	default: // one is under way, and another asked for
	}
}

// runSweeps is the sweeper.
func (s *Store) runSweeps() {
	for {
		select {
		case <-s.stop:
			return
		case release := <-s.sweep.asked:
			short, err := s.sweepOnce(release, s.stopping)
			if err != nil && !s.stopping() {
				s.fail(err)
			}
			s.change.Lock()
			if release && short {
				// There was no room for waste. What is full of garbage has made some; the rest comes
				// when the store is idle.
				s.sweep.emptied = true
				s.sweep.garbage += leastSweep
				s.sweep.values += leastSweep
			}
			s.sweepIfDue(false)
			s.change.Unlock()
		}
	}
}

func (s *Store) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// sweepOnce sweeps, until over says that the time for it is up. short: there was no room to release
// the active files.
func (s *Store) sweepOnce(release bool, over func() bool) (short bool, err error) {
	if healthy := s.failure() == nil; !healthy {
		return false, nil
	}
	began := time.Now()
	s.room.tend()
	_, short = s.room.short(int64(s.profile.vlogEntries) * 2 * wasteValue)
	if err := s.reclaim(release && !short, over); err != nil {
		return short, fmt.Errorf("reclaim: %w", err)
	}
	s.room.tend()
	s.log.Debug("spool: swept", "dir", s.dir, "took", time.Since(began), "released", release)
	return short, nil
}

// sweepLast is the sweep of Close, when committer and sweeper have ended.
func (s *Store) sweepLast() error {
	owed, excess := s.outgrown()
	if owed > leastSweep || excess == 0 {
		return nil
	}
	limit := time.Now().Add(sweepAtClose)
	_, err := s.sweepOnce(true, func() bool { return time.Now().After(limit) })
	return err
}

// sweepAfterOpen makes garbage of what earlier lives have left, so that the sweeper sees to it.
func (s *Store) sweepAfterOpen() {
	owed, excess := s.outgrown()
	s.change.Lock()
	defer s.change.Unlock()
	s.sweep.garbage += excess
	s.sweep.values += excess
	s.sweep.emptied = excess > 0 && owed <= leastSweep
}

// outgrown says what is owed, in bytes, and by how much the files outgrow it: not at all unless
// they take twice as much.
func (s *Store) outgrown() (owed, excess int64) {
	s.change.Lock()
	owed = s.held
	for _, n := range s.notes {
		owed += n.size
	}
	s.change.Unlock()
	if disk := diskUsed(s.dir); disk > 2*owed+restDisk/2 {
		excess = disk - owed
	}
	return owed, excess
}

// reclaim is one sweep.
func (s *Store) reclaim(release bool, over func() bool) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if err := s.waste(release); err != nil {
		return err
	}
	if err := s.dropWaste(); err != nil {
		return fmt.Errorf("drop prefix: %w", err)
	}
	if err := s.db.Flatten(2); err != nil {
		return fmt.Errorf("flatten: %w", err)
	}
	for !over() {
		err := s.collectValues(release)
		if errors.Is(err, badger.ErrNoRewrite) || errors.Is(err, badger.ErrRejected) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("collect values: %w", err)
		}
	}
	return nil
}

// dropWaste deletes the throw-away keys. Badger would wait for ever for a transaction that comes as
// it begins to drop: that one is no longer written, and dropping waits for it.
func (s *Store) dropWaste() error {
	s.txn.Lock()
	defer s.txn.Unlock()
	return s.db.DropPrefix([]byte{wastePrefix})
}

// collectValues collects one value log file.
func (s *Store) collectValues(release bool) error {
	if raceDetector {
		s.txn.Lock()
		defer s.txn.Unlock()
	}
	return s.db.RunValueLogGC(s.worthwhile(release))
}

// worthwhile is the share of garbage from which on a value log file is collected. The rest of it
// is copied, which slows commits down and takes room; and what is settled in order soon leaves
// nothing to copy. So a file must be nearly all garbage, unless much garbage has come together, or
// a queue has emptied.
func (s *Store) worthwhile(release bool) float64 {
	const nearlyAll, half, some = 0.9, 0.5, 0.3
	if _, short := s.room.short(s.profile.vlogFile); short {
		return nearlyAll
	}
	if release {
		return some
	}
	s.change.Lock()
	held := s.held
	s.change.Unlock()
	if diskUsed(s.dir) > 2*held+4*s.profile.vlogFile {
		return half
	}
	return nearlyAll
}

// waste writes throw-away keys: one, or until Badger has begun a new value log file.
func (s *Store) waste(release bool) error {
	first, err := lastLog(s.dir, 0)
	if err != nil {
		return err
	}
	value := make([]byte, wasteValue)
	for n := 0; ; n += wasteBatch {
		err := s.db.Update(func(txn *badger.Txn) error {
			if !release {
				return txn.Set([]byte{wastePrefix}, value)
			}
			for i := range wasteBatch {
				key := binary.BigEndian.AppendUint32([]byte{wastePrefix}, uint32(n+i))
				if err := txn.Set(key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("waste: %w", err)
		}
		now, err := lastLog(s.dir, first)
		if err != nil {
			return err
		}
		if !release || now > first || n > int(s.profile.vlogEntries) {
			return nil
		}
	}
}

// lastLog returns the number of the newest value log file, which is not below from.
func lastLog(dir string, from int) (int, error) {
	if from == 0 {
		return newestNumbered(dir, ".vlog")
	}
	for {
		_, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%06d.vlog", from+1)))
		if errors.Is(err, os.ErrNotExist) {
			return from, nil
		}
		if err != nil {
			return 0, err
		}
		from++
	}
}

// newestNumbered returns the highest number of a file of Badger's with that ending; 0: there is none.
func newestNumbered(dir, ext string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	newest := 0
	for _, e := range entries {
		if n, ok := numbered(e.Name(), ext); ok {
			newest = max(newest, int(n))
		}
	}
	return newest, nil
}

// numbered returns the number of a file of Badger's with that ending.
func numbered(name, ext string) (n uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ext)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return n, err == nil
}
